"""The board tells what is under way, why it is open, and what each device did."""

from dataclasses import replace
from typing import Any

import pytest
from samples import RUN_RECORD, PlainPrice

from windflower.core.ledger import SettledExchange
from windflower.core.roster import Presence
from windflower.observe.board import ERRORS, NAMED, RUNS, SUMS, UNFIT, Board
from windflower.observe.news import NEWS

RUN = {"run": "1-a"}


def presence(device: str, *, is_online: bool = True) -> Presence:
    return Presence(device, 1.0, "b", 1.0, 9.0, is_online, {})


def opened(number: int, at: float, devices: int, **more: Any) -> dict[str, Any]:  # noqa: ANN401
    line = {"event": "phase-opened", "at": at, **RUN, "phase": number, "type": "train"}
    known = {"round": number, "ok": 0, "failed": 0, "late": 0}
    return {**line, **known, "devices": devices, "timeout_s": 60.0, **more}


def closed(at: float, ok: int, failed: int, late: int, **more: Any) -> dict[str, Any]:  # noqa: ANN401
    line = {"event": "phase-closed", "at": at, **RUN, "phase": 1, "type": "train"}
    counts = {"ok": ok, "failed": failed, "late": late, "worked_s": 1.5 * ok, "failed_s": 0.0}
    return {**line, **counts, "seconds": 4.0, **more}


def sent(device: str, at: float, *, command: str = "") -> dict[str, Any]:
    line = {"event": "command-sent", "at": at, **RUN, "device": device, "method": "fit"}
    return {**line, "command": command or f"c-{device}", "again": False}


def answered(device: str, at: float, kind: str = "reply-accepted") -> dict[str, Any]:
    line = {"event": kind, "at": at, **RUN, "device": device, "method": "fit"}
    more = {"worked_s": 1.5} if kind == "reply-accepted" else {"reason": "told to fail"}
    return {**line, "command": f"c-{device}", **more}


def progressed(device: str, at: float, stage: str, **spent: float) -> dict[str, Any]:
    stages = ("waiting", "fetching", "working", "uploading")
    seconds = {f"{name}_s": spent.get(name, 0.0) for name in stages}
    line = {"event": "command-progressed", "at": at, **RUN, "device": device, "stage": stage}
    return {**line, "command": f"c-{device}", **seconds}


@pytest.fixture
def board() -> Board:
    made = Board()
    made.write({"event": "gateway-started", "at": 0.0, "broker": "mqtt://b", "blobs": "http://x"})
    made.write(
        {
            "event": "run-started",
            "at": 1.0,
            **RUN,
            "number": 1,
            "epoch": 1,
            "app": "w",
            "bundle": "b0",
        }
    )
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
    assert ["d11", *devices[2:11]][:NAMED] == [row["device"] for row in phase["waiting_for"]]
    assert {"device": "d11", "online": False, "heard_at": 1.0, "stage": None} == (
        phase["waiting_for"][0]
    )
    assert 1 == phase["offline"]


def test_a_timeline_tells_what_each_device_did(board: Board) -> None:
    board.write(opened(1, 2.0, 3))
    for device in ("d0", "d1", "d2"):
        board.write(sent(device, 2.5))
    board.write({**sent("d0", 3.0), "again": True})
    board.write(answered("d0", 4.0))
    board.write(answered("d1", 4.5, "reply-failed"))
    board.write(answered("d2", 6.0, "reply-missing"))
    board.write(closed(6.0, ok=1, failed=1, late=1))
    board.write(answered("d2", 9.0, "reply-late"))
    told = board.timeline("1-a", 1, 9.0)
    run = board.run("1-a")

    assert told is not None
    assert run is not None
    timeline = told["exchanges"]  # who took longest comes first
    assert [("d2", "late", 1, None), ("d1", "failed", 1, None), ("d0", "ok", 2, 1.5)] == [
        (e["device"], e["outcome"], e["sendings"], e["worked_s"]) for e in timeline
    ]
    assert "told to fail" == timeline[1]["reason"]
    assert ("late", 6.0, 9.0) == timeline[0]["parts"][-1]
    assert [("on its way", 2.5, 2.5), ("working", 2.5, 4.0)][1:] == timeline[2]["parts"]
    assert (1, 1, 1) == (run["ok"], run["failed"], run["late"])
    assert board.summary([], 7.0)["run"]["phase"] is None
    assert board.timeline("1-a", 2, 9.0) is None


