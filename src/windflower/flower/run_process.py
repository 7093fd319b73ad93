"""The process of one run: `python -m windflower.flower.run_process SOCKET RUN APP_FOLDER RESULTS`.

Started by the pipeline with its hash seed pinned; talks to the gateway over its socket. What the
app prints goes to standard output as it is.
"""

import sys
from pathlib import Path

from windflower.errors import GatewayUnavailable, RunFailed, WindflowerError
from windflower.flower.app_folder import AppFolder
from windflower.flower.execution import execute
from windflower.gateway.line import SocketLine


def _problem(error: WindflowerError) -> dict[str, str]:
    return {"error": str(error), "error-type": type(error).__name__}


def main() -> int:
    """Execute a run that was opened before, and end it."""
    socket, run, folder, results = sys.argv[1:]
    line = SocketLine(Path(socket))
    record = line.run(run)
    try:
        outcome = execute(AppFolder.read(Path(folder)), line, record, scratch=Path(results))
        result = outcome.save(Path(results))
    except GatewayUnavailable as error:
        # The run stays open in the journal: it can be taken up again.
        sys.stderr.write(f"windflower: {error}\n")
        return error.exit_code
    except WindflowerError as error:
        line.end_run(run, success=False, reason=str(error), result=_problem(error))
        return RunFailed.exit_code
    line.end_run(run, success=True, reason="the ServerApp ended", result=result)
    return 0


if __name__ == "__main__":
    sys.exit(main())
