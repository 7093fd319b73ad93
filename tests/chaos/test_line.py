"""A line loses, doubles and holds back as many packets as it was told, by its seed."""

from chaos.line import Harm, Line, Link

BAD = Link(loss=0.3, delay_s=0.1, jitter_s=0.05, duplication=0.1, reordering=0.1, reordering_s=0.3)
PACKETS = 5000


def sent(seed: str, link: Link) -> tuple[Line, list[list[float]]]:
    line = Line(seed, link)
    return line, [line.arrivals(number / 1000) for number in range(PACKETS)]


def test_a_good_line_delivers_at_once_and_in_order() -> None:
    line, arrivals = sent("a", Link())

    assert [[number / 1000] for number in range(PACKETS)] == arrivals
    assert {} == line.counts


def test_a_bad_line_harms_as_many_as_it_was_told() -> None:
    line, arrivals = sent("a", BAD)
    delivered = PACKETS - line.counts[Harm.LOSS]

    assert 0.28 < line.counts[Harm.LOSS] / PACKETS < 0.32
    assert 0.08 < line.counts[Harm.DUPLICATION] / delivered < 0.12
    assert 0.08 < line.counts[Harm.REORDERING] / delivered < 0.12
    assert delivered + line.counts[Harm.DUPLICATION] == sum(len(times) for times in arrivals)


def test_the_same_seed_harms_the_same_packets() -> None:
    assert sent("a", BAD)[1] == sent("a", BAD)[1] != sent("b", BAD)[1]


def test_jitter_keeps_the_order_and_holding_back_does_not() -> None:
    _, jittered = sent("a", Link(delay_s=0.1, jitter_s=0.05))
    _, held_back = sent("a", Link(delay_s=0.1, reordering=0.1))
    times = [time for (time,) in jittered]

    assert sorted(times) == times
    assert all(0.1 <= time - number / 1000 <= 0.15 for number, time in enumerate(times))
    assert sorted(held_back) != held_back


def test_in_a_cut_everything_is_lost() -> None:
    line = Line("a", Link())
    line.cut(2.0)

    assert [[], [], [2.0]] == [line.arrivals(now) for now in (0.0, 1.9, 2.0)]
    assert {Harm.CUT: 2} == line.counts
