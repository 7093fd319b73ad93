"""Recomputes what a finished run came to, in a process like the one that it had."""

import asyncio
import json
import os
import sys
from asyncio.subprocess import DEVNULL
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Final

from windflower.adapters.local.journal import read_journal
from windflower.adapters.local.process import end, start
from windflower.core.ledger import RunRecord
from windflower.errors import ConfigError
from windflower.pipeline.job import RUN_ENVIRONMENT

_LOOK_S: Final = 0.5


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came out.

    Attributes:
        run: the run.
        recorded: the hash of the final arrays, as the journal keeps it.
        recomputed: the same, as it comes out now; None where nothing came out.
        error: the kind of error that stopped it.
        reason: what stopped it, for people.
        recalled: how many aggregates were taken as they were kept, because their updates had gone.
    """

    run: str
    recorded: str
    recomputed: str | None
    error: str | None = None
    reason: str = ""
    recalled: int = 0

    @property
    def is_equal(self) -> bool:
        """Whether the same bits came out."""
        return self.recomputed == self.recorded


async def verify(state: Path, run: str, told: Callable[[int, int], None]) -> Verdict:
    """Execute a run's ServerApp once more, on the answers that its journal holds.

    Args:
        state: the state folder; its gateway may be at work, and need not be.
        run: the run.
        told: which phase is asked, and of how many.

    Raises:
        ConfigError: there is no such run, it is open, or it has no final arrays.
        StoreUnavailable: there is no journal.
    """
    record = await recorded_run(state, run)
    recorded = record.result.get("model-hash")
    if record.state == "open":
        raise ConfigError(f"run {run} is open: there is nothing to verify yet", key="run")
    if record.is_forgotten:
        raise ConfigError(
            f"what run {run} rested on was cleaned up after its time (keep_days, keep_gb)",
            key="run",
        )
    if not record.is_resumable:
        raise ConfigError(
            f"run {run} held more than resume_gb, and updates that it rests on went", key="run"
        )
    if record.is_private:
        raise ConfigError(
            f"run {run} drew noise for privacy, and its seed was deleted at its end: nobody can"
            " compute it again",
            key="run",
        )
    if not isinstance(recorded, str):
        raise ConfigError(f"run {run} came to no arrays: {record.result.get('reason')}", key="run")
    with NamedTemporaryFile() as output:  # no pipe: what the app leaves behind may hold that open
        process = await start(
            *(sys.executable, "-m", "windflower.flower.verify_process", str(state), run),
            stdin=DEVNULL,
            stdout=output,
            stderr=DEVNULL,  # what the app and Flower say was said before
            env={**os.environ, **RUN_ENVIRONMENT},
        )
        watching = asyncio.create_task(_watch(Path(output.name), told))
        try:
            await process.wait()
        finally:
            watching.cancel()
            await end(process)
        output.seek(0)
        said = output.read().splitlines()
    answer = json.loads(said[-1]) if said else {}
    return Verdict(
        run,
        recorded,
        answer.get("model-hash"),
        answer.get("error-type"),
        answer.get("error-message", "" if answer else "its process ended and said nothing"),
        answer.get("recalled", 0),
    )


async def _watch(output: Path, told: Callable[[int, int], None]) -> None:
    """Tell how far the process is, until cancelled."""
    while True:
        await asyncio.sleep(_LOOK_S)
        how_far = _how_far(await asyncio.to_thread(output.read_bytes))
        if how_far is not None:
            told(*how_far)


def _how_far(output: bytes) -> tuple[int, int] | None:
    """Return which phase is asked, of how many, where the last whole line says so."""
    try:
        line = json.loads(output.split(b"\n")[-2])
    except (ValueError, IndexError):  # there is none yet, or the app wrote it
        return None
    match line:
        case {"phase": int(phase), "of": int(phases)}:
            return phase, phases
        case _:  # the answer
            return None


async def recorded_run(state: Path, run: str) -> RunRecord:
    """Return a run of a state folder; raises ConfigError, StoreUnavailable."""
    for record in await recorded_runs(state):
        if record.run == run:
            return record
    raise ConfigError(f"there is no run {run}: see `windflower runs`", key="run")


async def recorded_runs(state: Path) -> list[RunRecord]:
    """Return the runs of a state folder, the latest first; raises StoreUnavailable."""
    journal = read_journal(state / "journal.db")
    try:
        return sorted(await journal.runs(), key=lambda record: -record.number)
    finally:
        await journal.close()