def test_measurements_and_the_end_are_kept(board: Board) -> None:
    for number in (1, 2):
        metrics = {"accuracy": number / 10}
        line = {"event": "round-measured", "at": 3.0, **RUN, "round": number, "stage": "evaluate"}
        board.write({**line, "metrics": metrics})
    ended = {"event": "run-ended", "at": 9.0, **RUN, "success": False, "seconds": 8.0}
    board.write({**ended, "reason": "it broke"})
    shown = board.summary([], 10.0)["run"]

    assert (2, {"evaluate": {"accuracy": 0.2}}) == (shown["round"], shown["metrics"])
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


def test_a_phase_whose_gateway_was_killed_keeps_what_was_settled_before() -> None:
    """What is settled is not told again; what passed is counted from the new beginning on."""
    board = Board(PlainPrice())
    board.write(opened(1, 2.0, 3))
    for device in ("d0", "d1", "gone"):
        board.write(sent(device, 2.5))
    board.write(answered("d0", 4.0))
    board.write({"event": "run-resumed", "at": 9.0, **RUN, "epoch": 2, "phases": 0, "app": "w"})
    board.write(opened(1, 10.0, 3, ok=1))
    board.write({**sent("d1", 10.0), "again": True})
    waiting = board.summary([], 11.0)["run"]["phase"]
    board.write(answered("d1", 12.0))
    board.write(closed(12.0, ok=2, failed=0, late=0, traffic={"commands": 1}))
    run, told = board.run("1-a"), board.timeline("1-a", 1, 13.0)

    assert (1, 2, 70.0) == (waiting["ok"], waiting["waiting"], waiting["deadline_at"])
    assert run is not None
    assert told is not None
    (phase,) = run["phases"]
    assert ("w", 2.0, 10.0, 3.0) == (
        run["app"], phase["opened_at"], phase["counted_from"], phase["worked_s"]
    )  # fmt: skip
    assert 2.0 == phase["dollars"]  # of one command in two seconds
    assert [("d1", 2), ("d0", 1)] == [(e["device"], e["sendings"]) for e in told["exchanges"]]


def test_what_happens_to_many_devices_at_once_is_told_once(board: Board) -> None:
    for number in range(40):
        lost = {"event": "device-lost", "at": 8.0 + number / 10, "device": f"d{number}"}
        board.write({**lost, "silent_s": 6.0})
    board.write({"event": "device-heard", "at": 15.0, "device": "d0", "again": True})
    board.write({"event": "device-heard", "at": 15.5, "device": "d1", "again": True})
    board.write({"event": "device-lost", "at": 19.0, "device": "d2", "silent_s": 6.0})
    news = board.summary([], 20.0)["news"]

    assert ["d0 and 39 others are lost", "d0 and 1 other are back"] == [
        item["text"] for item in news[-3:-1]
    ]
    assert (8.0, "d2 is lost: silent for 6 s") == (news[-3]["at"], news[-1]["text"])


def test_a_run_that_is_under_way_is_not_forgotten_for_those_that_are_over(board: Board) -> None:
    for number in range(RUNS):
        other = {"run": f"x-{number}", "at": 2.0}
        board.write({"event": "run-started", **other, "app": "x", "bundle": "b0"})
        board.write({"event": "run-ended", **other, "success": True, "reason": "", "seconds": 1})

    runs = board.summary([], 3.0)["runs"]
    assert (RUNS, "w", False) == (len(runs), runs["1-a"]["app"], "x-0" in runs)


