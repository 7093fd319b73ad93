"""Events are counted once each, while they are written."""

from pathlib import Path

from chaos.event_tail import EventTail


def test_a_line_counts_when_all_of_it_is_written(tmp_path: Path) -> None:
    tail = EventTail(tmp_path)
    assert 0 == tail.count("device-heard")

    with (tmp_path / "events.jsonl").open("a", buffering=1) as file:
        file.write('{"event":"device-heard","device":"a"}\n{"event":"run-st')
        file.flush()
        assert [1, 0] == [tail.count("device-heard"), tail.count("run-started")]
        file.write('arted"}\n{"event":"device-heard","device":"a"}\n')
        assert [2, 1] == [tail.count("device-heard"), tail.count("run-started")]

    assert {"a"} == tail.devices
