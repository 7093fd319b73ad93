"""`windflower aws`, command by command, against an account that is played here."""

import hashlib
import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aws.fargate import played_fargate
from aws.played_account import ACCOUNT, REGION, PlayedAccount, network_of, played_account
from aws.test_pipeline import run
from aws.wheelhouse import needs_installation
from processes import Programs
from typer.testing import CliRunner

from windflower.adapters.aws import deploy_folder
from windflower.adapters.aws.component import component_zip
from windflower.adapters.aws.template import Template
from windflower.cli.main import app

TEMPLATE = Template.load()
STACK = TEMPLATE.resolve(region=REGION, account=ACCOUNT)


@pytest.fixture
def played() -> Iterator[PlayedAccount]:
    """An account in which the stack was deployed; moto is given the outputs that it would make."""
    with played_account(STACK) as account:
        outputs = {key: {"Value": value} for key, value in STACK.outputs.items()}
        group = {"Type": "AWS::Logs::LogGroup", "Properties": {"LogGroupName": "/windflower/run"}}
        body = json.dumps({"Resources": {"RunLogs": group}, "Outputs": outputs})
        account.client("cloudformation").create_stack(StackName="windflower", TemplateBody=body)
        definition = str(STACK.properties("Pipeline")["DefinitionString"])
        for theirs, ours in network_of(account).items():
            definition = definition.replace(theirs, ours)
        account.client("stepfunctions").create_state_machine(
            name="windflower-pipeline",
            definition=definition,
            roleArn=f"arn:aws:iam::{ACCOUNT}:role/pipeline",
        )
        iot = account.client("iot")
        iot.create_thing_group(thingGroupName="windflower-devices")
        iot.create_policy(policyName="windflower-device", policyDocument="{}")
        yield account


SMALL = """
Parameters:
  UniqueKey: {Type: String}
  SimulatedDevices: {Type: Number, Default: 3}
  ComponentKey: {Type: String, Default: ""}
  ComponentVersion: {Type: String, Default: 0.1.0}
Resources:
  RunLogs: {Type: AWS::Logs::LogGroup, Properties: {LogGroupName: !Sub "/${UniqueKey}/run"}}
  Bucket: {Type: AWS::S3::Bucket, Properties: {BucketName: !Sub "${UniqueKey}-of-a-stack"}}
Outputs:
  BucketName: {Value: !Ref Bucket}
"""


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PlayedAccount]:
    """An empty account, and another template: moto cannot make a stack of ours."""
    shutil.copytree(deploy_folder._CHECKOUT / "greengrass", tmp_path / "deploy" / "greengrass")
    (tmp_path / "deploy" / "aws").mkdir()
    (tmp_path / "deploy" / "aws" / "template.yaml").write_text(SMALL)
    monkeypatch.setattr(deploy_folder, "_CHECKOUT", tmp_path / "deploy")
    monkeypatch.setattr("windflower.adapters.aws.stack._INTERVAL_S", 0.01)
    with played_account(STACK) as account:
        yield account


def component_of(account: PlayedAccount) -> tuple[str, str]:
    """Return the version and the key of the stack's component."""
    (stack,) = account.client("cloudformation").describe_stacks()["Stacks"]
    given = {one["ParameterKey"]: one["ParameterValue"] for one in stack["Parameters"]}
    return given["ComponentVersion"], given["ComponentKey"]


@needs_installation
def test_a_component_is_uploaded_and_another_gets_another_version(
    small: PlayedAccount, tmp_path: Path
) -> None:
    needed = tmp_path / "needed.txt"
    needed.write_text("scikit-learn\n")
    found = []
    for arguments in (
        ("--greengrass", "-p", "SimulatedDevices=5"),
        ("--greengrass",),
        (),
        ("--greengrass", "--requirements", str(needed)),
    ):
        assert 0 == said("deploy", *arguments)[0]
        found.append(component_of(small))
    storage = small.client("s3")
    listed = storage.list_objects_v2(Bucket="windflower-of-a-stack")["Contents"]
    last = storage.get_object(Bucket="windflower-of-a-stack", Key=found[3][1])["Body"].read()

    assert ["0.1.1", "0.1.1", "0.1.1", "0.1.2"] == [version for version, _ in found]
    assert found[0] == found[1] == found[2]
    assert [found[3][1]] == [one["Key"] for one in listed]  # what no version needs has gone
    assert component_zip(needed) == last
    for (_, key), body in ((found[0], component_zip()), (found[3], last)):
        assert f"windflower/greengrass/{hashlib.sha256(body).hexdigest()}/agent.zip" == key
        TEMPLATE.resolve({"ComponentKey": key})  # the template takes such a key


def test_what_a_component_needs_goes_with_one(programs: Programs, tmp_path: Path) -> None:
    command = programs.windflower(
        *("aws", "deploy", "--wheels", str(tmp_path), "--region", REGION), name="deploy"
    )

    assert 78 == command.wait()
    assert "--requirements and --wheels go with --greengrass" in command.err


