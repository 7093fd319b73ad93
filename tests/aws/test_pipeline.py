"""The state machine, executed: moto interprets it, and its tasks are processes on this machine."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aws.fargate import HANGS, Fargate, played_fargate
from aws.played_account import ACCOUNT, REGION, PlayedAccount, network_of, played_account
from aws.recording import idle, needs, recording, refused
from processes import until

from windflower.adapters.aws.template import Template

STACK = Template.load().resolve(region=REGION, account=ACCOUNT)
BUCKET = STACK.outputs["BucketName"]
APP = "windflower/apps/app.zip"
PLAYED = str(Path(__file__).with_name("played_run.py"))
WAITS = [sys.executable, "-c", "import threading; threading.Event().wait()"]


def run(how: str) -> dict[str, list[str]]:
    """Return what the containers do: simulated devices wait until they are stopped."""
    return {"devices": WAITS, "run": [sys.executable, PLAYED, how]}


@pytest.fixture(scope="module")
def account() -> Iterator[PlayedAccount]:
    with played_account(STACK) as played:
        definition = str(STACK.properties("Pipeline")["DefinitionString"])
        for theirs, ours in network_of(played).items():
            definition = definition.replace(theirs, ours)
        assert '"Seconds": 15' in definition
        assert '"NumericGreaterThanEquals": 20' in definition
        definition = definition.replace('"Seconds": 15', '"Seconds": 0')
        definition = definition.replace(
            '"NumericGreaterThanEquals": 20', '"NumericGreaterThanEquals": 2'
        )
        played.client("stepfunctions").create_state_machine(
            name="windflower-pipeline",
            definition=definition,
            roleArn=f"arn:aws:iam::{ACCOUNT}:role/pipeline",
        )
        played.client("s3").put_object(Bucket=BUCKET, Key=APP, Body=b"an app")
        yield played


@pytest.fixture
def a_device(account: PlayedAccount) -> Iterator[None]:
    """A device that was heard."""
    table = {"TableName": STACK.outputs["FleetTable"]}
    account.client("dynamodb").put_item(**table, Item={"client": {"S": "pi-07"}})
    yield
    account.client("dynamodb").delete_item(**table, Key={"client": {"S": "pi-07"}})


def executed(account: PlayedAccount, name: str, **given: object) -> dict[str, Any]:
    """Execute the pipeline to its end; return what Step Functions says of it."""
    machine = STACK.outputs["PipelineArn"]
    steps = account.client("stepfunctions")
    started = steps.start_execution(
        stateMachineArn=machine, name=name, input=json.dumps({"app": APP, **given})
    )

    def ended() -> dict[str, Any] | None:
        found: dict[str, Any] = steps.describe_execution(executionArn=started["executionArn"])
        return None if found["status"] == "RUNNING" else found

    return dict(until(ended, "the execution"))


def why(execution: dict[str, Any]) -> tuple[str, str, str]:
    return execution["status"], execution["error"], execution["cause"]


def stopped(fargate: Fargate, container: str) -> bool:
    return bool(until(lambda: fargate.is_stopped(container), f"the end of {container}"))


@pytest.mark.usefixtures("a_device")
def test_a_run_that_ends_well_is_published_and_reported(account: PlayedAccount) -> None:
    with recording() as calls, played_fargate(run("succeed"), account.environment) as fargate:
        execution = executed(account, "good", arguments=["-c", "rounds=3"])
        assert stopped(fargate, "devices")

    assert ("SUCCEEDED", {"success": True, "app": APP, "accuracy": 0.5}) == (
        execution["status"],
        json.loads(execution["output"]),
    )
    latest = account.client("s3").get_object(Bucket=BUCKET, Key="windflower/models/latest")
    assert b"a model" == latest["Body"].read()
    assert "3" == fargate.told["devices"]["WINDFLOWER_AWS_SIMULATED_DEVICES"]
    assert {"app": APP, "arguments": ["-c", "rounds=3"], "simulated": 3} == json.loads(
        fargate.told["run"]["WINDFLOWER_AWS_REQUEST"]
    )
    check_permissions(calls)


@pytest.mark.usefixtures("a_device")
def test_a_run_that_fails_says_why_and_nothing_goes_on(account: PlayedAccount) -> None:
    with played_fargate(run("fail"), account.environment) as fargate:
        execution = executed(account, "bad")
        assert stopped(fargate, "devices")

    said = "NotEnoughReplies: 2 of 3 devices answered, at least 3 had to"
    assert ("FAILED", "RunFailed", said) == why(execution)


@pytest.mark.usefixtures("a_device")
def test_a_run_that_dies_is_told_with_its_exit_code(account: PlayedAccount) -> None:
    with played_fargate(run("die"), account.environment) as fargate:
        execution = executed(account, "dead", simulated=0)

    status, error, cause = why(execution)
    assert ("FAILED", "RunFailed") == (status, error)
    assert [{"ExitCode": 137}] == json.loads(cause.partition(": ")[2])["Containers"]
    assert "devices" not in fargate.told


@pytest.mark.usefixtures("a_device")
def test_a_run_that_takes_too_long_is_stopped(account: PlayedAccount) -> None:
    with played_fargate({**run("fail"), "run": HANGS}, account.environment) as fargate:
        execution = executed(account, "long")
        assert stopped(fargate, "devices")
        assert stopped(fargate, "run")

    status, error, cause = why(execution)
    assert ("FAILED", "RunFailed") == (status, error)
    assert "Timeout: The run took longer than 14400 seconds" in cause


def test_without_devices_no_run_is_started(account: PlayedAccount) -> None:
    with played_fargate(run("succeed"), account.environment) as fargate:
        execution = executed(account, "alone")
        assert stopped(fargate, "devices")

    assert "NoDevices: No device was heard within five minutes" in why(execution)[2]
    assert "run" not in fargate.told


def test_without_an_app_nothing_is_started_at_all(account: PlayedAccount) -> None:
    with played_fargate(run("succeed"), account.environment) as fargate:
        execution = executed(account, "empty", app="windflower/apps/none.zip")

    assert ("FAILED", "NoApp") == why(execution)[:2]
    assert "windflower/apps/none.zip" in execution["cause"]
    assert {} == fargate.told


@pytest.mark.usefixtures("a_device")
def test_what_another_execution_started_goes_on(account: PlayedAccount) -> None:
    cluster = STACK.outputs["Cluster"]
    with played_fargate(run("succeed"), account.environment):
        tasks = account.client("ecs")
        subnets = account.client("ec2").describe_subnets()["Subnets"]
        network = {"subnets": [subnets[0]["SubnetId"]], "securityGroups": []}
        other = tasks.run_task(
            cluster=cluster,
            taskDefinition="windflower-devices",
            launchType="FARGATE",
            group="another",
            networkConfiguration={"awsvpcConfiguration": network},
            overrides={"containerOverrides": [{"name": "devices", "environment": []}]},
        )["tasks"][0]["taskArn"]
        executed(account, "beside")
        found = tasks.describe_tasks(cluster=cluster, tasks=[other])["tasks"][0]

    assert "RUNNING" == found["desiredStatus"]


def check_permissions(calls: list[Any]) -> None:
    """Every call of the interpreter is one that the pipeline's role allows, and no more is."""
    document = STACK.properties("PipelinePolicy")["PolicyDocument"]
    ours = [call for call in calls if call.service not in {"stepfunctions", "ec2"}]
    needed = [need for call in ours for need in needs(call, region=REGION, account=ACCOUNT)]

    assert set() == refused(document, needed)
    # Of itself Step Functions also tags tasks, hands their roles over, and listens for their end.
    assert {
        "Start ecs:TagResource",
        "HandRolesOver iam:PassRole",
        "Wait events:PutTargets",
        "Wait events:PutRule",
        "Wait events:DescribeRule",
    } == idle(document, needed)
