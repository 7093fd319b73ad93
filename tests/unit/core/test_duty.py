"""A device keeps a command before it works, a result before it tells, and does nothing twice."""

from dataclasses import replace

import pytest
from samples import command, content, reply

from windflower.core.backoff import wait_s
from windflower.core.device_effects import (
    Beat,
    Effect,
    Fetch,
    FetchProblem,
    Forget,
    ForgetBelow,
    KeepCommand,
    KeepReply,
    KeepStart,
    Publish,
    StopWork,
    Upload,
    Work,
)
from windflower.core.duty import FETCHES, STARTS, Duty, Kept
from windflower.wire.blobs import BlobRef, Grant
from windflower.wire.content import Content
from windflower.wire.messages import Command, Control, Failure, Reply, TaskProgress

PACK = BlobRef("a" * 64, 100_000)
LARGE = Content((("arrays", None),), PACK)


def duty() -> Duty:
    return Duty("d1", interval_s=60.0)


def of_kind(effects: list[Effect], *kinds: type) -> list[Effect]:
    return [effect for effect in effects if isinstance(effect, kinds)]


def get_grant() -> Grant:
    return Grant("GET", PACK.key, "http://x/", 1 << 30, 60.0)


def put_grant(asked: Command) -> Grant:
    return Grant("PUT", asked.reply_key, "http://x/", 1 << 30, 60.0)


def test_a_command_is_kept_before_its_start_is_counted_and_that_before_the_work() -> None:
    asked = command()
    effects = of_kind(duty().ordered(asked, (), 0.0), KeepCommand, KeepStart, Work)

    assert [KeepCommand(asked), KeepStart(asked.id), Work(asked)] == effects


def test_a_result_is_kept_before_it_is_published() -> None:
    asked, device = command(), duty()
    device.ordered(asked, (), 0.0)
    effects = device.worked(asked.id, content(1), worked_s=0.25, now=1.0)

    answer = reply(asked, number=1)
    assert [KeepReply(answer, 1), Publish(answer)] == of_kind(effects, KeepReply, Publish)


def test_a_duplicate_is_answered_and_never_done_again() -> None:
    asked, device = command(), duty()
    device.ordered(asked, (), 0.0)
    during = device.ordered(asked, (), 0.5)
    device.worked(asked.id, content(1), worked_s=0.25, now=1.0)
    after = device.ordered(asked, (), 2.0)
    device.controlled(Control("d1", "ack", (asked.id,), epoch=1), (), 3.0)
    at_last = device.ordered(asked, (), 4.0)

    assert [] == of_kind(during, Work, Publish)
    assert [Publish(reply(asked, number=1))] == of_kind(after, Work, Publish)
    assert [] == of_kind(at_last, Work, Publish)


def test_commands_are_done_one_at_a_time_in_their_order() -> None:
    first, second, device = command(1), command(2), duty()
    begun = [*device.ordered(first, (), 0.0), *device.ordered(second, (), 0.0)]
    then = device.worked(first.id, content(1), worked_s=0.1, now=1.0)

    assert [Work(first)] == of_kind(begun, Work)
    assert [Work(second)] == of_kind(then, Work)


def test_an_ack_forgets_only_what_was_answered() -> None:
    asked, device = command(), duty()
    device.ordered(asked, (), 0.0)
    early = device.controlled(Control("d1", "ack", (asked.id,), epoch=1), (), 0.5)
    device.worked(asked.id, content(1), worked_s=0.1, now=1.0)
    late = device.controlled(Control("d1", "ack", (asked.id,), epoch=1), (), 2.0)

    assert [] == early
    assert [Forget((asked.id,))] == late


def test_a_cancel_stops_the_work_and_lets_the_next_begin() -> None:
    first, second, device = command(1), command(2), duty()
    device.ordered(first, (), 0.0)
    device.ordered(second, (), 0.0)
    effects = device.controlled(Control("d1", "cancel", (first.id,), epoch=1), (), 1.0)

    assert [StopWork(first.id), Work(second)] == of_kind(effects, StopWork, Work)
    assert [] == of_kind(device.worked(first.id, content(1), worked_s=1.0, now=2.0), Publish)


def test_an_older_gateway_is_not_obeyed() -> None:
    newer, device = replace(command(1), epoch=2), duty()
    device.ordered(newer, (), 0.0)

    assert [] == of_kind(device.ordered(replace(command(2), epoch=1), (), 1.0), KeepCommand, Work)


