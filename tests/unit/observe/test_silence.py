"""Who waits at a terminal is told for what, also when nothing happens."""

import time
from typing import Any

from windflower.observe.silence import SILENT_AT_MOST_S, SILENT_S, Silence

LATEST = time.strftime("%H:%M:%S", time.localtime(1060.0))


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def opened() -> dict[str, Any]:
    line = {"event": "phase-opened", "at": 1000.0, "phase": 1, "type": "train"}
    return {**line, "devices": 6, "timeout_s": 60.0}


def about(device: int, event: str) -> dict[str, Any]:
    return {"event": event, "at": 1000.0, "device": f"d{device}", "reason": "", "method": "fit"}


def test_a_silence_is_broken_by_what_is_waited_for_ever_more_rarely() -> None:
    clock = Clock()
    silence = Silence(clock)
    silence.take(opened())
    for device in range(6):
        silence.take(about(device, "command-sent"))
    silence.take(about(0, "reply-accepted"))
    said = []
    for _ in range(1000):
        clock.now += 1.0
        if text := silence.due():
            said.append((clock.now - 1000.0, text))

    expected = "still train: 1 of 6 answered; waiting for d1, d2, d3, d4 and 1 more, "
    assert f"{expected}until {LATEST} at most" == said[0][1]
    assert [SILENT_S, 3 * SILENT_S, 7 * SILENT_S] == [at for at, _ in said[:3]]
    assert SILENT_AT_MOST_S == said[-1][0] - said[-2][0]


def test_a_word_ends_the_silence() -> None:
    clock = Clock()
    silence = Silence(clock)
    silence.take(opened())
    clock.now += SILENT_S - 1
    silence.take({"event": "device-lost", "device": "d7", "silent_s": 5.0})
    clock.now += 2
    early = silence.due()
    clock.now += SILENT_S - 2
    due = silence.due()

    assert "" == early
    assert f"still train: 0 of 6 answered; until {LATEST} at most" == due


def test_what_holds_a_run_up_is_said_rather_than_what_it_would_do() -> None:
    clock = Clock()
    silence = Silence(clock)
    silence.take({"event": "waiting-for-devices", "need": 3, "timeout-s": 60.0})
    silence.take({"event": "device-heard", "device": "d1", "again": False})
    clock.now += SILENT_S
    before = silence.due()
    silence.take({"event": "run-started", "run": "1-a", "app": "w"})
    silence.take(opened())
    silence.take({"event": "gateway-lost"})
    clock.now += SILENT_S
    meanwhile = silence.due()

    assert "still: waiting for 3 devices, at most 60 s" == before
    assert "still: the gateway is gone, and is started again" == meanwhile


def test_a_phase_goes_on_where_its_gateway_was_killed() -> None:
    """A gateway that is back sends first, then opens the phase, and tells nothing twice."""
    clock = Clock()
    silence = Silence(clock)
    silence.take(opened())
    for device in range(6):
        silence.take(about(device, "command-sent"))
    for device in (0, 1, 2):
        silence.take(about(device, "reply-accepted"))
    for device in (3, 4, 5):
        silence.take(about(device, "command-sent"))
    silence.take({**opened(), "ok": 2, "failed": 1})
    clock.now += SILENT_S
    again = silence.due()
    closed = {"ok": 6, "failed": 0, "late": 0, "seconds": 1.0, "type": "train"}
    silence.take({**about(1, "phase-closed"), **closed})
    clock.now += SILENT_S
    between = silence.due()

    expected = "still train: 3 of 6 answered; waiting for d3, d4, d5, "
    assert f"{expected}until {LATEST} at most" == again
    assert "still at it: the app itself is at work" == between


def test_who_was_asked_by_hand_is_waited_for_too() -> None:
    clock = Clock()
    silence = Silence(clock)
    for device in range(6):
        silence.take(about(device, "command-sent"))
    silence.take(about(5, "reply-accepted"))
    clock.now += SILENT_S

    assert "still waiting for d0, d1, d2, d3 and 1 more" == silence.due()


def test_a_run_that_nobody_executes_is_held_up_whatever_its_broker_does() -> None:
    clock = Clock()
    silence = Silence(clock)
    silence.take({"event": "run-suspended", "run": "1-a", "reason": "too few answers"})
    silence.take({"event": "broker-lost", "broker": "b", "reason": "refused"})
    clock.now += SILENT_S
    lost = silence.due()
    silence.take({"event": "broker-connected", "broker": "b", "again": True})
    clock.now += 3 * SILENT_S
    back = silence.due()

    assert "still: the broker is lost: refused" == lost
    assert "still: run 1-a is suspended: too few answers" == back


def test_no_more_answers_are_told_than_were_asked_for() -> None:
    """What was pushed before a phase may be answered in it."""
    clock = Clock()
    silence = Silence(clock)
    silence.take(opened())
    for device in range(9):
        silence.take(about(device, "reply-accepted"))
    clock.now += SILENT_S

    assert silence.due().startswith("still train: 6 of 6 answered")
