"""The roster knows who was heard, by the gateway's clock alone."""

from dataclasses import replace

import pytest

from windflower.core.roster import GONE_PATIENCE_S, MISSED_BEATS, Roster
from windflower.wire.messages import Heartbeat

BEAT = Heartbeat("d1", 0.0, "boot-1", "connect", 60.0)


def test_a_device_is_heard_once_and_then_only_again_after_it_was_lost() -> None:
    roster = Roster()
    first = roster.heard(BEAT, 100.0)
    second = roster.heard(BEAT, 160.0)
    lost = roster.lose(160.0 + MISSED_BEATS * 60)
    back = roster.heard(BEAT, 1000.0)

    assert [False] == [e.to_json()["again"] for e in first]
    assert [] == second
    assert [("d1", 150.0)] == [(e.device, e.silent_s) for e in lost]
    assert [True] == [e.to_json()["again"] for e in back]


def test_what_an_agent_is_is_known_until_another_one_speaks() -> None:
    roster = Roster()
    roster.heard(replace(BEAT, agent="windflower 1"), 100.0)
    roster.heard(replace(BEAT, cause="interval"), 160.0)
    same = roster.get("d1")
    roster.heard(replace(BEAT, cause="interval", boot="boot-2"), 220.0)
    other = roster.get("d1")

    assert same is not None
    assert other is not None
    assert ("windflower 1", None) == (same.agent, other.agent)


def test_a_devices_own_clock_means_nothing() -> None:
    roster = Roster()
    roster.heard(replace(BEAT, time=-1e12), 100.0)
    roster.heard(replace(BEAT, time=1e12), 101.0)

    assert roster.is_online("d1")
    assert [] == roster.lose(200.0)


def test_a_last_will_shortens_the_patience_and_a_heartbeat_restores_it() -> None:
    roster = Roster()
    roster.heard(BEAT, 100.0)
    roster.heard(replace(BEAT, cause="gone"), 101.0)
    assert 101.0 + GONE_PATIENCE_S == roster.next_wake()
    roster.heard(replace(BEAT, cause="rollcall"), 102.0)

    assert 102.0 + MISSED_BEATS * 60 == roster.next_wake()


def test_the_will_of_an_earlier_start_says_nothing() -> None:
    roster = Roster()
    roster.heard(replace(BEAT, boot="boot-2"), 100.0)
    roster.heard(replace(BEAT, cause="gone"), 101.0)

    assert 100.0 + MISSED_BEATS * 60 == roster.next_wake()


def test_a_reply_is_as_good_as_a_heartbeat() -> None:
    roster = Roster()
    roster.heard(BEAT, 100.0)
    roster.answered("d1", 240.0)

    assert [] == roster.lose(300.0)


def test_a_name_that_a_broker_kept_is_known_and_not_alive() -> None:
    roster = Roster()
    roster.named(BEAT, 100.0)

    assert not roster.is_online("d1")
    assert ["d1"] == [p.device for p in roster.freshest()]
    assert [False] == [e.to_json()["again"] for e in roster.heard(BEAT, 101.0)]


def test_the_freshest_come_first_and_ties_go_by_id_descending() -> None:
    roster = Roster()
    for device, at in (("a", 1.0), ("b", 3.0), ("c", 2.0), ("d", 3.0)):
        roster.heard(replace(BEAT, client=device), at)

    assert ["d", "b", "c", "a"] == [p.device for p in roster.freshest()]
    assert ["d", "b"] == [p.device for p in roster.freshest(2)]


@pytest.mark.parametrize("boots", ["AB", "ABC", "AABB", "ABA", "ABCDE"])
def test_restarts_and_one_late_message_are_no_second_agent(boots: str) -> None:
    roster = Roster()

    assert [False] * len(boots) == turns(roster, boots)


def test_two_agents_that_take_turns_are_told_apart_and_the_later_one_is_the_rival() -> None:
    roster = Roster()

    assert [5, 7] == [i for i, is_rival in enumerate(turns(roster, "ABABABAB")) if is_rival]


def test_messages_that_come_twice_are_no_second_agent() -> None:
    roster = Roster()
    said = [replace(BEAT, boot=boot, time=float(i)) for i, boot in enumerate("AB")]

    assert not any(roster.is_rival(beat) for beat in said * 10)


def turns(roster: Roster, boots: str) -> list[bool]:
    return [
        roster.is_rival(replace(BEAT, boot=boot, time=float(i))) for i, boot in enumerate(boots)
    ]


def test_the_longest_interval_is_that_of_whoever_was_still_there() -> None:
    roster = Roster()
    assert 60.0 == roster.longest_interval_s()
    roster.heard(replace(BEAT, client="dead", interval_s=3600.0), 100.0)
    roster.heard(replace(BEAT, interval_s=20.0), 100.0 + MISSED_BEATS * 3600 + 1)

    assert 20.0 == roster.longest_interval_s()