def test_a_dead_grant_is_said_in_a_heartbeat_and_a_new_one_ends_the_wait() -> None:
    asked, device = replace(command(), content=LARGE), duty()
    device.ordered(asked, (), 0.0)
    starved = of_kind(device.fetch_failed(asked.id, "refused", 1.0), Beat, Fetch)
    grant = Grant("GET", PACK.key, "http://x/", PACK.size_bytes, 60.0)
    renewed = device.controlled(Control("d1", "grant", (asked.id,), epoch=1), (grant,), 2.0)

    assert [(asked.id,)] == [beat.need for beat in starved if isinstance(beat, Beat)]
    assert [Fetch(asked, (grant,))] == of_kind(renewed, Fetch)


def test_an_upload_that_cannot_succeed_becomes_a_failure() -> None:
    asked, device = command(), duty()
    device.ordered(asked, (put_grant(asked),), 0.0)
    uploading = of_kind(device.worked(asked.id, LARGE, worked_s=0.1, now=1.0), Upload)
    effects = device.upload_hopeless(asked.id, "larger than the store takes", 2.0)
    published = [e.reply for e in effects if isinstance(e, Publish)]

    assert 1 == len(uploading)
    assert [Failure(8, "larger than the store takes")] == [r.failure for r in published]
    assert isinstance(effects[0], KeepReply)


def test_work_that_was_cut_begins_again_until_it_is_to_blame() -> None:
    asked = command()
    again = duty().restore([Kept(asked, starts=STARTS - 1)], floor=0, now=0.0)
    given_up = duty().restore([Kept(asked, starts=STARTS)], floor=0, now=0.0)
    failures = [e.reply.failure for e in given_up if isinstance(e, Publish)]

    assert [] == of_kind(again, Publish)
    assert [Failure(8, f"d1 stopped {STARTS} times while it worked on this")] == failures


def test_what_was_answered_is_answered_again_after_a_restart() -> None:
    asked, device = command(), duty()
    answer: Reply = reply(asked)
    device.restore([Kept(asked, answer)], floor=0, now=0.0)

    assert [Publish(answer)] == of_kind(device.connected(1.0), Publish, Work)


def test_a_control_raises_the_floor_as_a_command_does() -> None:
    asked, device = command(), duty()
    device.ordered(asked, (), 0.0)
    effects = device.controlled(Control("d1", "ack", epoch=1, floor=9), (), 1.0)

    assert [StopWork(asked.id), ForgetBelow(9)] == effects
    assert [9] == [beat.floor for beat in device.tick(60.0) if isinstance(beat, Beat)]


def test_a_paused_gateway_neither_acknowledges_nor_cancels_what_its_successor_asked() -> None:
    first, second, device = replace(command(1), epoch=2), replace(command(2), epoch=2), duty()
    device.ordered(first, (), 0.0)
    device.worked(first.id, content(1), worked_s=0.25, now=1.0)
    device.ordered(second, (), 2.0)

    assert [] == device.controlled(Control("d1", "ack", (first.id,), epoch=1), (), 3.0)
    assert [] == device.controlled(Control("d1", "cancel", (second.id,), epoch=1), (), 3.0)


def test_an_upload_that_reaches_nobody_asks_for_another_address_and_goes_on_trying() -> None:
    asked, device = command(), duty()
    device.ordered(asked, (put_grant(asked),), 0.0)
    device.worked(asked.id, LARGE, worked_s=1.0, now=1.0)
    device.upload_failed(asked.id, "unreachable", 1.0)
    device.upload_failed(asked.id, "unreachable", 2.0)
    device.upload_failed(asked.id, "unreachable", 3.0)
    effects = device.tick(120.0)

    assert [(asked.id,)] == [beat.need for beat in effects if isinstance(beat, Beat)]
    assert 1 == len(of_kind(effects, Upload))


def fail_to_fetch(
    device: Duty, asked: Command, problem: FetchProblem, times: int, *, is_heard: bool
) -> list[Effect]:
    """Let a download fail again and again, each time after the wait that the duty wants."""
    effects: list[Effect] = []
    for number in range(times):
        at = 100.0 * (number + 1)
        if is_heard:
            effects += device.controlled(Control("d1", "rollcall", epoch=1), (), at - 1.0)
        effects += device.fetch_failed(asked.id, problem, at)
        effects += device.tick(at + 31.0)
    return effects


def downloading() -> tuple[Command, Duty]:
    asked, device = replace(command(), content=LARGE, ttl_s=86_400.0), duty()
    device.connected(0.0)
    device.ordered(asked, (get_grant(),), 0.0)
    return asked, device