def test_nothing_grows_for_ever() -> None:
    board = Board(exchanges=10, points=20)
    for number in range(100):
        board.write(sent("d0", 2.0, command=f"pushed-{number}"))
    pushed = board.timeline("1-a", 0, 3.0)
    for number in range(100):
        board.write(opened(number + 1, 2.0, 3))
        for device in ("d0", "d1", "d2"):
            board.write(sent(device, 2.0, command=f"{number}-{device}"))
            failure = answered(device, 3.0, "reply-failed")
            board.write({**failure, "command": f"{number}-{device}"})
    run = board.run("1-a")
    for number in range(2 * ERRORS):
        failure = answered(f"x{number}", 3.0, "reply-failed")
        board.write({**failure, "reason": "y" * 100_000})
    for number in range(2 * RUNS):
        board.write(
            {"event": "run-started", "at": 1.0, "run": f"x-{number}", "app": "w", "bundle": "b0"}
        )

    assert run is not None
    assert 20 == len(run["phases"])
    assert [98, 99, 100] == run["timelines"]
    assert pushed is not None
    assert 10 == len(pushed["exchanges"])
    assert board.device("x0", 4.0)["error"] is None
    assert 4000 == len(board.device(f"x{2 * ERRORS - 1}", 4.0)["error"]["reason"])
    assert NEWS == len(board.summary([], 1.0)["news"])
    assert RUNS == len(board.summary([], 1.0)["runs"])
    assert board.run("1-a") is None


def test_a_phase_that_is_larger_than_all_room_is_kept_whole() -> None:
    board = Board(exchanges=10)
    board.write(opened(1, 2.0, 50))
    for number in range(50):
        board.write(sent(f"d{number}", 2.5))
    told = board.timeline("1-a", 1, 3.0)

    assert told is not None
    assert 50 == len(told["exchanges"])


def test_what_a_device_was_at_is_laid_out_backwards_from_when_it_said_so(board: Board) -> None:
    board.write(opened(1, 100.0, 2))
    board.write(sent("d0", 100.0))
    board.write(progressed("d0", 110.0, "uploading", waiting=1.0, fetching=2.0, working=5.0))
    board.write(answered("d0", 112.0))
    board.write(sent("d1", 100.0))
    board.write({"event": "device-lost", "at": 108.0, "device": "d1", "silent_s": 5.0})
    board.write({"event": "device-heard", "at": 111.0, "device": "d1", "again": True})
    board.write(answered("d1", 113.0))
    told = board.timeline("1-a", 1, 120.0)

    assert told is not None
    second, first = told["exchanges"]
    assert [
        ("on its way", 100.0, 102.0), ("queued", 102.0, 103.0), ("downloading", 103.0, 105.0),
        ("working", 105.0, 110.0), ("uploading", 110.0, 112.0),
    ] == first["parts"]  # fmt: skip
    assert ("offline", 103.0, 111.0) == second["parts"][-1]


def test_what_is_not_finite_is_shown_as_missing(board: Board) -> None:
    line = {"event": "round-measured", "at": 3.0, **RUN, "round": 1, "stage": "train"}
    board.write({**line, "metrics": {"loss": float("nan")}})

    assert {"train": {"loss": None}} == board.summary([], 1.0)["run"]["metrics"]


def test_a_run_that_is_under_way_is_shown_before_one_that_began_later(board: Board) -> None:
    board.write({"event": "run-started", "at": 2.0, "run": "2-b", "app": "w", "bundle": "b0"})
    ended = {"event": "run-ended", "at": 9.0, "run": "2-b", "success": True, "seconds": 8.0}
    board.write({**ended, "reason": "r"})

    assert "1-a" == board.summary([], 10.0)["run"]["run"]


