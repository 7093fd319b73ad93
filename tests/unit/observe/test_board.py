"""The board tells what is under way, why it is open, and what each device did."""

from typing import Any

import pytest

from windflower.core.roster import Presence
from windflower.observe import board as board_module
from windflower.observe.board import NAMED, RUNS, TIMELINES, Board

RUN = {"run": "1-a"}


def presence(device: str, *, is_online: bool = True) -> Presence:
    return Presence(device, 1.0, "b", 1.0, 9.0, is_online, {})


def opened(number: int, at: float, devices: int, **more: Any) -> dict[str, Any]:  # noqa: ANN401
    line = {"event": "phase-opened", "at": at, **RUN, "phase": number, "type": "train"}
    return {**line, "devices": devices, "timeout_s": 60.0, **more}


def sent(device: str, at: float, *, command: str = "") -> dict[str, Any]:
    line = {"event": "command-sent", "at": at, **RUN, "device": device, "method": "fit"}
    return {**line, "command": command or f"c-{device}", "again": False}


def answered(device: str, at: float, kind: str = "reply-accepted") -> dict[str, Any]:
    line = {"event": kind, "at": at, **RUN, "device": device, "method": "fit"}
    more = {"worked_s": 1.5} if kind == "reply-accepted" else {"reason": "told to fail"}
    return {**line, "command": f"c-{device}", **more}


@pytest.fixture
def board() -> Board:
    made = Board()
    made.write({"event": "gateway-started", "at": 0.0, "broker": "mqtt://b", "blobs": "http://x"})
    made.write({"event": "run-started", "at": 1.0, **RUN, "number": 1, "epoch": 1, "app": "w"})
    return made


def test_a_phase_says_until_when_it_is_open_and_for_whom(board: Board) -> None:
    devices = [f"d{n}" for n in range(12)]
    board.write(opened(1, 2.0, len(devices), quorum=9))
    for device in devices:
        board.write(sent(device, 2.5))
    board.write(answered("d0", 4.0))
    board.write(answered("d1", 4.5, "reply-failed"))
    roster = [presence(device, is_online=device != "d11") for device in devices]
    shown = board.summary(roster, 5.0)
    phase = shown["run"]["phase"]

    assert {"online": 11, "offline": 1} == shown["devices"]
    assert (2.0, 62.0, 9) == (phase["opened_at"], phase["deadline_at"], phase["quorum"])
    assert (1, 1, 0, 10) == (phase["ok"], phase["failed"], phase["late"], phase["waiting"])
    assert ["d11", *devices[2:11]][:NAMED] == phase["waiting_for"]
    assert 1 == phase["offline"]


def test_a_timeline_tells_what_each_device_did(board: Board) -> None:
    board.write(opened(1, 2.0, 3))
    for device in ("d0", "d1", "d2"):
        board.write(sent(device, 2.5))
    board.write({**sent("d0", 3.0), "again": True})
    board.write(answered("d0", 4.0))
    board.write(answered("d1", 4.5, "reply-failed"))
    board.write(answered("d2", 6.0, "reply-missing"))
    closed = {"event": "phase-closed", "at": 6.0, **RUN, "phase": 1, "type": "train"}
    board.write({**closed, "ok": 1, "failed": 1, "late": 1, "seconds": 4.0})
    board.write(answered("d2", 9.0, "reply-late"))
    timeline = board.timeline("1-a", 1)
    run = board.run("1-a")

    assert timeline is not None
    assert run is not None
    assert [("d0", "ok", 2, 1.5), ("d1", "failed", 1, None), ("d2", "late", 1, None)] == [
        (e["device"], e["outcome"], e["sendings"], e["worked_s"]) for e in timeline
    ]
    assert "told to fail" == timeline[1]["reason"]
    assert (1, 1, 1) == (run["ok"], run["failed"], run["late"])
    assert board.summary([], 7.0)["run"]["phase"] is None
    assert board.timeline("1-a", 2) is None


def test_measurements_and_the_end_are_kept(board: Board) -> None:
    for number in (1, 2):
        metrics = {"accuracy": number / 10}
        line = {"event": "round-measured", "at": 3.0, **RUN, "round": number, "stage": "evaluate"}
        board.write({**line, "metrics": metrics})
    ended = {"event": "run-ended", "at": 9.0, **RUN, "success": False, "seconds": 8.0}
    board.write({**ended, "reason": "it broke"})
    shown = board.summary([], 10.0)["run"]

    assert (2, {"accuracy": 0.2}) == (shown["round"], shown["metrics"])
    assert ("failed", "it broke", 9.0) == (shown["state"], shown["reason"], shown["ended_at"])


def test_a_phase_that_is_asked_again_after_a_death_counts_once(board: Board) -> None:
    board.write(opened(1, 2.0, 1))
    board.write(sent("d0", 2.5))
    board.write({"event": "run-suspended", "at": 3.0, **RUN, "reason": "its process is gone"})
    assert "suspended" == board.summary([], 4.0)["run"]["state"]
    board.write({"event": "run-resumed", "at": 5.0, **RUN, "epoch": 2, "phases": 0})
    board.write(opened(1, 6.0, 1))
    board.write(sent("d0", 6.5))
    board.write(answered("d0", 7.0))
    run = board.run("1-a")

    assert run is not None
    assert 1 == len(run["phases"])
    assert 1 == run["ok"]


def test_nothing_grows_for_ever(board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(board_module, "PUSHED", 10)
    monkeypatch.setattr(board_module, "POINTS", 20)
    for number in range(100):
        board.write(sent("d0", 2.0, command=f"pushed-{number}"))
    for number in range(100):
        board.write(opened(number + 1, 2.0, 1))
    run = board.run("1-a")
    for number in range(2 * RUNS):
        board.write({"event": "run-started", "at": 1.0, "run": f"x-{number}", "app": "w"})

    assert run is not None
    assert 20 == len(run["phases"])
    assert TIMELINES == len(run["timelines"])
    assert RUNS == len(board.summary([], 1.0)["runs"])
    assert board.run("1-a") is None


def test_only_what_changes_something_counts(board: Board) -> None:
    before = board.seq
    board.write({"event": "model-taken", "at": 1.0, "device": "d0", "model": "0"})
    unchanged = board.seq
    board.write({"event": "device-heard", "at": 1.0, "device": "d0", "again": False})

    assert before == unchanged == board.seq - 1
