"""Executes a finished run once more from its journal: `... flower.verify_process STATE RUN`.

Prints a line of JSON for each phase, how far it is, and at last one with the hash of the final
arrays as they come out now, or why none does. The app is the one that was kept with the run, not
what stands in its folder today.
"""

import asyncio
import contextlib
import json
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import IO, Any

from windflower.adapters.local.blob_folder import BlobReader
from windflower.adapters.local.journal import read_journal
from windflower.errors import ConfigError, WindflowerError
from windflower.flower.app_bundle import unpack_bundle
from windflower.flower.app_folder import AppFolder
from windflower.flower.execution import execute
from windflower.flower.private import log_plainly
from windflower.gateway.line import LoopLine
from windflower.gateway.recorded import recorded_desk


async def recompute(state: Path, run: str, scratch: Path) -> dict[str, Any]:
    """Return what the run comes to when its ServerApp is told again what it was told.

    Raises:
        ConfigError: there is no such run.
        RunDiverged: the app asks for something else than it did.
        BlobNotFound: what the run rested on was cleaned up.
    """
    journal = read_journal(state / "journal.db")
    blobs = BlobReader(state / "blobs", scratch=scratch)
    record = next((r for r in await journal.runs() if r.run == run), None)
    if record is None:
        raise ConfigError(f"there is no run {run}", key="run")
    folder = scratch / "app"
    unpack_bundle(await blobs.fetch(record.bundle.key), folder)
    desk = await recorded_desk(journal, blobs, record, told=partial(_tell, sys.stdout))
    line = LoopLine(desk, asyncio.get_running_loop())
    app = AppFolder.read(folder)
    with contextlib.redirect_stdout(sys.stderr):
        outcome = await asyncio.to_thread(execute, app, line, record, scratch=scratch)
    desk.end()
    return {**outcome.save(scratch / "result"), "recalled": outcome.recalled}


def _tell(output: IO[str], phase: int, phases: int) -> None:
    output.write(json.dumps({"phase": phase, "of": phases}) + "\n")
    output.flush()


def main() -> int:
    """Print what comes out."""
    state, run = sys.argv[1:]
    log_plainly()
    with tempfile.TemporaryDirectory(prefix="windflower-verify-") as scratch:
        try:
            answer = asyncio.run(recompute(Path(state), run, Path(scratch)))
        except WindflowerError as error:
            answer = {"error-type": type(error).__name__, "error-message": str(error)}
    sys.stdout.write(json.dumps(answer) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
