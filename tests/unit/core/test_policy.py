"""What a person decides about waiting becomes the terms of each phase."""

import pytest

from windflower.core.policy import RoundPolicy, Terms


def terms(policy: RoundPolicy, asked: int = 10) -> Terms:
    return policy.terms(asked, now=100.0, patience_s=50.0)


def test_by_default_all_that_are_online_are_waited_for_and_one_must_answer() -> None:
    assert Terms(150.0, waits_for_offline=False, quorum=None, minimum=1) == terms(RoundPolicy())


def test_strict_turns_all_of_it_off() -> None:
    policy = RoundPolicy(1.0, 3, 0.5, 5, 7.0, wait_for_offline=False, is_strict=True)

    assert Terms(150.0, waits_for_offline=True, quorum=None, minimum=0) == terms(policy)
    assert 0 == policy.spares(10)


@pytest.mark.parametrize(
    ("quorum", "expected"), [(1, 1), (8, 8), (99, 10), (0.8, 8), (0.75, 8), (1.0, 10), (0.01, 1)]
)
def test_a_quorum_is_a_number_or_a_share(quorum: float, expected: int) -> None:
    assert expected == terms(RoundPolicy(quorum=quorum)).quorum


def test_the_shorter_patience_counts() -> None:
    assert 120.0 == terms(RoundPolicy(deadline_s=20.0)).deadline
    assert 150.0 == terms(RoundPolicy(deadline_s=200.0)).deadline


def test_the_minimum_is_never_more_than_the_quorum_or_the_devices() -> None:
    assert 3 == terms(RoundPolicy(quorum=3, min_replies=5)).minimum
    assert 2 == terms(RoundPolicy(min_replies=5), asked=2).minimum


def test_a_device_that_is_asked_alone_may_fail_alone() -> None:
    assert 0 == terms(RoundPolicy(min_replies=5), asked=1).minimum
    assert 0 == terms(RoundPolicy(min_replies=1.0, quorum=1), asked=1).minimum


def test_who_asks_more_devices_than_the_app_closes_when_as_many_have_answered() -> None:
    policy = RoundPolicy(over_select=0.25)

    assert 3 == policy.spares(10)
    assert 10 == terms(policy).quorum


@pytest.mark.parametrize(
    ("ok", "late", "now", "why"),
    [
        (4, 0, 1.0, "all answered"),
        (3, 1, 1.0, "enough had answered well"),
        (2, 2, 10.0, "its time was over"),
        (2, 2, 1.0, "who had not answered was offline"),
    ],
)
def test_a_phase_says_why_it_closed(ok: int, late: int, now: float, why: str) -> None:
    terms = Terms(10.0, waits_for_offline=False, quorum=3)

    assert why == terms.why_closed(ok=ok, late=late, now=now)
