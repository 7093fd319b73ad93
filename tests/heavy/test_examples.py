"""The examples with heavy packages learn, on our fleet and on Flower alone."""

import json
import os
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path

import pytest
from conformance.superlink import SuperLink
from processes import MOSQUITTO, Program, Programs, events, until

from windflower.wire.limits import INLINE_PACK_BYTES

EXAMPLES = Path(__file__).parents[2] / "examples"
CIFAR10 = os.environ.get("CIFAR10", "")
"""Where the images are, for whoever has them; else the example draws shapes."""

NOT_HERE = "{} is not installed: pip install -r requirements-heavy.lock"
needs_tensorflow = pytest.mark.skipif(
    find_spec("tensorflow") is None, reason=NOT_HERE.format("tensorflow-cpu")
)
needs_torch = pytest.mark.skipif(find_spec("torch") is None, reason=NOT_HERE.format("torch"))

pytestmark = pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed")


def run(programs: Programs, example: str, config: str, *, name: str = "run") -> Program:
    """Run an example to its end, on four simulated devices."""
    program = programs.windflower(
        *("run", str(EXAMPLES / example), "--devices", "4", "--seed", "1", "--strict"),
        *("--state", str(programs.folder / "state"), "--format", "json", "-c", config),
        name=name,
    )
    assert 0 == program.wait(deadline_s=240), program.err
    return program


def accuracies(state: Path) -> list[float]:
    """Return what each round came to."""
    measured = [e for e in events(state, "round-measured") if e["stage"] == "evaluate"]
    return [e["metrics"]["accuracy"] for e in measured]


@pytest.fixture
def superlink(tmp_path: Path) -> Iterator[SuperLink]:
    """Flower's own, with two SuperNodes: each starts a heavy process for each message."""
    folder = tmp_path / "superlink"
    folder.mkdir()
    link = SuperLink(Programs(folder), nodes=2)
    yield link
    link.end()


@needs_torch
def test_the_cifar10_example_learns_on_cifar10_or_on_shapes(
    programs: Programs, tmp_path: Path
) -> None:
    config = f'num-server-rounds=5 partition="iid" data={json.dumps(CIFAR10)}'
    ran = run(programs, "02-cifar10-pytorch", config)
    found = accuracies(tmp_path / "state")

    # Four devices are asked whether they have torch; then each trains and tests in each round.
    assert {"ok": 4 + 2 * 5 * 4, "failed": 0, "late": 0} == ran.last["replies"]
    assert 5 == len(found)
    assert found[-1] > 0.3  # chance is 0.1
    assert found[-1] > found[0]


@needs_torch
def test_the_cifar10_network_is_the_originals(programs: Programs) -> None:
    text = "from cifar10.model import Net; print(sum(p.numel() for p in Net().parameters()))"
    folder = str(EXAMPLES / "02-cifar10-pytorch")
    counted = programs.start(sys.executable, "-c", text, name="count", PYTHONPATH=folder)

    assert 0 == counted.wait(), counted.err
    assert 62_006 == int(counted.out)


@needs_torch
def test_the_cifar10_example_runs_on_flower_alone(superlink: SuperLink) -> None:
    config = {"num-server-rounds": 1, "min-nodes": 2}
    ran = superlink.run(EXAMPLES / "02-cifar10-pytorch", config)

    assert 0 == ran.wait(deadline_s=240), ran.out + ran.err
    assert "round 1: accuracy 0." in ran.out + ran.err


@needs_tensorflow
def test_the_tensorflow_example_learns_and_the_same_seed_gives_the_same_model(
    programs: Programs, tmp_path: Path
) -> None:
    once, again = (
        run(programs, "03-tensorflow", "num-server-rounds=3", name=name)
        for name in ("once", "again")
    )
    found = accuracies(tmp_path / "state")

    assert {"ok": 4 + 2 * 3 * 4, "failed": 0, "late": 0} == once.last["replies"]
    assert found[2] > 0.7  # chance is 0.25
    assert found[2] > found[0]
    assert found[:3] == found[3:]
    assert once.last["model-hash"] == again.last["model-hash"]


@needs_tensorflow
def test_the_arrays_of_the_tensorflow_example_go_by_blob(
    programs: Programs, tmp_path: Path
) -> None:
    state, device = tmp_path / "state", tmp_path / "machine-0-state"
    serving = programs.windflower("serve", "--state", str(state), "--format", "json", name="serve")
    until(lambda: serving.out, "the gateway")
    config = "partition-id=0 num-partitions=1"
    programs.agent("machine-0", serving.last["broker"], "--node-config", config)
    until(lambda: events(state, "device-heard"), "the device")
    ran = programs.windflower(
        *("run", str(EXAMPLES / "03-tensorflow"), "--state", str(state), "--limit", "1"),
        *("--format", "json", "-c", "num-server-rounds=1 min-nodes=1"),
        name="run",
    )
    assert 0 == ran.wait(deadline_s=120), ran.err
    with closing(sqlite3.connect(state / "journal.db")) as journal:
        rows = journal.execute(
            "SELECT body, size_bytes FROM commands WHERE method IN ('fit', 'evaluate') ORDER BY seq"
        ).fetchall()
    contents = [json.loads(body)["content"] for body, _ in rows]
    fetched = {path.name: path.stat().st_size for path in (device / "blobs").iterdir()}

    assert 2 == len(contents)
    for content in contents:
        assert content["pack"]["size"] > INLINE_PACK_BYTES
        assert "inline" not in content
        assert content["pack"]["size"] == fetched[content["pack"]["digest"]]
    assert rows[0][1] > INLINE_PACK_BYTES  # what came back from training


@needs_tensorflow
def test_the_tensorflow_example_runs_on_flower_alone(superlink: SuperLink) -> None:
    config = {"num-server-rounds": 1, "min-nodes": 2}
    ran = superlink.run(EXAMPLES / "03-tensorflow", config)

    assert 0 == ran.wait(deadline_s=240), ran.out + ran.err
    assert "round 1: accuracy 0." in ran.out + ran.err
