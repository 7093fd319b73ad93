"""Whatever is started ends: with the work, with its worker, with the run, and at any signal."""

import os
import signal
from pathlib import Path

import pytest
from processes import MOSQUITTO, Program, Programs, alive, children_of, until

pytestmark = pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed")


def run_families(programs: Programs, apps: Path, config: str = "") -> Program:
    return programs.windflower(
        *("run", str(apps / "families"), "--devices", "2", "--format", "json"),
        *("--state", str(programs.folder / "state")),
        *("-c", f"folder='{programs.folder}' {config}"),
        name="run",
    )


def left_behind(folder: Path) -> list[int]:
    """Return the processes that the app started, once everybody has started one."""
    files = [folder / name for name in ("server", "device-0", "device-1")]
    until(lambda: all(file.exists() for file in files), "the work to begin")
    return [int(file.read_text()) for file in files]


def until_dead(family: list[int]) -> None:
    until(lambda: not [pid for pid in family if alive(pid)], "every child to end", deadline_s=15)


@pytest.fixture
def held_run(programs: Programs, apps: Path, tmp_path: Path) -> Program:
    """A run that waits for its devices for ever, at work everywhere; it ignores SIGTERM."""
    (tmp_path / "pause").touch()
    run = run_families(programs, apps, "ignores-sigterm=true")
    assert all(alive(pid) for pid in left_behind(tmp_path))
    return run


def test_what_an_app_starts_and_forgets_ends_with_its_run(
    programs: Programs, apps: Path, tmp_path: Path
) -> None:
    run = run_families(programs, apps)

    assert 0 == run.wait(), run.err
    until_dead(left_behind(tmp_path))

    (tmp_path / "server").unlink()
    verify = programs.windflower(
        "verify", run.last["run-id"], "--state", str(tmp_path / "state"), name="verify"
    )
    assert 0 == verify.wait(), verify.err
    until_dead(left_behind(tmp_path))


def test_what_a_server_app_started_ends_when_its_process_is_killed(
    held_run: Program, tmp_path: Path
) -> None:
    server = left_behind(tmp_path)[0]
    (tmp_path / "server").unlink()
    (process,) = [p for p in children_of(held_run.process.pid) if [server] == [*children_of(p)]]
    os.kill(process, signal.SIGKILL)
    until_dead([server])
    again = left_behind(tmp_path)
    (tmp_path / "pause").unlink()

    assert 0 == held_run.wait(), held_run.err
    until_dead(again)


def until_it_ends(run: Program) -> list[int]:
    """Wait until a run has begun to clean up; return the processes that it had."""
    family = list(children_of(run.process.pid))
    assert 10 <= len(family)  # gateway, broker, nursery, agents, workers, the run, what they start
    run.process.send_signal(signal.SIGTERM)
    until(lambda: "is suspended" in run.err, "the clean-up to begin")
    return family


def test_a_second_sigterm_disturbs_nobody_who_cleans_up(held_run: Program) -> None:
    family = until_it_ends(held_run)
    held_run.process.send_signal(signal.SIGTERM)

    assert 130 == held_run.wait()
    assert "killing" not in held_run.err
    assert not [pid for pid in family if alive(pid)]


def test_ctrl_c_while_a_run_cleans_up_kills_all_that_is_left(held_run: Program) -> None:
    family = until_it_ends(held_run)
    held_run.process.send_signal(signal.SIGINT)

    assert 130 == held_run.wait()
    assert "windflower: killing what was started" in held_run.err
    until_dead(family)


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_an_agent_that_is_told_twice_to_end_leaves_nobody(
    programs: Programs, apps: Path, tmp_path: Path, second: int
) -> None:
    """Its exit code is not looked at: the second signal may find it past its clean-up."""
    _, broker = programs.mosquitto()
    (tmp_path / "pause").touch()
    crew = programs.agent("crew", broker, "--crew", "2")
    run = programs.windflower(
        *("run", str(apps / "families"), "--limit", "2", "--broker", broker),
        *("--state", str(tmp_path / "state"), "-c", f"folder='{tmp_path}'"),
        name="run",
    )
    left_behind(tmp_path)
    family = list(children_of(crew.process.pid))
    crew.process.send_signal(signal.SIGTERM)
    crew.process.send_signal(second)
    crew.wait()

    assert 4 <= len(family)  # two workers, and what the app started in each
    until_dead(family)
    run.end()
