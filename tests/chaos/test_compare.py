"""The comparison with a SuperLink: what it counts, what it shows, and one short run of it."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from compare.__main__ import main, parse
from compare.account import Account, read_account
from compare.course import Course, Incident, Outcome
from compare.place import Work
from compare.table import table
from processes import ENVIRONMENT, MOSQUITTO

from chaos.tunnel import missing

ROOT = Path(__file__).parents[2]
MODULES = [str(ROOT / "tests"), str(ROOT / "bench"), os.environ.get("PYTHONPATH", "")]
MISSING = "mosquitto is not installed" if MOSQUITTO is None else missing()


def write(path: Path, *lines: dict[str, Any]) -> None:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def trained(folder: Path, device: int, *rounds: int) -> None:
    lines = [{"training": number, "round": of} for number, of in enumerate(rounds)]
    write(folder / f"trainings-{device}.jsonl", *lines)


def test_before_anything_was_written_there_is_nothing(tmp_path: Path) -> None:
    assert Account() == read_account(tmp_path)


def test_a_run_that_is_begun_again_from_nothing_has_lost_what_it_had(tmp_path: Path) -> None:
    trained(tmp_path, 0, 1, 2, 1, 2)
    first = [{"round": 1, "used": [[0, 0]]}, {"round": 2, "used": [[0, 1]]}]
    again = [{"round": 1, "used": [[0, 2]]}]
    write(tmp_path / "rounds.jsonl", *first, *again)
    midway = read_account(tmp_path)
    write(tmp_path / "rounds.jsonl", *first, *again, {"round": 2, "used": [[0, 3]]}, {"end": True})

    assert Account(begun=2, finished=1, executed=4, lost=3) == midway
    assert Account(2, 2, 4, 2, is_over=True) == read_account(tmp_path)


def test_a_run_that_is_told_the_same_again_has_lost_nothing(tmp_path: Path) -> None:
    trained(tmp_path, 0, 1, 2)
    rounds = [{"round": 1, "used": [[0, 0]]}, {"round": 2, "used": [[0, 1]]}]
    write(tmp_path / "rounds.jsonl", *rounds, *rounds[:1])

    assert Account(begun=2, finished=2, executed=2, lost=0) == read_account(tmp_path)


def test_a_run_that_goes_on_from_a_checkpoint_has_lost_the_open_round(tmp_path: Path) -> None:
    trained(tmp_path, 0, 1, 2, 2)
    write(tmp_path / "rounds.jsonl", {"round": 1, "used": [[0, 0]]}, {"round": 2, "used": [[0, 2]]})

    assert Account(begun=2, finished=2, executed=3, lost=1) == read_account(tmp_path)


def test_a_line_that_is_still_being_written_is_not_read(tmp_path: Path) -> None:
    trained(tmp_path, 0, 1)
    with (tmp_path / "trainings-0.jsonl").open("a") as file:
        file.write('{"training": 1, "rou')

    assert 1 == read_account(tmp_path).executed


def test_the_table_says_who_did_not_end_and_who_never_came_back() -> None:
    lost = Outcome("Flower", Account(7, 6, 20, 2), seconds=900.4, runs=2)
    done = Outcome("windflower", Account(10, 10, 30, 0, is_over=True), seconds=55.2, runs=1)
    done.back_after_s["crash"] = 12.3
    course = Course((Incident.CRASH,))
    lines = table([lost, done], Work(), course).splitlines()
    cells = {line[:58].strip(): line[58:].split() for line in lines}

    assert 1 == len({len(line) for line in lines})
    assert ["6", "10"] == cells["rounds finished, of 10"]
    assert ["no", "end", "in", "900", "55"] == cells["seconds"]
    assert ["2", "0"] == cells["of them lost"]
    assert ["never", "12"] == cells["s to the next round when all that coordinates was killed"]


def test_a_word_that_is_no_incident_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(["--without", "cut,flood"])

    assert "not among cut, kill, crash: flood" in capsys.readouterr().err


def test_without_root_there_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(sys, "argv", ["compare"])

    assert 1 == main()
    assert "no comparison here: a tunnel needs root\n" == capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.skipif(MISSING is not None, reason=str(MISSING))
def test_windflower_loses_no_training_to_a_cut_a_kill_and_a_crash() -> None:
    command = [sys.executable, "-m", "compare", "--systems", "windflower", "--format", "json"]
    small = ["--rounds", "3", "--idle-s", "0", "--cut-s", "1", "--seconds", "0.5"]
    environment = {**ENVIRONMENT, "PYTHONPATH": os.pathsep.join(filter(None, MODULES))}
    done = subprocess.run(
        [*command, *small], env=environment, capture_output=True, text=True, check=False
    )
    assert 0 == done.returncode, done.stderr
    (outcome,) = json.loads(done.stdout)["outcomes"]

    assert {"begun": 3, "finished": 3, "executed": 9, "lost": 0, "is_over": True} == outcome[
        "account"
    ]
    assert {"cut", "kill", "crash"} == set(outcome["back_after_s"])
    assert 2 == outcome["runs"]
