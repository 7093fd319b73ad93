"""What the scripted app needs to know about runs: a run's life from its opening to its end."""

from crash.script import BUNDLE
from windflower.core.ledger import RunRecord
from windflower.core.policy import RoundPolicy
from windflower.gateway.desk import Desk
from windflower.gateway.request import RunRequest
from windflower.wire.content import blob_ref
from windflower.wire.messages import NO_CONFIG


async def the_run(desk: Desk) -> RunRecord:
    """Return the one run of this gateway: opened now, or gone on with after an earlier life."""
    for record in desk._runs.values():
        return await desk.resume_run(record.run) if record.state == "open" else record
    return await desk.open_run(
        RunRequest(
            app="scripted",
            folder="",
            bundle=blob_ref(BUNDLE),
            config=NO_CONFIG,
            seed=1,
            policy=RoundPolicy(is_strict=True),  # a device that was killed is waited for
        )
    )


def model_of(record: RunRecord) -> str | None:
    """Return the last model of a run that is over."""
    return None if record.state == "open" else str(record.result["model"])


async def end(desk: Desk, record: RunRecord, model: str) -> None:
    """End the run with its last model."""
    await desk.end_run(record.run, success=True, reason="finished", result={"model": model})