def test_a_device_was_there_until_its_last_reply(board: Board) -> None:
    """A reply is heard a moment before it is noted."""
    board.write(opened(1, 100.0, 1))
    board.write(sent("d0", 100.0))
    board.write(answered("d0", 102.0))
    board.write({"event": "device-lost", "at": 108.0, "device": "d0", "silent_s": 6.5})

    assert [(102.0, 120.0)] == board.device("d0", 120.0)["absences"]


def test_a_slow_phase_says_whose_fault_it_was(board: Board) -> None:
    board.write(opened(1, 100.0, 3))
    for device in ("d0", "d1", "d2"):
        board.write(sent(device, 100.0))
    board.write(answered("d0", 102.0))
    board.write(answered("d1", 102.0))
    board.write({"event": "device-lost", "at": 108.0, "device": "d2", "silent_s": 6.0})
    board.write({"event": "device-heard", "at": 118.0, "device": "d2", "again": True})
    board.write(answered("d2", 120.0))
    told = board.timeline("1-a", 1, 130.0)

    assert told is not None
    assert "d2 took 20.0 s, half of all at most 2.0 s: 16.0 s of it offline" == told["why"]
    assert [(102.0, 118.0)] == board.device("d2", 130.0)["absences"]
    assert ["d2 is lost: silent for 6 s", "d2 is back"] == [
        item["text"] for item in board.summary([], 1.0)["news"][-2:]
    ]


def test_what_a_phase_costs_is_priced_and_work_in_vain_is_told_apart() -> None:
    board = Board(PlainPrice())
    board.write(opened(1, 2.0, 3))
    for device in ("d0", "d1", "d2"):
        board.write(sent(device, 2.5))
    board.write(answered("d0", 4.0))
    board.write({**answered("d1", 4.5, "reply-failed"), "worked_s": 0.5})
    board.write(answered("d2", 6.0, "reply-missing"))
    counted = {"worked_s": 2.0, "failed_s": 0.5, "traffic": {"commands": 3}}
    board.write(closed(6.0, ok=1, failed=1, late=1, **counted))
    board.write({**answered("d2", 9.0, "reply-late"), "worked_s": 2.0})
    run = board.run("1-a")

    assert run is not None
    (phase,) = run["phases"]
    assert (12.0, 4.0, 2.5) == (phase["dollars"], phase["worked_s"], phase["wasted_s"])


def test_what_happened_before_a_gateway_began_is_known_from_its_log_and_its_journal() -> None:
    before, board = Board(), Board()
    lines = [
        {"event": "run-started", "at": 1.0, **RUN, "app": "w", "bundle": "b0"},
        opened(1, 2.0, 1), sent("d0", 2.5), answered("d0", 4.0),
        {"event": "run-ended", "at": 5.0, **RUN, "success": True, "reason": "r", "seconds": 4.0},
    ]  # fmt: skip
    for line in lines:
        before.write(line)
    board.replay([{"event": "phase-opened", "at": 0.0}, *lines])
    older = replace(RUN_RECORD, run="0-z", number=0, state="failed", result={"rounds": 3})
    board.recall([replace(RUN_RECORD, run="1-a", number=1, state="done"), older])

    assert before.timeline("1-a", 1, 9.0) == board.timeline("1-a", 1, 9.0)
    rows = board.summary([], 9.0)["runs"]
    assert [("0-z", "failed", 3), ("1-a", "done", 0)] == [
        (name, row["state"], row["round"]) for name, row in rows.items()
    ]


