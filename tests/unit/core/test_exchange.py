"""What the gateway's half says, where the simulator would only see its consequences."""

from itertools import pairwise

from samples import command, reply

from windflower.core.events import DeviceLost, ReplyLate
from windflower.core.exchange import Exchanges
from windflower.core.gateway_effects import Effect, RecordMissing, Report, Send, Tell
from windflower.core.policy import Terms
from windflower.core.roster import Roster
from windflower.wire.messages import Heartbeat


def told(effects: list[Effect]) -> list[Tell]:
    return [effect for effect in effects if isinstance(effect, Tell)]


def lost(effects: list[Effect]) -> list[str]:
    reported = [effect.event for effect in effects if isinstance(effect, Report)]
    return [event.device for event in reported if isinstance(event, DeviceLost)]


def heartbeat(*, floor: int = 0) -> Heartbeat:
    return Heartbeat("d1", 0.0, "boot", "interval", 60.0, floor=floor)


def test_a_device_that_keeps_runs_that_are_over_is_told_the_floor_once() -> None:
    exchanges = Exchanges(Roster())
    exchanges.begin(epoch=5, last_number=3)

    assert [Tell("d1", "ack", epoch=5, floor=4)] == told(exchanges.heard(heartbeat(), 1.0))
    assert [] == told(exchanges.heard(heartbeat(floor=4), 2.0))


def test_the_floor_is_the_first_run_that_is_open() -> None:
    exchanges = Exchanges(Roster())
    exchanges.begin(epoch=5, last_number=3)
    exchanges.open_run("2-a", number=2, epoch=5)
    exchanges.open_run("3-b", number=3, epoch=6)

    assert (2, 6) == (exchanges.floor, exchanges.epoch)


def test_a_gateway_that_died_after_the_quorum_gives_up_the_rest_when_it_starts() -> None:
    exchanges = Exchanges(Roster())
    exchanges.open_run("1-abc", number=1, epoch=2)
    terms = Terms(1e9, waits_for_offline=True, quorum=1)
    answered, left = command(1), command(2, device="d2")
    exchanges.restore_open(left, batch="b", terms=terms, asked_at=0.0)
    exchanges.restore_settled(answered.id, run="1-abc", batch="b", is_answered=True, is_good=True)

    assert 0.0 == exchanges.next_wake()
    (record,) = [e for e in exchanges.tick(1.0) if isinstance(e, RecordMissing)]
    assert left == record.command
    assert "enough others" in record.failure.reason


def test_an_upload_that_is_damaged_again_and_again_is_asked_for_ever_more_rarely() -> None:
    """Its device answers within a second each time, and beats every two."""
    exchanges = Exchanges(Roster())
    exchanges.open_run("1-abc", number=1, epoch=2)
    asked = command(1)
    terms = Terms(1e9, waits_for_offline=True)
    exchanges.ask([asked], batch="b", terms=terms, now=0.0)
    answered, sent_at = 0.0, [0.0]
    for now in map(float, range(1, 200)):
        effects: list[Effect] = []
        if answered < sent_at[-1] + 1 <= now:
            effects = exchanges.inspected(reply(asked), is_sound=False, now=now)
            answered = now
        elif now % 2:
            kept = Heartbeat("d1", 0.0, "boot", "interval", 2.0, outbox=(asked.id,))
            effects = exchanges.heard(kept, now)
        sent_at += [now for effect in effects if isinstance(effect, Send)]

    gaps = [later - before for before, later in pairwise(sent_at)]
    assert [1.0, 8.0, 16.0, 32.0, 64.0, 64.0] == gaps  # the first damage may be chance


def test_what_is_held_is_sent_again_when_it_is_waited_for_anew_for_longer_than_it_lives() -> None:
    exchanges = Exchanges(Roster())
    exchanges.open_run("1-abc", number=1, epoch=2)
    asked = command(1)
    for deadline, sent in ((30.0, [60.0]), (59.0, []), (3600.0, [60.0])):
        terms = Terms(deadline, waits_for_offline=True, minimum=1)
        effects = exchanges.ask([asked], batch="b", terms=terms, now=deadline - 1)
        exchanges.connected(deadline - 40.0)
        exchanges.tick(deadline)

        assert sent == [e.command.ttl_s for e in effects if isinstance(e, Send)]


def test_nothing_is_asked_for_a_run_that_is_over() -> None:
    exchanges = Exchanges(Roster())
    exchanges.open_run("1-abc", number=1, epoch=2)
    exchanges.end_run("1-abc", 1.0)

    assert [] == exchanges.ask(
        [command(1)], batch="b", terms=Terms(9.0, waits_for_offline=True), now=2.0
    )
    assert [] == list(exchanges.open_commands())


def test_a_device_that_was_heard_since_we_are_connected_is_lost_by_its_own_interval() -> None:
    """A gateway that knew nobody gives a usual fleet two minutes; these watches beat quicker."""
    exchanges = Exchanges(Roster())
    exchanges.connected(0.0)
    exchanges.heard(Heartbeat("d1", 0.0, "boot", "connect", 2.0), 1.0)

    assert 6.0 == exchanges.next_wake()
    assert ["d1"] == lost(exchanges.tick(6.0))


def test_nobody_is_lost_while_there_is_no_link() -> None:
    exchanges = Exchanges(Roster())
    exchanges.connected(0.0)
    exchanges.heard(Heartbeat("d1", 0.0, "boot", "connect", 2.0), 1.0)
    exchanges.disconnected()

    assert [] == lost(exchanges.tick(60.0))
    exchanges.connected(60.0)
    assert [] == lost(exchanges.tick(62.0))
    assert ["d1"] == lost(exchanges.tick(65.0))


def test_a_reply_that_comes_too_late_twice_is_told_once_and_acknowledged_twice() -> None:
    exchanges = Exchanges(Roster())
    exchanges.open_run("1-abc", number=1, epoch=2)
    asked = command(1)
    exchanges.restore_settled(asked.id, run="1-abc", batch="b", is_answered=False, is_good=False)
    effects = [exchanges.replied(reply(asked), now) for now in (1.0, 2.0)]

    assert [1, 0] == [
        sum(isinstance(e, Report) and isinstance(e.event, ReplyLate) for e in told_of)
        for told_of in effects
    ]
    assert ["ack", "ack"] == [tell.method for told_of in effects for tell in told(told_of)]
