"""What an app needs is looked for on devices before it runs, and installed where it may be."""

import os
import shutil
import zipfile
from pathlib import Path

import pytest
from processes import MOSQUITTO, Program, Programs, events, until

pytestmark = pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed")

PACKAGE = "windflower-testing-add"
MODULE = "windflower_testing_add"
MEND = "install it there, or start the agent with --install-dependencies"


@pytest.fixture
def app(apps: Path, tmp_path: Path) -> Path:
    """An app that imports on devices what its pyproject asks for."""
    folder = tmp_path / "needs"
    shutil.copytree(apps / "averaging", folder)
    project = folder / "pyproject.toml"
    asked = f'["flwr[simulation]>=1.31", "{PACKAGE}>=2", "numpy<1.27; python_version<\'3\'"]'
    project.write_text(project.read_text().replace('["flwr>=1.31"]', asked))
    client = folder / "averaging" / "client_app.py"
    client.write_text(f"import {MODULE}\n{client.read_text()}")
    return folder


@pytest.fixture
def wheels(tmp_path: Path) -> Path:
    """A folder with what the app needs, as pip finds it without an index."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    info = f"{MODULE}-2.1.dist-info"
    with zipfile.ZipFile(folder / f"{MODULE}-2.1-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{MODULE}.py", "")
        text = f"Metadata-Version: 2.1\nName: {PACKAGE}\nVersion: 2.1\n"
        wheel.writestr(f"{info}/METADATA", text)
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{info}/RECORD", "")
    return folder


class Fleet:
    """A gateway, and devices each with packages of its own."""

    def __init__(self, programs: Programs, wheels: Path) -> None:
        self._programs = programs
        self._wheels = wheels
        self.state = programs.folder / "state"
        self._served = programs.windflower(
            "serve", "--state", str(self.state), "--format", "json", name="serve"
        )
        until(lambda: self._served.out, "the gateway")

    def device(self, number: int, *arguments: str) -> Program:
        packages = self._programs.folder / f"packages-{number}"
        card = self._served.last
        return self._programs.windflower(
            *("agent", "--broker", card["broker"], "--device-id", f"watch-{number:02}"),
            *("--state", str(self._programs.folder / f"device-{number}"), "--interval", "0.5"),
            *("--node-config", f"partition-id={number} num-partitions=3", *arguments),
            name=f"watch-{number:02}",
            PYTHONPATH=os.pathsep.join([str(packages), os.environ.get("PYTHONPATH", "")]),
            PIP_NO_INDEX="1",
            PIP_FIND_LINKS=str(self._wheels),
            PIP_TARGET=str(packages),
        )

    def run(self, app: Path, *arguments: str, name: str = "run") -> Program:
        return self._programs.windflower(
            *("run", str(app), "--state", str(self.state), "--format", "json", *arguments),
            name=name,
        )


def test_what_is_missing_is_named_before_the_run_and_who_lacks_it_is_left_out(
    programs: Programs, app: Path, wheels: Path
) -> None:
    fleet = Fleet(programs, wheels)
    fleet.device(0, "--install-dependencies")
    fleet.device(1, "--install-dependencies")
    fleet.device(2)
    run = fleet.run(app, "--limit", "3")
    assert 0 == run.wait(), run.err
    verify = programs.windflower(
        "verify", run.last["run-id"], "--state", str(fleet.state), name="verify"
    )
    assert 0 == verify.wait(), verify.err
    unfit = events(fleet.state, "device-unfit")
    opened = [e for e in events(fleet.state, "phase-opened") if e["type"] == "train"]

    assert [f"{PACKAGE}>=2 not installed: {MEND}"] == [e["reason"] for e in unfit]
    assert "watch-02" == unfit[0]["device"]
    assert f"watch-02 is left out: {PACKAGE}>=2 not installed" in run.err
    assert unfit[0]["at"] < opened[0]["at"]
    assert [2, 2] == [e["devices"] for e in opened]
    assert {"ok": 3 + 2 * 4, "failed": 0, "late": 0} == run.last["replies"]


def test_a_run_that_no_device_can_do_ends_with_the_reason(
    programs: Programs, app: Path, wheels: Path
) -> None:
    fleet = Fleet(programs, wheels)
    fleet.device(0)
    fleet.device(1)
    run = fleet.run(app, "--limit", "2")

    assert 0 != run.wait()
    assert (
        f"no device can run averaging: watch-00: {PACKAGE}>=2 not installed"
        in run.last["error-message"]
    )


def test_what_cannot_be_installed_is_said(programs: Programs, app: Path, wheels: Path) -> None:
    (wheels / f"{MODULE}-2.1-py3-none-any.whl").unlink()
    fleet = Fleet(programs, wheels)
    fleet.device(0, "--install-dependencies")
    run = fleet.run(app, "--limit", "1")

    assert 0 != run.wait()
    assert f"watch-00: {PACKAGE}>=2 cannot be installed: ERROR" in run.last["error-message"]


def test_a_device_runs_no_app_but_those_that_its_owner_allows(
    programs: Programs, apps: Path, wheels: Path
) -> None:
    bundle = programs.windflower(
        "bundle", str(apps / "averaging"), "--format", "json", name="bundle"
    )
    assert 0 == bundle.wait(), bundle.err
    allowed = bundle.last["digest"]
    fleet = Fleet(programs, wheels)
    fleet.device(0, "--allow-app", allowed)
    fleet.device(1, "--allow-app", allowed, "--allow-app", "0" * 64)
    fleet.device(2, "--allow-app", "0" * 64)
    run = fleet.run(apps / "averaging", "--limit", "3", "-c", "num-server-rounds=1")
    assert 0 == run.wait(), run.err
    failed = events(fleet.state, "reply-failed")

    assert {"ok": 4, "failed": 2, "late": 0} == run.last["replies"]
    assert {f"watch-02 does not run the app {allowed} (--allow-app)"} == {
        e["reason"] for e in failed
    }