def test_sums_are_right_where_most_of_the_log_is_older_than_what_is_read() -> None:
    """Of old events only the sums are read: what a phase came to, and what a round was worth."""
    whole, board = Board(PlainPrice()), Board(PlainPrice())
    lines = [
        {"event": "run-started", "at": 1.0, **RUN, "app": "w", "bundle": "b0"},
        opened(1, 2.0, 2), sent("d0", 2.5), answered("d0", 4.0), answered("d1", 4.0),
        closed(6.0, ok=2, failed=0, late=0, traffic={"commands": 3}),
        {"event": "round-measured", "at": 7.0, **RUN, "round": 1, "stage": "train", "metrics": {}},
        opened(2, 8.0, 3), sent("d0", 8.5), answered("d0", 9.0),
    ]  # fmt: skip
    settled = [
        SettledExchange(f"c-{n}", "1-a", "b", is_answered=True, is_good=True) for n in range(3)
    ]
    for line in lines:
        whole.write(line)
    board.replay(line for line in lines if line["event"] in SUMS)
    board.recall([replace(RUN_RECORD, run="1-a", number=1, state="open")], settled)
    board.write(opened(2, 10.0, 3, ok=1))
    whole.write(opened(2, 10.0, 3, ok=1))
    told, full = board.run("1-a"), whole.run("1-a")

    assert told is not None
    assert full is not None
    keys = ("ok", "failed", "late", "round", "measured")
    assert [full[key] for key in keys] == [told[key] for key in keys]
    assert [3, 0, 0, 1] == [told[key] for key in keys[:4]]
    assert full["phases"][0] == told["phases"][0]
    assert [(2, 1, 10.0, 8.0)] == [
        (p["round"], p["ok"], p["counted_from"], p["opened_at"]) for p in told["phases"][1:]
    ]


def test_a_run_that_ends_in_a_phase_ends_the_phase_too(board: Board) -> None:
    board.write(opened(1, 2.0, 3))
    for device in ("d0", "d1", "d2"):
        board.write(sent(device, 2.5))
    board.write(answered("d0", 4.0))
    ended = {"event": "run-ended", "at": 9.0, **RUN, "success": False, "seconds": 8.0}
    board.write({**ended, "reason": "a person ended it"})
    told, run = board.timeline("1-a", 1, 60.0), board.run("1-a")
    counts = {"ok": 1, "failed": 0, "late": 2}
    board.write(closed(9.1, **counts, traffic={"commands": 3}, reason="the run was ended"))
    later = board.timeline("1-a", 1, 90.0)

    assert told is not None
    assert run is not None
    (phase,) = run["phases"]
    assert (9.0, "the run was ended", 1, 2) == (
        phase["closed_at"], phase["why_closed"], phase["ok"], phase["late"]
    )  # fmt: skip
    assert {("d0", "ok", 4.0), ("d1", "missing", 9.0), ("d2", "missing", 9.0)} == {
        (e["device"], e["outcome"], e["ended_at"]) for e in told["exchanges"]
    }
    assert told == later
    assert not board.is_asked("d1")


def test_an_answer_to_what_was_pushed_counts_in_no_phase(board: Board) -> None:
    for device in ("d0", "d1"):
        board.write(sent(device, 2.0))
    board.write(opened(1, 3.0, 1))
    board.write(sent("d2", 3.0))
    for device in ("d0", "d1", "d2"):
        board.write(answered(device, 4.0))
    told = board.summary([], 5.0)["run"]

    assert (1, 0) == (told["phase"]["ok"], told["phase"]["waiting"])
    assert 3 == told["ok"]


def test_who_is_left_out_is_counted_once_however_often_a_run_begins(board: Board) -> None:
    unfit = {"event": "device-unfit", "at": 2.0, **RUN, "reason": "r", "is_left_out": True}
    for _ in range(3):
        board.write({"event": "run-resumed", "at": 1.5, **RUN, "epoch": 2, "phases": 0, "app": "w"})
        for number in range(2 * UNFIT):
            board.write({**unfit, "device": f"d{number}"})
    run = board.run("1-a")

    assert run is not None
    assert (2 * UNFIT, UNFIT) == (run["left_out"], len(run["unfit"]))


