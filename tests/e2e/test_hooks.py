"""A hook is told when a run is over; one that fails is said, and holds nothing up."""

import json
import shlex
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from processes import MOSQUITTO, Program, Programs, events, until

pytestmark = pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed")


@pytest.fixture
def web() -> Iterator[tuple[str, list[Any]]]:
    """A web server, and what was POSTed to it."""
    told: list[Any] = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            told.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(500 if "fail" in self.path else 204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = HTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://us:secret@127.0.0.1:{server.server_port}", told
    server.shutdown()
    server.server_close()


def run_with(programs: Programs, apps: Path, **environment: str) -> tuple[Path, Program]:
    state = programs.folder / "state"
    served = programs.windflower(
        "serve", "--state", str(state), "--format", "json", name="serve", **environment
    )
    until(lambda: served.out, "the gateway")
    run = programs.windflower(
        *("run", str(apps / "averaging"), "--state", str(state), "--devices", "2"),
        *("-c", "num-server-rounds=1", "--format", "json"),
        name="run",
    )
    assert 0 == run.wait(), run.err
    return state, run


def test_a_program_and_a_web_address_are_told(
    programs: Programs, apps: Path, web: tuple[str, list[Any]], tmp_path: Path
) -> None:
    url, told = web
    file = tmp_path / "told"
    code = f"import sys; open({str(file)!r}, 'a').write(sys.stdin.read())"
    hook = shlex.join([sys.executable, "-c", code])
    _, run = run_with(programs, apps, WINDFLOWER_HOOKS=f"{hook}\n{url}/hook")
    until(lambda: told, "the web address")
    (line,) = file.read_text().splitlines()

    assert told[0] == json.loads(line)
    assert ("run-ended", run.last["run-id"], True) == tuple(
        told[0][key] for key in ("event", "run", "success")
    )


def test_hooks_that_fail_are_said_and_hold_nothing_up(
    programs: Programs, apps: Path, web: tuple[str, list[Any]]
) -> None:
    hook = shlex.join([sys.executable, "-c", "raise SystemExit('told to fail')"])
    state, _ = run_with(
        programs,
        apps,
        WINDFLOWER_HOOKS=f"{hook}\n{web[0]}/fail?key=secret",
    )
    until(lambda: len(events(state, "hook-failed")) == 2, "both failures")
    program, address = (e["reason"] for e in events(state, "hook-failed"))

    assert "exit code 1: told to fail" == program
    assert "500" in address
    assert "secret" not in (state / "events.jsonl").read_text()
