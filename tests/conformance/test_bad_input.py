"""What people get wrong is said in one clear line, and nothing hangs."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from processes import Program

from conformance.fleet import DEVICES, ConformanceFleet

AVERAGING = Path(__file__).parents[1] / "apps" / "averaging"
CLIENT = """
import os
import resource
import time

from flwr.app import Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

app = ClientApp()


@app.train()
def train(message, context):
    loss = 0.5
    if context.node_config["partition-id"] == 2:
        HERE
    metrics = MetricRecord({"num-examples": 1, "loss": loss})
    content = RecordDict({"arrays": message.content["arrays"], "metrics": metrics})
    return Message(content, reply_to=message)


@app.evaluate()
def evaluate(message, context):
    metrics = MetricRecord({"num-examples": 1})
    return Message(RecordDict({"metrics": metrics}), reply_to=message)
"""

FEW = "resource.setrlimit(resource.RLIMIT_AS, (1 << 20, 1 << 20))"
KILLED = (
    "the process that ran the app was killed, perhaps for its memory, or left by itself:"
    " let the app need less, or give the device more"
)


@pytest.fixture
def app(tmp_path: Path) -> Path:
    """A copy of an app that is right."""
    return Path(shutil.copytree(AVERAGING, tmp_path / "app"))


def run_with(fleet: ConformanceFleet, app: Path, client: str, **config: float) -> Program:
    """Run an app with another client."""
    (app / "averaging" / "client_app.py").write_text(client)
    given = {"num-server-rounds": 1, **{k.replace("_", "-"): v for k, v in config.items()}}
    program = fleet.run(app, given)
    program.wait()
    return program


def strict_json(text: str) -> Any:  # noqa: ANN401 - JSON is any
    """Read JSON as other languages do, which have no NaN."""

    def refuse(name: str) -> None:
        raise ValueError(name)

    return json.loads(text, parse_constant=refuse)


RETURNED = (
    "failed: TypeError: the function for 'train' returned {}:"
    " let it end with `return Message(content, reply_to=message)`"
)
NOT_FINITE = "sent loss as NaN or infinite: look at its data, or let it learn more slowly"
LATE = (
    "did not answer in time: give it longer (the app's timeout, --deadline), or see what it waits"
    " for"
)


@pytest.mark.parametrize(
    ("line", "says", "failed", "late"),
    [
        ("return", RETURNED.format("nothing"), 1, 0),
        ("return {'a': 1}", RETURNED.format("a dict"), 1, 0),
        ("loss = float('nan')", NOT_FINITE, 0, 0),
        ("os.kill(os.getpid(), 9)", f"failed: {KILLED}", 1, 0),
        (f"{FEW}; bytearray(1 << 30)", "failed: MemoryError", 1, 0),
        ("time.sleep(3600)", LATE, 0, 1),
    ],
    ids=["nothing", "a dict", "NaN", "killed", "no memory", "never"],
)
def test_what_one_device_does_wrong_is_one_line_and_the_run_goes_on(
    fleet: ConformanceFleet, app: Path, line: str, says: str, failed: int, late: int
) -> None:
    run = run_with(fleet, app, CLIENT.replace("HERE", line), timeout_s=6.0 if late else 60.0)
    answer = strict_json(run.out)

    assert 0 == run.process.returncode, run.err
    assert f"device-2 {says}" in [text.strip() for text in run.err.splitlines()]
    assert {"ok": 8 - failed - late, "failed": failed, "late": late} == answer["replies"]
    assert {"loss": 0.5 if failed or late else None} == answer["metrics"]["train"]


def test_events_are_json_wherever_they_are_read(fleet: ConformanceFleet, app: Path) -> None:
    run_with(fleet, app, CLIENT.replace("HERE", "loss = float('nan')"))
    lines = (fleet.state / "events.jsonl").read_text().splitlines()

    measured = [e for e in map(strict_json, lines) if e["event"] == "round-measured"]
    assert {"loss": None} == measured[-2]["metrics"]


@pytest.mark.parametrize(
    ("client", "says"),
    [
        (
            "app = 42",
            "is a int, not a ClientApp: name a ClientApp under [tool.flwr.app.components]",
        ),
        (
            "",
            "does not import: AttributeError: module 'averaging.client_app' has no attribute 'app'",
        ),
        (
            "from nowhere import app",
            "does not import: ModuleNotFoundError: No module named 'nowhere'",
        ),
    ],
)
def test_a_client_app_that_does_not_load_is_one_line_a_device(
    fleet: ConformanceFleet, app: Path, client: str, says: str
) -> None:
    run = run_with(fleet, app, client)

    assert 65 == run.process.returncode
    for device in DEVICES:
        assert f"  {device} failed: averaging.client_app:app {says}" in run.err.splitlines()


def test_a_mistake_in_the_syntax_is_said_before_any_device_is_asked(
    fleet: ConformanceFleet, app: Path
) -> None:
    run = run_with(fleet, app, "app = (\n")

    assert 65 == run.process.returncode
    file = app / "averaging" / "client_app.py"
    assert f"windflower: {file}, line 1: '(' was never closed: mend it" == run.err.splitlines()[-1]


def test_components_that_are_swapped_are_said(fleet: ConformanceFleet, app: Path) -> None:
    project = (app / "pyproject.toml").read_text()
    (app / "pyproject.toml").write_text(project.replace(".server_app:app", ".client_app:app"))
    run = run_with(fleet, app, CLIENT.replace("HERE", "pass"))

    assert 65 == run.process.returncode
    assert strict_json(run.out)["error-message"] == (
        "averaging.client_app:app is a ClientApp, not a ServerApp: name a ServerApp under"
        " [tool.flwr.app.components]"
    )