def said(command: str, *arguments: str) -> tuple[int, dict[str, Any]]:
    """Run a command; return its exit code and its answer."""
    done = CliRunner().invoke(app, ["aws", command, "--region", REGION, *arguments])
    assert done.stdout, done.exception
    return done.exit_code, json.loads(done.stdout)


def test_an_app_is_uploaded_run_and_reported(played: PlayedAccount, apps: Path) -> None:
    table = STACK.outputs["FleetTable"]
    played.client("dynamodb").put_item(TableName=table, Item={"client": {"S": "pi-07"}})
    with played_fargate(run("succeed"), played.environment) as fargate:
        code, answer = said("run", str(apps / "averaging"), "--simulated", "0", "--", "--seed", "1")
    request = json.loads(fargate.told["run"]["WINDFLOWER_AWS_REQUEST"])
    stored = played.client("s3").list_objects_v2(
        Bucket=STACK.outputs["BucketName"], Prefix="windflower/apps/"
    )

    assert (0, True) == (code, answer["success"])
    assert [request["app"]] == [one["Key"] for one in stored["Contents"]]
    assert (["--seed", "1"], 0) == (request["arguments"], request["simulated"])
    assert {answer["execution"]: "SUCCEEDED"} == said("status")[1]["executions"]
    assert 1 == said("status")[1]["devices-heard"]


def test_a_run_that_fails_says_why_and_ends_with_another_code(
    played: PlayedAccount, apps: Path
) -> None:
    table = STACK.outputs["FleetTable"]
    played.client("dynamodb").put_item(TableName=table, Item={"client": {"S": "pi-07"}})
    with played_fargate(run("fail"), played.environment):
        code, answer = said("run", str(apps / "averaging"), "--simulated", "0")

    assert 1 == code
    assert "2 of 3 devices answered" in answer["error-message"]


@pytest.mark.usefixtures("played")
def test_the_same_app_is_the_same_object(apps: Path) -> None:
    first = said("run", str(apps / "averaging"), "--dry-run")
    second = said("run", str(apps / "averaging"), "--dry-run")
    other = said("run", str(apps / "mixing"), "--dry-run")

    assert first == second != other


@pytest.mark.usefixtures("played")
def test_a_device_is_added_with_the_command_that_starts_it(tmp_path: Path) -> None:
    code, answer = said("add-device", "pi-07", "--out", str(tmp_path))

    assert 0 == code
    assert {"pi-07.pem", "pi-07.key"} == {one.name for one in tmp_path.iterdir()}
    assert 0o600 == (tmp_path / "pi-07.key").stat().st_mode & 0o777
    assert "--reply-rule windflower_response" in answer["start"]


def test_a_core_is_added_with_what_it_has(played: PlayedAccount, tmp_path: Path) -> None:
    iot = played.client("iot")
    iot.create_thing(thingName="core-1")
    arn = iot.create_keys_and_certificate(setAsActive=True)["certificateArn"]
    iot.attach_thing_principal(thingName="core-1", principal=arn)
    code, answer = said("add-device", "core-1", "--core", "--out", str(tmp_path))

    assert (0, 1) == (code, answer["certificates"])
    assert [] == list(tmp_path.iterdir())
    assert ["windflower-device"] == [
        one["policyName"] for one in iot.list_attached_policies(target=arn)["policies"]
    ]


def test_a_key_that_is_there_is_not_lost(
    played: PlayedAccount, programs: Programs, tmp_path: Path
) -> None:
    (tmp_path / "pi-07.key").write_text("old")
    command = programs.windflower(
        *("aws", "add-device", "pi-07", "--out", str(tmp_path), "--region", REGION),
        name="add",
        **played.environment,
    )

    assert 78 == command.wait()
    assert "pi-07.key is there already" in command.err
    assert "old" == (tmp_path / "pi-07.key").read_text()


def test_logs_are_written_as_they_are(played: PlayedAccount) -> None:
    logs = played.client("logs")
    logs.create_log_stream(logGroupName="/windflower/run", logStreamName="run/1")
    logs.put_log_events(
        logGroupName="/windflower/run",
        logStreamName="run/1",
        logEvents=[{"timestamp": int(time.time() * 1000), "message": '{"event":"run-ended"}'}],
    )
    done = CliRunner().invoke(app, ["aws", "logs", "--region", REGION])

    assert '{"event":"run-ended"}' == done.stdout.splitlines()[0]


def test_without_a_stack_one_line_says_what_to_do(programs: Programs) -> None:
    with played_account(STACK) as account:
        command = programs.windflower(
            *("aws", "status", "--region", REGION), name="status", **account.environment
        )
        code = command.wait()

    assert 78 == code
    assert "windflower aws deploy makes it" in command.err
    assert 1 == len(command.err.splitlines())


def test_a_parameter_that_is_wrong_is_refused_before_anything_is_made(programs: Programs) -> None:
    with played_account(STACK) as account:
        command = programs.windflower(
            *("aws", "deploy", "-p", "SimulatedDevices=41", "--region", REGION),
            name="deploy",
            **account.environment,
        )
        code = command.wait()
        stacks = account.client("cloudformation").describe_stacks()["Stacks"]

    assert (78, []) == (code, stacks)
    assert "SimulatedDevices cannot be '41'" in command.err
