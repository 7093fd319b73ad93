"""A log of events is kept in parts, and read again from where it matters."""

from pathlib import Path

from windflower.adapters.local.event_file import EventFile, kept_events, remembered_events


def written(folder: Path, *, large_bytes: int) -> Path:
    """A log of a hundred sums, each behind nine events that are worth less."""
    log = folder / "events.jsonl"
    file = EventFile(log, large_bytes=large_bytes)
    for number in range(1000):
        kind = "command-sent" if number % 10 else "phase-closed"
        file.write({"at": float(number), "event": kind, "run": f"r{number}"})
    file.close()
    return log


def test_what_was_set_aside_is_read_first(tmp_path: Path) -> None:
    log = written(tmp_path, large_bytes=40_000)
    passed: list[int] = []
    read = [event["at"] for event in kept_events(log, passed=passed.append)]

    assert (tmp_path / "events.jsonl.old").exists()
    assert [float(n) for n in range(1000)] == read
    assert [12.0, 700.0] == [event["at"] for event in kept_events(log, "r12", "r700")]


def test_of_old_events_those_that_sum_up_are_remembered_and_of_late_ones_all(
    tmp_path: Path,
) -> None:
    log = written(tmp_path, large_bytes=40_000)
    remembered = list(remembered_events(log, ["phase-closed"], whole_bytes=1_000))
    sums = [event["at"] for event in remembered if event["event"] == "phase-closed"]
    others = [event["at"] for event in remembered if event["event"] == "command-sent"]

    assert [float(n) for n in range(0, 1000, 10)] == sums
    assert others[-1] == 999.0
    assert 5 < len(others) < 30
    assert [] == list(remembered_events(tmp_path / "none", ["phase-closed"]))


def test_half_a_line_is_no_event(tmp_path: Path) -> None:
    log = written(tmp_path, large_bytes=1 << 20)
    with log.open("a") as file:
        file.write('{"at":1.0,"event":"phase-clo')

    assert 1000 == len(list(kept_events(log)))
    assert 100 == len(list(remembered_events(log, ["phase-closed"], whole_bytes=0)))
