"""What outlived its time goes, the oldest first; what is needed stays."""

from hypothesis import given
from hypothesis import strategies as st

from windflower.core.retention import (
    DAY_S,
    SPARE_BLOBS,
    Holding,
    PastRun,
    Retention,
    outlived,
    to_drop,
    unneeded,
)

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


HOLDINGS = st.lists(
    st.builds(
        Holding,
        id=st.uuids().map(str),
        key=st.just("key"),
        size_bytes=st.integers(1, 100),
        is_spare=st.booleans(),
    ),
    unique_by=lambda holding: holding.id,
)


@given(HOLDINGS, st.integers(0, 1000), st.integers(0, 1000))
def test_spare_updates_go_first_and_others_only_to_make_room(
    holdings: list[Holding], room: int, less: int
) -> None:
    comfort = max(room - less, 0)
    gone = to_drop(holdings, room_bytes=room, comfort_bytes=comfort)
    left = [holding for holding in holdings if holding not in gone]
    others = [holding for holding in gone if not holding.is_spare]

    assert sum(holding.size_bytes for holding in left) <= room
    if others:
        assert not any(holding.is_spare for holding in left)
        unspared = [holding for holding in holdings if not holding.is_spare]
        assert room < sum(holding.size_bytes for holding in unspared)
        assert others == unspared[: len(others)]
    elif gone:
        spared = [holding for holding in holdings if holding.is_spare]
        assert gone == spared[: len(gone)]
        assert comfort < sum(h.size_bytes for h in left) + gone[-1].size_bytes
    else:
        assert sum(holding.size_bytes for holding in left) <= room