def test_nobody_is_at_work_for_ever(board: Board) -> None:
    """What was answered before a death, and not told, never settles. Nor do old publications."""
    board.write(opened(1, 2.0, 2))
    for device in ("d0", "d1"):
        board.write(sent(device, 2.0))
    board.write(opened(1, 5.0, 2, ok=1))
    board.write(answered("d1", 6.0))
    board.write(closed(6.0, ok=2, failed=0, late=0))
    for number, device in ((2, "d2"), (3, "d3")):
        name = f"{number}-p"
        board.write({"event": "model-published", "at": 7.0, "run": name, "model": "m", "of": "1-a"})
        board.write({**sent(device, 7.0), "run": name})

    assert [False, False, False, True] == [board.is_asked(f"d{n}") for n in range(4)]


def test_why_a_run_was_suspended_is_known_after_a_restart(board: Board) -> None:
    board.write({"event": "run-suspended", "at": 2.0, **RUN, "reason": "too few answers"})
    board.write({"event": "run-left-open", "at": 9.0, **RUN})

    assert "too few answers" == board.summary([], 10.0)["run"]["reason"]


def test_a_model_that_is_published_is_no_run(board: Board) -> None:
    publication = {"run": "2-p", "device": "d0", "command": "c-p", "method": "set_parameters"}
    published = {"event": "model-published", "at": 3.0, "run": "2-p", "model": "m", "of": "1-a"}
    sending = {"event": "command-sent", "at": 3.1, **publication, "again": False}
    taking = {"event": "reply-accepted", "at": 3.2, **publication, "worked_s": 0.0}
    for line in (published, sending, taking):
        board.write(line)
    later = Board()  # of a gateway whose log does not hold the publication any more
    later.replay([sending, taking])
    later.recall([replace(RUN_RECORD, run="2-p", number=2, publishes="1-a", state="open")])
    later.write({**sending, "at": 5.0, "command": "c-q"})

    assert ["1-a"] == list(board.summary([], 4.0)["runs"])
    assert "1-a" == board.summary([], 4.0)["run"]["run"]
    assert [] == list(later.summary([], 6.0)["runs"])
    asked = board.latest("d0")
    assert asked is not None
    assert "set_parameters" == asked["method"]


def test_a_run_that_nobody_executes_is_not_said_to_be_under_way(board: Board) -> None:
    board.write({"event": "run-left-open", "at": 2.0, **RUN})
    left = board.summary([], 3.0)["run"]
    board.write({"event": "run-resumed", "at": 4.0, **RUN, "epoch": 2, "phases": 0, "app": "w"})

    assert ("suspended", True) == (left["state"], "nobody executes it" in left["reason"])
    assert ("open", "") == tuple(board.summary([], 5.0)["run"][k] for k in ("state", "reason"))


def test_a_run_that_is_over_came_to_what_its_journal_says(board: Board) -> None:
    result = {"rounds": 3, "replies": {"ok": 90, "failed": 2, "late": 1}}
    board.recall([replace(RUN_RECORD, run="1-a", state="done", result=result)])
    run = board.run("1-a")

    assert run is not None
    assert (90, 2, 1) == (run["ok"], run["failed"], run["late"])


def test_what_a_device_was_asked_last_is_known_however_long_ago_that_was() -> None:
    board = Board(exchanges=2)
    board.write(opened(1, 2.0, 1))
    board.write(sent("d0", 2.5))
    board.write(answered("d0", 4.0, "reply-failed"))
    for number in range(2, 9):
        board.write(opened(number, 5.0, 1))
        board.write(sent("d1", 5.0, command=f"c-{number}"))
    asked = board.latest("d0")

    assert asked is not None
    assert ("fit", 2.5, 4.0, "failed") == (
        asked["method"], asked["sent_at"], asked["ended_at"], asked["outcome"]
    )  # fmt: skip
    assert board.latest("d2") is None


def test_only_what_changes_something_counts(board: Board) -> None:
    before = board.seq
    board.write({"event": "model-taken", "at": 1.0, "device": "d0", "model": "0"})
    unchanged = board.seq
    board.write({"event": "device-heard", "at": 1.0, "device": "d0", "again": False})

    assert before == unchanged == board.seq - 1
