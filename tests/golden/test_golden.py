"""What an earlier release wrote is read by this one, and comes to the same bits."""

import json
import sqlite3
from base64 import b64decode
from pathlib import Path
from typing import Any

import pytest
from processes import Programs

from windflower.pipeline import verification

KEPT = sorted(Path(__file__).parent.glob("*/*.json"))


def restore(kept: dict[str, Any], state: Path) -> None:
    blobs = state / "blobs"
    for name, path in (("journal", state / "journal.db"), ("small", blobs / "small.db")):
        path.parent.mkdir(parents=True, exist_ok=True)
        with sqlite3.connect(path) as connection:
            connection.executescript("\n".join(kept[name]))
    for relative, data in kept["files"].items():
        (blobs / relative).parent.mkdir(parents=True, exist_ok=True)
        (blobs / relative).write_bytes(b64decode(data))


def verify(programs: Programs, state: Path, run: str) -> tuple[int, dict[str, Any]]:
    program = programs.windflower(
        "verify", run, "--state", str(state), "--format", "json", name="verify"
    )
    return program.wait(), program.last


def test_some_runs_are_kept() -> None:
    assert 3 <= len(KEPT)


@pytest.mark.parametrize("path", KEPT, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_kept_run_comes_to_the_same_bits(programs: Programs, tmp_path: Path, path: Path) -> None:
    kept = json.loads(path.read_text())
    restore(kept, tmp_path / "state")
    code, answer = verify(programs, tmp_path / "state", kept["run"])

    assert (0, kept["model-hash"]) == (code, answer["recomputed-hash"]), answer
    assert kept["model-hash"] == answer["model-hash"]


async def test_whoever_waits_is_told_how_far_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verification, "_LOOK_S", 0.001)
    kept = json.loads(next(p for p in KEPT if p.stem == "message-api").read_text())
    restore(kept, tmp_path)
    told: list[tuple[int, int]] = []
    verdict = await verification.verify(
        tmp_path, kept["run"], lambda *how_far: told.append(how_far)
    )

    assert verdict.is_equal
    assert sorted(told) == told
    assert {6} == {of for _, of in told}


def test_an_answer_that_was_changed_is_noticed(programs: Programs, tmp_path: Path) -> None:
    kept = json.loads(next(p for p in KEPT if p.stem == "message-api").read_text())
    state = tmp_path / "state"
    restore(kept, state)
    with sqlite3.connect(state / "journal.db") as connection:
        ids = connection.execute(
            "SELECT a.id, b.reply, b.id FROM commands a, commands b"
            " WHERE a.method = 'fit' AND b.method = 'fit' AND a.id < b.id AND a.batch = b.batch"
        ).fetchone()
        forged = ids[1].replace(ids[2].encode(), ids[0].encode())
        connection.execute("UPDATE commands SET reply = ? WHERE id = ?", (forged, ids[0]))
    code, answer = verify(programs, state, kept["run"])

    assert 65 == code
    assert answer["recomputed-hash"] != answer["model-hash"]


def test_runs_and_report_need_no_gateway(programs: Programs, tmp_path: Path) -> None:
    kept = json.loads(next(p for p in KEPT if p.stem == "message-api").read_text())
    state = tmp_path / "state"
    restore(kept, state)
    listed = programs.windflower("runs", "--state", str(state), "--format", "json", name="runs")
    told = programs.windflower(
        "report", kept["run"], "--state", str(state), "--format", "json", name="report"
    )

    assert 0 == listed.wait() == told.wait(), told.err
    assert [(kept["run"], "done")] == [(r["run-id"], r["state"]) for r in listed.last["runs"]]
    assert [4, 4, 4, 4, 4, 4] == [phase["ok"] for phase in told.last["phases"]]
    assert kept["model-hash"] == told.last["model-hash"]


def test_a_folder_in_which_nothing_was_run_is_said_so(programs: Programs, tmp_path: Path) -> None:
    for command in (["runs"], ["report", "1-a"], ["verify", "1-a"]):
        program = programs.windflower(*command, "--state", str(tmp_path / "no"), name="none")

        assert 69 == program.wait()
        assert "nothing was run there" in program.err
