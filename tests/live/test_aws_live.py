"""From deploy to destroy on a real account: `WINDFLOWER_AWS_LIVE=1 pytest -m aws_live tests/live`.

It takes about half an hour and costs less than half a dollar: a few minutes of two small Fargate
tasks, some thousand messages and requests, six custom metrics for an hour. It makes a stack of its
own with a name that is drawn, and removes it, whatever happens in between. Besides credentials it
needs what builds and pushes the image: root, debootstrap, umoci and skopeo.

What only AWS can say is asked here: whether a rule's FROM is applied behind the prefix of Basic
Ingest, whether the policies let through what they must, whether the filters see the lines.
"""

import base64
import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from processes import Programs, until

ROOT = Path(__file__).parents[2]
KEY = f"wf{secrets.token_hex(3)}"
DEPLOYED_S, RAN_S, SEEN_S = 1200.0, 1200.0, 600.0

pytestmark = [
    pytest.mark.aws_live,
    pytest.mark.skipif(
        os.environ.get("WINDFLOWER_AWS_LIVE") != "1",
        reason="costs money: set WINDFLOWER_AWS_LIVE=1",
    ),
]


def aws(*words: str, deadline_s: float = 300.0) -> dict[str, Any]:
    """Give a command of `windflower aws`; return its answer."""
    command = [sys.executable, "-m", "windflower.cli.main", "aws", *words, "--key", KEY]
    done = subprocess.run(
        command, stdout=subprocess.PIPE, text=True, timeout=deadline_s, check=False
    )
    assert 0 == done.returncode, done.stdout
    return dict(json.loads(done.stdout))


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """Deploy a stack with its image; destroy it at the end."""
    try:
        outputs = aws(
            *("deploy", "-p", "CpuArchitecture=X86_64", "-p", "SimulatedDevices=3"),
            deadline_s=DEPLOYED_S,
        )
        push(outputs["RepositoryUri"], tmp_path_factory.mktemp("image"))
        yield outputs
    finally:
        assert [] == aws("destroy", deadline_s=DEPLOYED_S)["left"]


def push(repository: str, folder: Path) -> None:
    """Build the image, and push it to the stack's repository."""
    layout = f"{folder / 'layout'}:latest"
    subprocess.run([sys.executable, "tools/image.py", "build", layout], cwd=ROOT, check=True)
    token = boto3.client("ecr").get_authorization_token()["authorizationData"][0]
    user, _, word = base64.b64decode(token["authorizationToken"]).decode().partition(":")
    command = ["skopeo", "copy", "--insecure-policy", f"--dest-creds={user}:{word}"]
    command += [f"oci:{layout}", f"docker://{repository}:latest"]
    subprocess.run(command, check=True)


def test_the_first_run_finds_simulated_devices(stack: dict[str, Any], apps: Path) -> None:
    report = aws("run", str(apps / "averaging"), deadline_s=RAN_S)

    assert report["success"]
    assert {"failed": 0, "late": 0} == {k: report["replies"][k] for k in ("failed", "late")}
    assert stack["FleetTable"]


def test_a_device_by_mqtt_takes_part(
    stack: dict[str, Any], apps: Path, programs: Programs, tmp_path: Path
) -> None:
    """It publishes by Basic Ingest: a rule has to apply FROM behind the prefix, or it is late."""
    added = aws("add-device", "live-01", "--out", str(tmp_path))
    words = added["start"].split()[1:]
    device = programs.windflower(
        *(*words, "--node-config", "partition-id=0 num-partitions=1"), name="live-01"
    )
    fleet = boto3.resource("dynamodb").Table(stack["FleetTable"])
    until(
        lambda: "Item" in fleet.get_item(Key={"client": "live-01"}),
        "the device's heartbeat",
        deadline_s=SEEN_S,
    )
    report = aws("run", str(apps / "averaging"), "--simulated", "0", deadline_s=RAN_S)

    assert report["success"]
    assert 0 < device.err.count("work-ended")


@pytest.mark.usefixtures("stack")
def test_the_filters_saw_the_runs() -> None:
    """CloudWatch takes minutes: it is asked until it knows, for ten at most."""
    metrics = boto3.client("cloudwatch")
    names = {"ClientCount", "SuccessCount", "FailureCount", "RunTime"}  # what every app has

    def seen() -> bool:
        time.sleep(10)
        listed = metrics.list_metrics(Namespace=KEY)["Metrics"]
        return names <= {metric["MetricName"] for metric in listed}

    assert until(seen, "the metrics", deadline_s=SEEN_S)
