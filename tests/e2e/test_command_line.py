"""The command line as a terminal, a pipe and a shell meet it."""

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest
from processes import ENVIRONMENT, MOSQUITTO, Programs, until

ESCAPE = "\x1b"
COLOUR = re.compile(r"\x1b\[(\d+;)*(3|9)\dm")
COMMANDS = [
    ("--help",),
    ("run", "--help"),
    ("aws", "--help"),
    ("agent", "--help"),
    ("--version",),
    ("no-such-command",),
    ("run", "--deadline", "soon"),
    ("runs",),
    ("report", "1-none"),
    ("devices", "ls"),
    ("models", "ls"),
    ("config", "show", "--origin"),
    ("doctor",),
]
"""A run is not among them: it has a test of its own."""


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_nothing_has_colour_in_a_pipe(
    programs: Programs, tmp_path: Path, command: tuple[str, ...]
) -> None:
    asked = programs.windflower(
        *command,
        name="asked",
        TERM="xterm-256color",
        COLORTERM="truecolor",
        WINDFLOWER_STATE=str(tmp_path / "state"),
    )
    asked.wait()

    assert asked.out + asked.err
    assert ESCAPE not in asked.out + asked.err


def run_command(apps: Path, state: Path) -> list[str]:
    """Return how a small run is started."""
    return [
        *(sys.executable, "-m", "windflower.cli.main", "run", str(apps / "averaging")),
        *("--state", str(state), "--devices", "2", "-c", "num-server-rounds=1"),
    ]


@pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed")
def test_what_flower_logs_of_a_run_has_no_colour_in_a_pipe(
    programs: Programs, apps: Path, tmp_path: Path
) -> None:
    run = programs.start(*run_command(apps, tmp_path / "state"), name="run", TERM="xterm")

    assert 0 == run.wait(), run.err
    assert "Starting FedAvg strategy" in run.err
    assert ESCAPE not in run.out + run.err
    kept = [path.read_bytes() for path in (tmp_path / "state").rglob("*.log")]
    assert not any(ESCAPE.encode() in text for text in kept)


@pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed")
@pytest.mark.parametrize(("no_color", "is_coloured"), [("", True), ("1", False)])
def test_a_terminal_has_colour_where_it_is_wanted(
    apps: Path, tmp_path: Path, *, no_color: str, is_coloured: bool
) -> None:
    ours, theirs = pty.openpty()
    environment = {**ENVIRONMENT, "TERM": "xterm", "NO_COLOR": no_color}
    process = subprocess.Popen(
        run_command(apps, tmp_path / "state"), stdout=theirs, stderr=theirs, env=environment
    )
    os.close(theirs)
    said = b""
    try:
        while part := os.read(ours, 65536):
            said += part
    except OSError:
        pass  # every process that had the terminal is gone
    finally:
        os.close(ours)

    assert 0 == process.wait(timeout=60), said
    assert b"Starting FedAvg strategy" in said
    assert is_coloured == bool(COLOUR.search(said.decode()))


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_is_told_how_to_complete(programs: Programs, shell: str) -> None:
    program = Path(sys.executable).parent / "windflower"
    shown = programs.start(str(program), "--show-completion", shell, name="shown")

    assert 0 == shown.wait(), shown.err
    assert "_WINDFLOWER_COMPLETE" in shown.out


def test_a_shell_that_completes_is_told_the_commands(programs: Programs) -> None:
    program = Path(sys.executable).parent / "windflower"
    told = programs.start(
        str(program),
        name="told",
        _WINDFLOWER_COMPLETE="complete_bash",
        COMP_WORDS="windflower de",
        COMP_CWORD="1",
    )
    told.wait()
    until(lambda: told.out, "an answer")

    assert ["demo", "devices"] == sorted({"demo", "devices"} & set(told.out.split()))
    assert "run" not in told.out.split()


def test_help_loads_nothing_that_only_a_command_needs() -> None:
    code = (
        "import sys, windflower.cli.main as line\n"
        "sys.argv = ['windflower', '--help']\n"
        "try:\n"
        "    line.main()\n"
        "finally:\n"
        "    sys.stderr.write(' '.join({name.split('.')[0] for name in sys.modules}))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=ENVIRONMENT, capture_output=True, text=True, check=True
    )
    slow = {"asyncio", "boto3", "flwr", "httpx", "numpy", "paho", "pydantic", "rich", "starlette"}

    assert "devices" in done.stdout
    assert set() == slow & set(done.stderr.split())
