"""The examples with heavy packages learn, on our fleet and on Flower alone."""

import json
import os
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from conformance.fleet import DEVICES
from conformance.superlink import SuperLink
from processes import MOSQUITTO, Program, Programs, events

EXAMPLES = Path(__file__).parents[2] / "examples"
CIFAR10 = os.environ.get("CIFAR10", "")
"""Where the images are, for whoever has them; else the example draws shapes."""

NOT_HERE = "{} is not installed: pip install -r requirements-heavy.lock"
needs_torch = pytest.mark.skipif(find_spec("torch") is None, reason=NOT_HERE.format("torch"))

pytestmark = pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed")


def run(programs: Programs, example: str, config: str, *arguments: str) -> Program:
    """Run an example to its end, on four simulated devices."""
    program = programs.windflower(
        *("run", str(EXAMPLES / example), "--devices", "4", "--seed", "1", "--strict"),
        *("--state", str(programs.folder / "state"), "--format", "json", "-c", config),
        *arguments,
        name="run",
    )
    assert 0 == program.wait(deadline_s=240), program.err
    return program


def accuracies(state: Path) -> list[float]:
    """Return what each round came to."""
    measured = [e for e in events(state, "round-measured") if e["stage"] == "evaluate"]
    return [e["metrics"]["accuracy"] for e in measured]


@pytest.fixture
def superlink(tmp_path: Path) -> Iterator[SuperLink]:
    """Flower's own, with a SuperNode for each device."""
    folder = tmp_path / "superlink"
    folder.mkdir()
    link = SuperLink(Programs(folder))
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
    config = {"num-server-rounds": 1, "min-nodes": len(DEVICES)}
    ran = superlink.run(EXAMPLES / "02-cifar10-pytorch", config)

    assert 0 == ran.wait(deadline_s=240), ran.out + ran.err
    assert "round 1: accuracy 0." in ran.out + ran.err
