"""A run that starts again is held against what it asked before."""

from dataclasses import replace

import pytest
from samples import command

from windflower.core.ledger import History, PhaseRecord
from windflower.errors import RunDiverged
from windflower.gateway.retracing import Retracing
from windflower.wire.content import Content
from windflower.wire.messages import Command
from windflower.wire.values import Values


def asked(device: str, *, lr: float = 0.1, kind: str = "train") -> Command:
    values = Values("configs", (("lr", lr), ("rounds", 3)))
    plain = command(device=device)
    id_ = f"{abs(hash((device, lr, kind))):032x}"[:32]
    return replace(plain, id=id_, type=kind, content=Content((("config", values),)))


def history(*commands: Command, closed: bool = True) -> History:
    phase = PhaseRecord("1-abc", "p", tuple(c.id for c in commands), 1)
    return History(commands, (phase,) if closed else (), ("d1", "d2"))


BEFORE = (asked("d1"), asked("d2"))


def test_the_same_again_is_accepted_and_then_something_new() -> None:
    retracing = Retracing(history(*BEFORE))
    retracing.ask(BEFORE)
    retracing.ask([asked("d1", lr=0.2)])
    retracing.end()


def test_the_first_difference_is_said() -> None:
    with pytest.raises(
        RunDiverged, match=r"d1 \(train, group '0'\).*'lr' in 'config' is 0.2, was 0.1"
    ):
        Retracing(history(*BEFORE)).ask([asked("d1", lr=0.2), asked("d2", lr=0.2)])


def test_other_arrays_are_said_too() -> None:
    before, now = command(1), replace(command(2), group="1")
    with pytest.raises(RunDiverged, match="in 'metrics' is 2, was 1"):
        Retracing(history(before)).ask([now])


def test_another_kind_of_question_is_said() -> None:
    with pytest.raises(RunDiverged, match=r"d1 \(evaluate.*before it was train"):
        Retracing(history(*BEFORE)).ask([asked("d1", kind="evaluate")])


def test_a_device_that_was_not_asked_before_is_said() -> None:
    with pytest.raises(RunDiverged, match=r"d9 .*was not before"):
        Retracing(history(*BEFORE)).ask([asked("d9")])


def test_what_is_pushed_may_come_in_another_order_but_not_differ() -> None:
    retracing = Retracing(history(*BEFORE, closed=False))
    retracing.push([asked("d9")])
    with pytest.raises(RunDiverged, match="'lr' in 'config'"):
        retracing.push([asked("d2", lr=0.5)])


def test_an_app_that_ends_too_early_is_stopped() -> None:
    retracing = Retracing(history(*BEFORE))
    with pytest.raises(RunDiverged, match=r"without asking d1 for train"):
        retracing.end()


def test_only_a_lenient_run_takes_a_phase_with_other_values_for_the_one_before() -> None:
    now = (asked("d2", lr=0.3), asked("d1", lr=0.3))
    lenient = Retracing(history(*BEFORE), is_lenient=True)
    phase = lenient.similar_phase(1, now)

    assert Retracing(history(*BEFORE)).similar_phase(1, now) is None
    assert phase is not None
    assert (BEFORE[1].id, BEFORE[0].id) == phase.ids
    lenient.end()


@pytest.mark.parametrize(
    "now",
    [
        (asked("d1", lr=0.3),),
        (asked("d1", lr=0.3), asked("d3", lr=0.3)),
        (asked("d1", lr=0.3), asked("d2", lr=0.3, kind="evaluate")),
        (asked("d1", lr=0.3), command(device="d2")),
    ],
)
def test_a_lenient_run_takes_nothing_else_for_it(now: tuple[Command, ...]) -> None:
    assert Retracing(history(*BEFORE), is_lenient=True).similar_phase(1, now) is None
