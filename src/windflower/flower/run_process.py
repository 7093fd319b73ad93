"""The process of one run: `... windflower.flower.run_process SOCKET RUN EPOCH APP RESULTS INLINE`.

Started by the pipeline with its hash seed pinned; talks to the gateway over its socket. What the
app prints goes to standard output as it is.
"""

import sys
from pathlib import Path

from windflower.errors import GatewayUnavailable, RunFailed, RunSuspended, WindflowerError
from windflower.flower.app_folder import AppFolder
from windflower.flower.execution import MODEL_FILE, execute
from windflower.flower.private import log_plainly
from windflower.gateway.line import SocketLine


def _problem(error: WindflowerError) -> dict[str, str]:
    return {"error": str(error), "error-type": type(error).__name__}


def _clear(results: Path) -> None:
    """Remove the packs that an earlier process had not handed over when it was killed."""
    for pack in results.glob("*.pack*"):
        if pack.name != MODEL_FILE:
            pack.unlink()


def main() -> int:
    """Execute a run that was opened or resumed before, and end it."""
    socket, run, epoch, folder, results, inline_bytes = sys.argv[1:]
    log_plainly()
    try:
        line = SocketLine(Path(socket))
        record = line.begin(run, int(epoch))
        _clear(Path(results))
    except WindflowerError as error:
        sys.stderr.write(f"windflower: {error}\n")
        return error.exit_code
    try:
        app, scratch = AppFolder.read(Path(folder)), Path(results)
        outcome = execute(app, line, record, scratch=scratch, inline_bytes=int(inline_bytes))
        result = outcome.save(Path(results))
        line.end_run(run, success=True, reason="the ServerApp ended", result=result)
    except GatewayUnavailable as error:
        sys.stderr.write(f"windflower: {error}\n")
        return error.exit_code
    except RunSuspended as error:
        problem = type(error).__name__
        line.suspend_run(run, record.epoch, reason=str(error), error=problem)
        return error.exit_code
    except WindflowerError as error:
        line.end_run(run, success=False, reason=str(error), result=_problem(error))
        return RunFailed.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
