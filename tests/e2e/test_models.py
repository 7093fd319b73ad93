"""A published model reaches every device, also one that slept, and can be taken back."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from processes import MOSQUITTO, Program, Programs, events, until

pytestmark = pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed")


BARE = """
from flwr.serverapp import ServerApp
app = ServerApp()
@app.main()
def main(grid, context):
    print(list(grid.get_node_ids()))
"""


class Fleet:
    """A gateway, devices by name, and models."""

    def __init__(self, programs: Programs, apps: Path) -> None:
        self._programs = programs
        self._app = str(apps / "averaging")
        self.state = programs.folder / "state"
        self.serve("serve")

    def serve(self, name: str) -> Program:
        self.gateway = self._programs.windflower(
            "serve", "--state", str(self.state), "--format", "json", name=name
        )
        until(lambda: self.gateway.out, "the gateway")
        return self.gateway

    def device(self, name: str) -> Program:
        card = self.gateway.last
        return self._programs.agent(
            *(name, card["broker"], "--gateway-key", card["key"]),
            *("--node-config", f"partition-id={name[-1]} num-partitions=3"),
        )

    def call(self, *arguments: str) -> dict[str, Any]:
        program = self._programs.windflower(
            *(*arguments, "--state", str(self.state), "--format", "json"), name="call"
        )
        assert 0 == program.wait(), program.err
        return program.last

    def run(self, seed: int, *arguments: str) -> dict[str, Any]:
        few = ("--limit", "2", "--seed", str(seed), "-c", "num-server-rounds=1 numbers=20000")
        return self.call("run", self._app, *few, *arguments)

    def file(self, device: str) -> Path:
        return self._programs.folder / f"{device}-state" / "models" / device / "current"

    def holders(self) -> dict[str, str]:
        return dict(self.call("models", "ls")["devices"])


@pytest.fixture
def fleet(programs: Programs, apps: Path) -> Fleet:
    return Fleet(programs, apps)


def weights(path: Path) -> Any:  # noqa: ANN401 - numpy's
    return np.load(path)["weights"]


def test_a_model_reaches_all_and_is_taken_back(fleet: Fleet, tmp_path: Path) -> None:
    fleet.device("d0")
    fleet.device("d1")
    first, second = fleet.run(1), fleet.run(2, "--publish")
    (published,) = fleet.call("models", "ls")["models"]
    until(lambda: len(events(fleet.state, "model-taken")) == 2, "both devices")
    assert second["model-hash"] == published["model-hash"]
    assert {"d0": published["publication"], "d1": published["publication"]} == fleet.holders()
    two = weights(fleet.file("d0"))

    older = fleet.call("models", "publish", first["run-id"])["publication"]
    sleeper = fleet.device("d2")
    until(lambda: len(events(fleet.state, "model-taken")) == 5, "all devices")
    assert {"d0": older, "d1": older, "d2": older} == fleet.holders()
    one = weights(fleet.file("d2"))
    assert not np.array_equal(one, two)
    assert np.array_equal(one, weights(fleet.file("d0")))

    sleeper.end()
    again = fleet.call("models", "rollback")
    assert second["model-hash"] == again["model-hash"]
    until(lambda: len(events(fleet.state, "model-taken")) == 7, "those that are awake")
    assert {"d0": again["publication"], "d1": again["publication"], "d2": older} == fleet.holders()
    fleet.gateway.end()
    fleet.serve("serve-2")
    fleet.device("d2")
    until(lambda: len(events(fleet.state, "model-taken")) == 8, "who woke under another gateway")
    assert np.array_equal(two, weights(fleet.file("d2")))

    fetched = fleet.call("models", "fetch", "d2", "--out", str(tmp_path / "d2.npz"))
    assert second["model-hash"] == fetched["model-hash"]
    assert np.array_equal(two, weights(tmp_path / "d2.npz"))


def test_what_cannot_be_published_or_fetched_is_said(
    fleet: Fleet, programs: Programs, apps: Path, tmp_path: Path
) -> None:
    def refusal(*arguments: str) -> str:
        program = programs.windflower(
            *(*arguments, "--state", str(fleet.state), "--format", "json"), name="refused"
        )
        assert 0 != program.wait()
        return program.err + program.out

    fleet.device("d0")
    fleet.device("d1")
    until(lambda: len(events(fleet.state, "device-heard")) == 2, "the devices")
    app = tmp_path / "bare"
    shutil.copytree(apps / "averaging", app)
    (app / "averaging" / "server_app.py").write_text(BARE)
    bare = programs.windflower(
        *("run", str(app), "--state", str(fleet.state), "--limit", "2"),
        *("--publish", "--format", "json"),
        name="bare",
    )
    assert 0 == bare.wait(), bare.err
    assert "nothing is published: run" in bare.err
    out = str(tmp_path / "x.npz")

    nowhere = refusal("models", "fetch", "d0", "--out", str(tmp_path / "no" / "x.npz"))
    assert "there is no folder" in nowhere
    assert "'../x'" in refusal("models", "fetch", "../x")
    assert "there is no run 9-none" in refusal("models", "publish", "9-none")
    assert "there is no earlier model to go back to" in refusal("models", "rollback")
    assert "d0 has no model: none was published to it" in refusal(
        "models", "fetch", "d0", "--out", out
    )
    assert "d9 is offline" in refusal("models", "fetch", "d9", "--out", out)