@pytest.mark.parametrize(("times", "answers"), [(FETCHES - 1, 0), (FETCHES, 1)])
def test_a_store_that_is_never_reached_though_the_gateway_is_fails_the_command(
    times: int, answers: int
) -> None:
    asked, device = downloading()

    effects = fail_to_fetch(device, asked, "unreachable", times, is_heard=True)
    assert answers == len(of_kind(effects, Publish))


def test_a_store_that_sends_damaged_bytes_fails_the_command() -> None:
    asked, device = downloading()

    effects = fail_to_fetch(device, asked, "damaged", FETCHES, is_heard=False)
    assert 1 == len(of_kind(effects, Publish))


def test_who_hears_nobody_blames_no_store_and_tries_at_once_when_the_link_is_back() -> None:
    asked, device = downloading()
    alone = fail_to_fetch(device, asked, "unreachable", 3 * FETCHES, is_heard=False)
    device.fetch_failed(asked.id, "unreachable", 9_000.0)
    back = device.connected(9_000.1)

    assert [] == of_kind(alone, KeepReply, Publish)
    assert [Fetch(asked, (get_grant(),))] == of_kind(back, Fetch)


def test_a_download_that_gets_on_is_never_given_up() -> None:
    asked, device = downloading()

    effects = fail_to_fetch(device, asked, "interrupted", 3 * FETCHES, is_heard=True)
    assert [] == of_kind(effects, Publish)
    assert 3 * FETCHES == len(of_kind(effects, Fetch))


def test_an_upload_goes_on_as_soon_as_the_link_is_back() -> None:
    asked, device = command(), duty()
    device.connected(0.0)
    device.ordered(asked, (put_grant(asked),), 0.0)
    device.worked(asked.id, LARGE, worked_s=1.0, now=1.0)
    for number in range(6):
        device.upload_failed(asked.id, "unreachable", 3.0 + number)

    assert 1 == len(of_kind(device.connected(9.0), Upload))


def test_waiting_has_no_end_after_which_it_breaks() -> None:
    assert 30.0 == wait_s(1025) == wait_s(10**6)


def test_a_command_for_which_there_is_no_room_is_answered_before_anything_is_fetched() -> None:
    asked, device = replace(command(), content=LARGE), duty()
    device.ordered(asked, (Grant("GET", PACK.key, "http://x/", 1, 60.0),), 0.0)
    effects = device.turned_away(asked.id, Failure(3, "d1 has no room"), 1.0)

    kept, published = of_kind(effects, KeepReply, Publish)
    assert isinstance(kept, KeepReply)
    assert Failure(3, "d1 has no room") == kept.reply.failure
    assert isinstance(published, Publish)
    assert [] == device.fetched(asked.id, 2.0)


def test_a_command_that_comes_again_may_leave_more_time_and_never_less() -> None:
    first, waiting, device = command(1), replace(command(2), ttl_s=10.0), duty()
    device.ordered(first, (), 0.0)
    device.ordered(waiting, (), 0.0)
    device.ordered(replace(waiting, ttl_s=30.0), (), 5.0)
    device.ordered(replace(waiting, ttl_s=1.0), (), 6.0)
    begun = device.worked(first.id, content(1), worked_s=1.0, now=34.0)

    assert [waiting.id] == [effect.command.id for effect in begun if isinstance(effect, Work)]


def test_a_command_that_is_over_tells_the_epoch_that_older_gateways_are_refused_by() -> None:
    first, second, device = command(number=1), command(number=2), duty()
    device.ordered(first, (), 0.0)
    device.worked(first.id, content(1), worked_s=0.1, now=1.0)
    device.controlled(Control("d1", "ack", (first.id,), epoch=1), (), 2.0)
    device.ordered(replace(first, epoch=7), (), 3.0)

    assert [] == of_kind(device.ordered(replace(second, epoch=2), (), 4.0), KeepCommand)


def test_a_heartbeat_tells_how_long_each_stage_took() -> None:
    asked, device = replace(command(), content=LARGE), duty()
    device.ordered(asked, (put_grant(asked), get_grant()), 0.0)
    device.fetched(asked.id, 3.0)
    device.worked(asked.id, LARGE, worked_s=2.0, now=5.0)
    (beat,) = of_kind(device.connected(9.0), Beat)

    assert isinstance(beat, Beat)
    assert (TaskProgress(asked.id, "uploading", 0.0, 3.0, 2.0, 4.0),) == beat.progress
