"""A disk that is nearly full is said before anybody trains, and costs nothing."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from processes import MOSQUITTO, Program, Programs, events, until

pytestmark = [
    pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed"),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk"),
]
MODEL = "numbers=500000 num-server-rounds=1"  # 2 MB


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("this machine lets nobody mount a small disk")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_device_without_room_says_so_before_it_trains_and_goes_on_living(
    programs: Programs, apps: Path, tmp_path: Path, small_disk: Path
) -> None:
    _, broker = programs.mosquitto()
    state = tmp_path / "state"
    for number, folder in enumerate((small_disk, tmp_path / "large", tmp_path / "larger")):
        programs.windflower(
            *("agent", "--broker", broker, "--device-id", f"d{number}", "--state", str(folder)),
            *("--node-config", f"partition-id={number} num-partitions=3", "--interval", "0.5"),
            name=f"d{number}",
        )
    run = programs.windflower(
        *("run", str(apps / "averaging"), "--broker", broker, "--state", str(state)),
        *("--limit", "3", "--format", "json", "-c", MODEL),
        name="run",
    )

    assert 0 == run.wait(), run.err
    assert {"ok": 4, "failed": 2, "late": 0} == run.last["replies"]
    failed = events(state, "reply-failed")
    assert {"d0"} == {line["device"] for line in failed}
    assert "d0 has no room: this needs" in failed[0]["reason"]
    assert "work-started" not in (tmp_path / "d0.err").read_text()
    assert shutil.disk_usage(small_disk).free > 8 << 20


def test_a_gateway_without_room_begins_no_phase_and_the_run_goes_on_later(
    programs: Programs, apps: Path, small_disk: Path
) -> None:
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(2 << 20))
    state = small_disk / "state"

    def run(*arguments: str, name: str) -> Program:
        return programs.windflower(
            "run", *arguments, "--state", str(state), "--format", "json", name=name
        )

    served = programs.windflower("serve", "--state", str(state), "--format", "json", name="serve")
    until(lambda: served.out, "the gateway")
    programs.windflower(
        *("agent", "--broker", served.last["broker"], "--device-id", "crew", "--crew", "2"),
        *("--state", str(programs.folder / "crew"), "--interval", "0.5"),
        name="crew",
    )
    small = "numbers=100000 num-server-rounds=1"  # 0.4 MB a device, and once for all
    short = run(str(apps / "averaging"), "--limit", "2", "-c", small, name="short")

    assert 74 == short.wait(), short.out
    assert "make room, then resume" in short.last["error-message"]
    ballast.unlink()
    again = run("--resume", short.last["run-id"], name="again")
    assert 0 == again.wait(), again.err
    assert {"ok": 4, "failed": 0, "late": 0} == again.last["replies"]
