"""What the stack's two tasks run is a command of ours, and does what the pipeline waits for."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
from aws.metric_filters import values
from aws.played_account import ACCOUNT, REGION, PlayedAccount, played_account
from aws.recording import idle, needs, recording, refused
from certificates import make_certificates
from processes import MOSQUITTO, Programs, free_port, until

from windflower.adapters.aws.account import Account
from windflower.adapters.aws.cloud_fleet import _zipped
from windflower.adapters.aws.registry import Registry
from windflower.adapters.aws.template import Template
from windflower.adapters.local.broker_address import BrokerAddress
from windflower.adapters.local.mqtt import Arrival, Connection
from windflower.cli.main import app
from windflower.errors import TransportError
from windflower.wire.messages import Heartbeat

STACK = Template.load().resolve(region=REGION, account=ACCOUNT)
BUCKET = STACK.outputs["BucketName"]
APP = "windflower/apps/app.zip"
RESULTS = "windflower/results/one"
SMARTWATCH = Path(__file__).parents[2] / "examples" / "01-smartwatch"


@pytest.fixture
def played() -> Iterator[PlayedAccount]:
    with played_account(STACK) as account:
        yield account


def container(task: str) -> dict[str, Any]:
    return dict(STACK.properties(task)["ContainerDefinitions"][0])


def told(task: str) -> dict[str, str]:
    """Return what a task is told, but that its gateway is on this machine."""
    pairs = {one["Name"]: one["Value"] for one in container(task)["Environment"]}
    return {**pairs, "WINDFLOWER_PLACE": "local"}


@pytest.mark.parametrize("task", ["RunTask", "DevicesTask"])
def test_a_container_runs_a_command_that_is_there(task: str) -> None:
    first, *words = container(task)["Command"]
    command: Any = typer.main.get_command(app)
    for word in words:
        command = command.commands[word]

    assert "windflower" == first
    assert not command.params


@pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed")
def test_a_run_leaves_result_and_model_and_its_numbers_in_the_log(
    played: PlayedAccount, programs: Programs, apps: Path
) -> None:
    storage = played.client("s3")
    storage.put_object(Bucket=BUCKET, Key=APP, Body=_zipped(apps / "averaging"))
    request = {"app": APP, "arguments": ["--devices", "2", "--state", str(programs.folder / "s")]}
    task = programs.windflower(
        *container("RunTask")["Command"][1:],
        name="task",
        **{**played.environment, **told("RunTask")},
        WINDFLOWER_AWS_REQUEST=json.dumps(request),
        WINDFLOWER_AWS_RESULTS=RESULTS,
    )
    assert 0 == task.wait(), task.err
    body = storage.get_object(Bucket=BUCKET, Key=f"{RESULTS}/result.json")["Body"].read()
    model = storage.get_object(Bucket=BUCKET, Key=f"{RESULTS}/model")["Body"].read()
    answer = json.loads(body)
    log = task.err.splitlines()
    count = {
        one["MetricTransformations"][0]["MetricName"]: values(one, log)
        for one in STACK.of_type("AWS::Logs::MetricFilter").values()
    }

    assert answer["success"] is True
    assert Path(answer["model-file"]).read_bytes() == model
    assert answer["replies"]["ok"] == sum(count["SuccessCount"]) > 0
    assert 1 == len(count["RunTime"])


def test_an_app_that_is_none_is_told_in_one_line(played: PlayedAccount, programs: Programs) -> None:
    played.client("s3").put_object(Bucket=BUCKET, Key=APP, Body=b"no zip")
    task = programs.windflower(
        *container("RunTask")["Command"][1:],
        name="task",
        **{**played.environment, **told("RunTask")},
        WINDFLOWER_AWS_REQUEST=json.dumps({"app": APP}),
        WINDFLOWER_AWS_RESULTS=RESULTS,
    )

    assert 0 != task.wait()
    assert "windflower/apps/app.zip is no app" in task.err.splitlines()[-1]


def test_simulated_devices_leave_nothing_behind(played: PlayedAccount, programs: Programs) -> None:
    iot = played.client("iot")
    iot.create_thing_group(thingGroupName=STACK.outputs["DeviceGroup"])
    iot.create_policy(policyName=STACK.outputs["DevicePolicy"], policyDocument="{}")
    task = programs.windflower(
        *container("DevicesTask")["Command"][1:],
        name="task",
        **{**played.environment, **told("DevicesTask")},
        WINDFLOWER_AWS_BROKER="mqtts://127.0.0.1:1",
    )
    until(lambda: "agent-started" in task.err, "the devices")
    things = {one["thingName"] for one in iot.list_things()["things"]}
    certificates = iot.list_certificates()["certificates"]
    code = task.end()

    assert {f"windflower-simulated-{number:04}" for number in range(3)} == things
    assert 1 == len(certificates)
    assert 0 == code
    assert [] == iot.list_things()["things"]
    assert [] == iot.list_certificates()["certificates"]


@pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed")
async def test_simulated_devices_are_heard_and_have_an_apps_data(
    played: PlayedAccount, programs: Programs, tmp_path: Path
) -> None:
    iot = played.client("iot")
    iot.create_thing_group(thingGroupName=STACK.outputs["DeviceGroup"])
    iot.create_policy(policyName=STACK.outputs["DevicePolicy"], policyDocument="{}")
    played.client("s3").put_object(Bucket=BUCKET, Key=APP, Body=_zipped(SMARTWATCH))
    ca, certificate, key = make_certificates(tmp_path)
    port = free_port()
    tls = (f"certfile {certificate}", f"keyfile {key}", "allow_anonymous true")
    programs.mosquitto(*tls, port=port)
    (tmp_path / "scratch").mkdir()
    broker = BrokerAddress("127.0.0.1", port, is_tls=True, ca=ca)
    heard: asyncio.Queue[Arrival] = asyncio.Queue()
    listener = Connection(
        broker,
        "rules",
        filters=("$aws/rules/+/flower/clients/+",),
        on_message=heard.put_nowait,
        on_change=lambda _: None,
    )
    await listener.open(must_answer=True)
    task = programs.windflower(
        *container("DevicesTask")["Command"][1:],
        name="task",
        **{**played.environment, **told("DevicesTask")},
        WINDFLOWER_AWS_APP=APP,
        WINDFLOWER_AWS_BROKER=f"mqtts://127.0.0.1:{port}",
        SSL_CERT_FILE=str(ca),
        TMPDIR=str(tmp_path / "scratch"),
    )
    names: set[str] = set()
    async with asyncio.timeout(60):
        while len(names) < 3:
            names.add(Heartbeat.from_bytes((await heard.get()).payload).client)
    recordings = [path.parent.name for path in tmp_path.rglob("data/*/recordings.npz")]
    code = await asyncio.to_thread(task.end)
    await listener.close()

    assert {f"windflower-simulated-{number:04}" for number in range(3)} == names
    assert ["00", "01", "02"] == sorted(recordings)
    assert 0 == code


async def test_the_devices_role_allows_what_they_do_and_no_more(played: PlayedAccount) -> None:
    iot = played.client("iot")
    storage = Account(REGION).service("s3", unavailable=TransportError)
    played.client("s3").put_object(Bucket=BUCKET, Key=APP, Body=b"an app")
    iot.create_thing_group(thingGroupName="windflower-devices")
    iot.create_policy(policyName="windflower-device", policyDocument="{}")
    account = Account(REGION)
    registry = Registry(
        account.service("iot", unavailable=TransportError),
        fleet="windflower",
        group="windflower-devices",
        policy="windflower-device",
    )
    with recording() as calls:
        identity = await registry.add("windflower-simulated-0000")
        await registry.withdraw(identity, "windflower-simulated-0000")
        await storage.call("get_object", Bucket=BUCKET, Key=APP)
    needed = [need for call in calls for need in needs(call, region=REGION, account=ACCOUNT)]
    (policy,) = STACK.properties("DevicesRole")["Policies"]

    assert set() == refused(policy["PolicyDocument"], needed)
    assert set() == idle(policy["PolicyDocument"], needed)
