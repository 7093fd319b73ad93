"""The walk-through's commands, executed in the order of the page against a played account."""

import re
import shlex
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from aws.fargate import played_fargate
from aws.played_account import ACCOUNT, REGION, PlayedAccount
from aws.test_cloud_fleet import STACK, played
from aws.test_pipeline import run
from moto.cloudformation.parsing import resource_class_from_type
from typer.testing import CliRunner

from windflower.adapters.aws.template import Template
from windflower.cli.main import app

__all__ = ["played"]  # a fixture

PAGE = (Path(__file__).parents[2] / "docs" / "aws.md").read_text()


def commands() -> Iterator[list[str]]:
    for block in re.findall(r"^```sh\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE):
        for line in block.splitlines():
            words = shlex.split(line)
            if words[:2] == ["windflower", "aws"]:
                yield words[2:]


def test_the_commands_of_the_page_are_executed_in_order(
    played: PlayedAccount, apps: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stack is there already: moto cannot make one of this template, as the page says."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    table = STACK.outputs["FleetTable"]
    played.client("dynamodb").put_item(TableName=table, Item={"client": {"S": "pi-07"}})
    iot = played.client("iot")
    iot.create_thing(thingName="core-7")
    certificate = iot.create_keys_and_certificate(setAsActive=True)["certificateArn"]
    iot.attach_thing_principal(thingName="core-7", principal=certificate)
    done = []
    with ExitStack() as tasks:
        tasks.enter_context(played_fargate(run("succeed"), played.environment))
        for words in commands():
            if words[0] == "deploy":
                continue
            given = [str(apps / "averaging") if word == "APP_DIR" else word for word in words]
            result = CliRunner().invoke(app, ["aws", *given])
            assert 0 == result.exit_code, (words, result.output)
            done.append(words[0])

    assert ["run", "status", "logs", "add-device", "run", "add-device", *["destroy"] * 2] == done
    assert {"watch-03.pem", "watch-03.key"} == {path.name for path in tmp_path.iterdir()}
    assert ["core-7"] == [one["thingName"] for one in iot.list_things()["things"]]
    assert [] == played.client("s3").list_buckets()["Buckets"]


def test_the_page_names_the_types_that_nobody_plays() -> None:
    everything = Template.load().resolve(
        {"ComponentKey": "component/agent.zip"}, region=REGION, account=ACCOUNT
    )
    types = {one["Type"] for one in everything.resources.values()}
    ignored = sorted(kind for kind in types if resource_class_from_type(kind) is None)
    named = PAGE.rpartition("```text\n")[2].partition("```")[0].split()

    assert ignored == named
