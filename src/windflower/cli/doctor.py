"""`windflower doctor`: what is not ready for a run, and what to do about it."""

import json
import sys
from collections.abc import AsyncIterator

from windflower.core.finding import Finding
from windflower.errors import ConfigError
from windflower.pipeline.check_up import check_up
from windflower.settings import Settings


async def examine(
    settings: Settings, *, is_aws: bool, key: str, region: str | None, is_json: bool
) -> bool:
    """Show every finding as it comes; return whether all is well."""
    found: list[Finding] = []
    async for finding in _findings(settings, is_aws=is_aws, key=key, region=region):
        found.append(finding)
        if not is_json:
            _show(finding)
    is_well = all(finding.is_well for finding in found)
    if is_json:
        answer = {"success": is_well, "findings": [finding.to_json() for finding in found]}
        sys.stdout.write(json.dumps(answer) + "\n")
    return is_well


async def _findings(
    settings: Settings, *, is_aws: bool, key: str, region: str | None
) -> AsyncIterator[Finding]:
    for finding in check_up(settings.state, settings.broker):
        if not is_aws or finding.subject != "broker":
            yield finding
    if not is_aws:
        return
    try:
        from windflower.adapters.aws import check_up as aws  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise ConfigError(
            f"the place aws needs more packages: pip install 'windflower[aws]' ({error.name})",
            key="place",
        ) from error
    async for finding in aws.check_up(key, region):
        yield finding


def _show(finding: Finding) -> None:
    mark = "ok  " if finding.is_well else "FAIL"
    sys.stdout.write(f"{mark}  {finding.subject}: {finding.says}\n")
    if finding.fix:
        sys.stdout.write(f"      do: {finding.fix}\n")
    sys.stdout.flush()
