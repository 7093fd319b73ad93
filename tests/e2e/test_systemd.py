"""The unit for systemd is understood by systemd, and its command serves a device."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from processes import MOSQUITTO, Program, Programs

import windflower
from windflower.errors import ConfigError, IdentityTaken

FOLDER = Path(__file__).parents[2] / "deploy" / "systemd"
UNIT = (FOLDER / "windflower-agent@.service").read_text()
ANALYZE = shutil.which("systemd-analyze")
PYTHON = "/opt/windflower/bin/python"
WRONG_FLAG = 2


def value(key: str) -> str:
    """Return the one value that a key of the unit has."""
    (found,) = re.findall(rf"^{key}=(.*)$", UNIT.replace("\\\n", " "), re.MULTILINE)
    return str(found)


@pytest.mark.skipif(ANALYZE is None, reason="systemd-analyze is not installed")
def test_systemd_understands_every_line(tmp_path: Path) -> None:
    def said(text: str) -> str:
        unit = tmp_path / "windflower-agent@watch-03.service"
        unit.write_text(text.replace(PYTHON, sys.executable))
        command = [str(ANALYZE), "verify", "--man=no", str(unit)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return done.stdout + done.stderr

    assert "" == said(UNIT)
    assert "Unknown key 'KillMod'" in said(UNIT.replace("KillMode", "KillMod"))


def test_only_what_a_person_has_to_mend_is_not_started_again() -> None:
    codes = {int(code) for code in value("RestartPreventExitStatus").split()}

    assert {WRONG_FLAG, ConfigError.exit_code, IdentityTaken.exit_code} == codes
    assert ("on-failure", "0") == (value("Restart"), value("StartLimitIntervalSec"))


def environment(*files: Path) -> dict[str, str]:
    """Read files as systemd reads an EnvironmentFile."""
    lines = [line for file in files for line in file.read_text().splitlines()]
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def started(programs: Programs, device: str, *files: Path) -> Program:
    """Execute the unit's command as systemd does, with its own words for its variables."""
    here = str(Path(windflower.__file__).parents[1])  # where a tree is not installed
    given = {"PATH": "/usr/bin:/bin", "PYTHONPATH": here, **environment(*files)}
    specifiers = {"%i": device, "%S": str(programs.folder)}
    given["HOME"] = replaced(value("Environment").removeprefix("HOME="), specifiers)
    state = programs.folder / replaced(value("StateDirectory"), specifiers)
    state.mkdir(parents=True, mode=0o700)
    words: list[str] = []
    for word in replaced(value("ExecStart"), specifiers).split():
        if word.startswith("$"):
            words += shlex.split(given.get(word[1:], ""))
        else:
            words.append(re.sub(r"\$\{(\w+)\}", lambda found: given.get(found[1], ""), word))
    assert PYTHON == words[0]
    variables = [f"{key}={one}" for key, one in given.items()]
    return programs.start("env", "-i", *variables, sys.executable, *words[1:], name=device)


def replaced(text: str, pairs: dict[str, str]) -> str:
    for old, new in pairs.items():
        text = text.replace(old, new)
    return text


@pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed")
def test_two_instances_take_part_in_a_run(programs: Programs, apps: Path, tmp_path: Path) -> None:
    _, broker = programs.mosquitto()
    shared = tmp_path / "agent.env"
    text = (FOLDER / "agent.env").read_text()
    text = text.replace("mqtts://broker.example.org:8883", broker)
    shared.write_text(text.replace("--interval 60", "--interval 0.5 --label 'room=the hall'"))
    agents = []
    for number in range(2):
        own = tmp_path / f"watch-{number}.env"
        own.write_text(f"WINDFLOWER_NODE_CONFIG=partition-id={number} num-partitions=2\n")
        agents.append(started(programs, f"watch-{number}", shared, own))
    run = programs.windflower(
        *("run", str(apps / "averaging"), "--broker", broker, "--state", str(tmp_path / "gateway")),
        *("--strict", "--limit", "2", "--seed", "5", "--format", "json"),
        name="run",
    )

    assert 0 == run.wait(), (run.err, agents[0].err)
    assert {"ok": 8, "failed": 0, "late": 0} == run.last["replies"]
    assert [0, 0] == [agent.end() for agent in agents]


@pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed")
def test_an_agent_that_is_set_up_wrongly_ends_with_a_code_that_is_not_tried_again(
    programs: Programs, tmp_path: Path
) -> None:
    wrong = tmp_path / "agent.env"
    wrong.write_text("WINDFLOWER_BROKER=http://broker.example.org\n")
    agent = started(programs, "watch-03", wrong)

    assert str(agent.wait()) in value("RestartPreventExitStatus").split()
