"""`windflower doctor` on this machine."""

import sys
from pathlib import Path

from processes import Programs


def test_it_says_what_is_there_and_ends_well(programs: Programs, tmp_path: Path) -> None:
    asked = programs.windflower(
        *("doctor", "--state", str(tmp_path / "state"), "--format", "json"),
        name="doctor",
        WINDFLOWER_BROKER="mqtt://user:secret@127.0.0.1",
    )

    assert 0 == asked.wait(), asked.out + asked.err
    subjects = [finding["subject"] for finding in asked.last["findings"]]
    assert ["versions", "broker", "state"] == subjects
    assert "secret" not in asked.out


def test_without_a_broker_it_says_what_to_do(programs: Programs, tmp_path: Path) -> None:
    code = (
        "import shutil, sys, importlib.util as u; shutil.which = lambda *a, **k: None;"
        "u.find_spec = lambda *a: None; from windflower.cli.main import main; main()"
    )
    asked = programs.start(
        *(sys.executable, "-c", code, "doctor", "--state", str(tmp_path)), name="doctor"
    )

    assert 1 == asked.wait()
    assert "FAIL  broker: there is none on this machine" in asked.out
    assert "apt install mosquitto" in asked.out
