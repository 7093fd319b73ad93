"""What outlived its time goes, the oldest first; what is needed stays."""

from hypothesis import given
from hypothesis import strategies as st

from windflower.core.retention import DAY_S, SPARE_BLOBS, PastRun, Retention, outlived, unneeded

NOW = 1000 * DAY_S


def past(number: int, *, days: float, size: int = 10) -> PastRun:
    return PastRun(f"{number}-a", NOW - days * DAY_S, size)


def test_a_run_goes_after_its_days() -> None:
    runs = [past(1, days=31), past(2, days=29.9), past(3, days=30)]

    assert ["1-a", "3-a"] == outlived(runs, Retention(days=30), now=NOW)


def test_the_oldest_go_until_the_rest_fits() -> None:
    runs = [past(1, days=3, size=50), past(2, days=1, size=60), past(3, days=2, size=30)]

    assert ["1-a"] == outlived(runs, Retention(size_bytes=100), now=NOW)
    assert ["1-a", "3-a", "2-a"] == outlived(runs, Retention(size_bytes=0), now=NOW)


@given(st.lists(st.text("abcdef", min_size=1, max_size=2), unique=True), st.sets(st.text("abc")))
def test_what_is_needed_never_goes_and_the_last_few_stay(held: list[str], needed: set[str]) -> None:
    gone = unneeded(held, needed)
    left = [digest for digest in held if digest not in gone]
    idle = [digest for digest in left if digest not in needed]

    assert not needed & set(gone)
    assert len(idle) <= SPARE_BLOBS
    assert gone == [digest for digest in held if digest not in left]
    assert idle == [digest for digest in held if digest not in needed][-SPARE_BLOBS:]
