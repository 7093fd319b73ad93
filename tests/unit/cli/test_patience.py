"""What takes long is spoken of: by a bar on a terminal, by a line elsewhere."""

import io
import os
import pty
import subprocess
import sys

import pytest

from windflower.cli import patience as room
from windflower.cli.patience import Waiting, patience


def test_what_is_over_soon_is_not_spoken_of(capsys: pytest.CaptureFixture[str]) -> None:
    with patience("reading"):
        pass
    waiting = Waiting("reading", 3)
    waiting.end()
    waiting.begin()  # its timer may have been late

    assert ("", "") == capsys.readouterr()


def test_without_a_terminal_it_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    said = io.StringIO()
    monkeypatch.setattr(sys, "stderr", said)
    waiting = Waiting("reading the log", 3)
    waiting.begin()
    waiting.advance(3)
    waiting.end()

    assert "  reading the log\n" == said.getvalue()


def test_on_a_terminal_it_is_a_bar_that_goes_away_and_a_pipe_gets_only_its_data() -> None:
    program = f"""if True:
        import sys, time
        from windflower.cli import patience as room
        room.PATIENCE_S = 0.0
        with room.patience("reading the log", 4) as waiting:
            while waiting._bar is None:
                time.sleep(0.01)
            waiting.advance(2)
            print("data")
            print("told", file=sys.stderr)
        assert room.__file__ == {room.__file__!r}
    """
    ours, theirs = pty.openpty()
    done = subprocess.run(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        stderr=theirs,
        check=True,
        timeout=60,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "100"},
    )
    shown = os.read(ours, 1 << 16).decode()
    os.close(ours)
    os.close(theirs)

    assert b"data\n" == done.stdout
    assert "reading the log" in shown
    assert "━" in shown
    assert "told" in shown
    assert shown.rstrip().endswith("\x1b[2K") or "\x1b[1A" in shown  # it was taken away
