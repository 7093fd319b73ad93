"""The judge of policies judges as IAM does, and every call is written down with what it takes."""

from typing import Any

import boto3
import pytest
from aws.permissions import Unsupported, allows
from aws.recording import Call, Need, idle, needs, recording, refused
from moto import mock_aws

REGION = "eu-west-1"
ACCOUNT = "123456789012"
TABLE = f"arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/t"


def policy(*statements: dict[str, Any]) -> dict[str, Any]:
    return {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", **one} for one in statements],
    }


READ = {"Sid": "Read", "Action": ["s3:GetObject", "s3:GetObjectTagging"], "Resource": "arn:b/in/*"}


@pytest.mark.parametrize(
    ("action", "resource", "is_allowed"),
    [
        ("s3:GetObject", "arn:b/in/x", True),
        ("S3:getobject", "arn:b/in/x", True),
        ("s3:GetObject", "arn:b/in/x/../out", True),
        ("s3:GetObject", "arn:b/out/x", False),
        ("s3:GetObject", "arn:b/in", False),
        ("s3:PutObject", "arn:b/in/x", False),
        ("s3:GetObject", "ARN:b/in/x", False),
    ],
)
def test_a_star_takes_slashes_and_actions_have_no_case(
    action: str, resource: str, *, is_allowed: bool
) -> None:
    assert is_allowed == allows(policy(READ), action, resource)


def test_a_deny_wins() -> None:
    denied = policy(READ, {"Effect": "Deny", "Action": "s3:*", "Resource": "arn:b/in/secret"})

    assert allows(denied, "s3:GetObject", "arn:b/in/x")
    assert not allows(denied, "s3:GetObject", "arn:b/in/secret")


def test_a_variable_without_a_value_matches_nothing() -> None:
    own = policy({"Action": "iot:Publish", "Resource": "topic/${thing}"})

    assert allows(own, "iot:Publish", "topic/pi", {"thing": "pi"})
    assert not allows(own, "iot:Publish", "topic/pi", {"thing": "po"})
    assert not allows(own, "iot:Publish", "topic/${thing}")


def test_a_condition_on_what_is_not_said_fails_unless_it_is_for_all() -> None:
    one = policy({"Action": "a:b", "Resource": "*", "Condition": {"Bool": {"k": "true"}}})
    every = policy(
        {"Action": "a:b", "Resource": "*", "Condition": {"ForAllValues:StringEquals": {"k": ["x"]}}}
    )

    assert (True, False, False) == tuple(
        allows(one, "a:b", "r", context) for context in ({"k": "true"}, {"k": "false"}, {})
    )
    assert (True, True, False) == tuple(
        allows(every, "a:b", "r", context) for context in ({"k": ["x"]}, {}, {"k": ["x", "y"]})
    )


def test_an_unknown_condition_is_not_judged() -> None:
    odd = policy(
        {"Action": "a:b", "Resource": "*", "Condition": {"IpAddress": {"k": "10.0.0.0/8"}}}
    )

    with pytest.raises(Unsupported):
        allows(odd, "a:b", "r", {"k": "10.1.1.1"})


@mock_aws
def test_calls_and_signed_urls_are_recorded_apart() -> None:
    with recording() as calls:
        storage = boto3.client("s3", region_name=REGION)
        storage.generate_presigned_url("put_object", Params={"Bucket": "b", "Key": "k"})
        tables = boto3.client("dynamodb", region_name=REGION)
        with pytest.raises(tables.exceptions.ResourceNotFoundException):
            tables.batch_get_item(RequestItems={"t": {"Keys": [{"k": {"S": "1"}}]}})
    boto3.client("dynamodb", region_name=REGION).list_tables()
    needed = [need for call in calls for need in needs(call, region=REGION, account=ACCOUNT)]

    assert [("s3", "PutObject", True), ("dynamodb", "BatchGetItem", False)] == [
        (call.service, call.operation, call.is_url) for call in calls
    ]
    assert [
        Need("s3:PutObject", "arn:aws:s3:::b/k"),
        Need("dynamodb:BatchGetItem", TABLE),
    ] == needed


def test_what_is_refused_and_what_is_idle_is_named() -> None:
    needed = [Need("s3:GetObject", "arn:b/in/x"), Need("s3:PutObject", "arn:b/in/x")]

    assert {needed[1]} == refused(policy(READ), needed)
    assert {"Read s3:GetObjectTagging"} == idle(policy(READ), needed)


def test_a_call_that_nobody_judged_is_an_error() -> None:
    with pytest.raises(LookupError, match="DeleteTable"):
        needs(Call("dynamodb", "DeleteTable", {"TableName": "t"}), region=REGION, account=ACCOUNT)
