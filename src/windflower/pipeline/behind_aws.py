"""A job whose devices are reached through AWS, as it is played on this machine."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

from windflower.adapters.aws.template import Template
from windflower.adapters.local.files import make_private
from windflower.errors import ConfigError
from windflower.offline.cloud import played_cloud
from windflower.pipeline.job import JobRequest
from windflower.pipeline.simulated import node_config


@asynccontextmanager
async def behind_aws(
    request: JobRequest, template: Template | None = None
) -> AsyncIterator[tuple[JobRequest, asyncio.Future[None]]]:
    """Yield the same job behind a played AWS, and a future that fails when one of its rules does.

    Args:
        request: the job, with simulated devices.
        template: what AWS is set up from; the project's by default.

    Raises:
        ConfigError: something is not installed, or a rule of the template does not do its work.
        TransportError: something did not start.
    """
    state = request.state / "aws-offline"
    shutil.rmtree(state, ignore_errors=True)  # the cloud begins empty, and so must all else
    make_private(state)
    failing: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def report(rule: str, problem: str) -> None:
        if not failing.done():
            failing.set_exception(ConfigError(f"the rule {rule} failed: {problem}", key="template"))

    count = request.devices or 0
    names = [node_config(n, count, None, name=request.name)[0] for n in range(count)]
    cloud = played_cloud(state / "cloud", names, report=report, template=template)
    async with cloud as played:
        try:
            yield (
                replace(request, state=state, environment=played.environment, access=played.access),
                failing,
            )
        finally:
            failing.cancel()
