"""Every call that a gateway makes in a whole run is allowed by its task's role, and no more is."""

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from aws.recording import Call, Need, idle, needs, refused
from processes import MOSQUITTO, Programs

from windflower.adapters.aws.costs import round_bill
from windflower.adapters.aws.template import Template
from windflower.wire.blobs import BlobRef, reply_key

REGION = "eu-west-1"
ACCOUNT = "123456789012"
STACK = Template.load().resolve(region=REGION, account=ACCOUNT)

# Python runs this before a process's own program: what a gateway asks of AWS is written down.
WRITES_CALLS_DOWN = """
import atexit, json, os, sys
if "serve" in sys.argv:
    from aws.recording import recording
    context = recording()
    calls = context.__enter__()
    def write():
        with open(os.environ["CALLS"], "a") as file:
            for call in calls:
                line = [call.service, call.operation, call.parameters, call.is_url]
                file.write(json.dumps(line, default=str) + "\\n")
    atexit.register(write)
"""


def policy_of(logical_id: str) -> dict[str, Any]:
    properties = STACK.properties(logical_id)
    if "PolicyDocument" in properties:
        return dict(properties["PolicyDocument"])
    (policy,) = properties["Policies"]
    return dict(policy["PolicyDocument"])


@pytest.fixture
def calls(programs: Programs, tmp_path: Path) -> list[Call]:
    """What a gateway asks of AWS in a round of three devices."""
    (tmp_path / "sitecustomize.py").write_text(WRITES_CALLS_DOWN)
    tests = Path(__file__).parents[1]
    demo = programs.windflower(
        *("demo", "--place", "aws-offline", "--rounds", "1", "--devices", "3"),
        *("--state", str(tmp_path / "state"), "--format", "json"),
        name="demo",
        PYTHONPATH=os.pathsep.join([str(tmp_path), str(tests), os.environ.get("PYTHONPATH", "")]),
        CALLS=str(tmp_path / "calls"),
    )
    assert 0 == demo.wait(), demo.err
    return [Call(*json.loads(line)) for line in (tmp_path / "calls").read_text().splitlines()]


@pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed")
def test_a_gateway_may_do_what_it_does_and_no_more(calls: list[Call]) -> None:
    done = [need for call in calls if not call.is_url for need in _needed(call)]

    assert set() == refused(policy_of("TaskPolicy"), done)
    assert WITHOUT_A_CALL == idle(policy_of("TaskPolicy"), done)

    # And a round makes as many requests as it is said to cost.
    published = [call.parameters for call in calls if call.operation == "Publish"]
    commands = [one for one in published if one["qos"] == 1 and '"method":"query"' not in str(one)]
    acknowledged = str([one for one in published if one["qos"] == 0])
    removed = [call for call in calls if call.operation == "DeleteItem"]
    asked = round_bill(3, 1)["rule"] - 1  # the new wearer's watch is not asked to train
    assert asked == len(commands)
    assert all(command_of(one) in acknowledged for one in commands)
    assert asked <= len(removed) <= asked + 3 + 3  # and answers to `query`, and one row a device


def command_of(published: Mapping[str, Any]) -> str:
    (identifier,) = re.findall(r'"id\\+":\\+"([0-9a-f]{32})', published["payload"])
    return str(identifier)


WITHOUT_A_CALL = {
    "Blobs s3:GetObject",  # updates of this model travel in messages
    "Blobs s3:DeleteObject",  # a gateway sweeps what nothing has needed for a day
    "Journal dynamodb:DeleteItem",  # and folds its journal when that has grown
    "Apps s3:GetObject",  # the task fetches the app, not the gateway in it,
    "Results s3:PutObject",  # and leaves the result
}
"""What the task may do and a gateway does not do in so short a run."""


def test_a_urls_role_allows_what_grants_are_for_and_no_more() -> None:
    objects = f"arn:aws:s3:::{STACK.outputs['BucketName']}/windflower/"
    pack = BlobRef("0" * 64, 10).key
    update = reply_key("1-abc", "pi-07", "m1")
    needed = [Need("s3:GetObject", objects + pack), Need("s3:PutObject", objects + update)]
    theirs = [Need("s3:PutObject", objects + pack), Need("s3:GetObject", objects + update)]

    assert set() == refused(policy_of("TransferRole"), needed)
    assert set() == idle(policy_of("TransferRole"), needed)
    assert set(theirs) == refused(policy_of("TransferRole"), theirs)


def _needed(call: Call) -> list[Need]:
    return needs(call, region=REGION, account=ACCOUNT)
