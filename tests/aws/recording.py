"""Records what is asked of AWS, and says which permissions each of it takes."""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final
from unittest.mock import patch

from aws.permissions import Context, allows, matching
from botocore.client import BaseClient


@dataclass(frozen=True, slots=True)
class Call:
    """One call of an operation, or one URL that was signed for it.

    Attributes:
        service: as boto3 names it.
        operation: as botocore's model names it.
        parameters: as boto3 was given them.
        is_url: whether nothing was called and a URL was signed.
    """

    service: str
    operation: str
    parameters: Mapping[str, Any]
    is_url: bool = False


@dataclass(frozen=True, slots=True)
class Need:
    """A permission that a call takes."""

    action: str
    resource: str
    context: tuple[tuple[str, str], ...] = ()


@contextmanager
def recording() -> Iterator[list[Call]]:
    """Record every call of botocore in this process, on every thread, until the end."""
    calls: list[Call] = []
    inside = threading.local()
    plain_call, plain_parameters = BaseClient._make_api_call, BaseClient._emit_api_params

    def call(self: Any, operation: str, parameters: Any) -> Any:  # noqa: ANN401 - botocore's
        calls.append(Call(self.meta.service_model.service_name, operation, dict(parameters)))
        inside.call = True
        try:
            return plain_call(self, operation, parameters)
        finally:
            inside.call = False

    def emit(self: Any, *given: Any, **named: Any) -> Any:  # noqa: ANN401 - botocore's
        parameters = plain_parameters(self, *given, **named)
        if not getattr(inside, "call", False):
            model = named.get("operation_model") or given[1]
            service = self.meta.service_model.service_name
            calls.append(Call(service, model.name, dict(parameters), is_url=True))
        return parameters

    with (
        patch.object(BaseClient, "_make_api_call", call),
        patch.object(BaseClient, "_emit_api_params", emit),
    ):
        yield calls


# --------------------------------------------------------------------------------- what is needed

_OBJECTS: Final = {
    "GetObject": "GetObject", "HeadObject": "GetObject", "PutObject": "PutObject",
    "DeleteObject": "DeleteObject", "CreateMultipartUpload": "PutObject",
    "UploadPart": "PutObject", "CompleteMultipartUpload": "PutObject",
    "AbortMultipartUpload": "AbortMultipartUpload",
}  # fmt: skip
_ROWS: Final = frozenset({"Query", "Scan", "GetItem", "PutItem", "DeleteItem", "UpdateItem"})
_TRANSACTED: Final = {
    "Put": "PutItem", "Delete": "DeleteItem", "Update": "UpdateItem",
    "ConditionCheck": "ConditionCheckItem",
}  # fmt: skip
_FREE: Final = frozenset({("sts", "GetCallerIdentity")})
"""What everybody may call who has credentials at all."""


def needs(  # noqa: PLR0911 - one line a service
    call: Call, *, region: str, account: str
) -> list[Need]:
    """Return the permissions that a call takes.

    Raises:
        LookupError: it is not known what this call takes.
    """
    given = call.parameters
    here = f"{region}:{account}"
    match call.service, call.operation:
        case ("dynamodb", _):
            return _tables(call, f"arn:aws:dynamodb:{here}:table/")
        case ("s3", _):
            return _objects(call)
        case ("iot-data", "Publish"):
            return [Need("iot:Publish", f"arn:aws:iot:{here}:topic/{given['topic']}")]
        case ("iot", _):
            return _things(call, f"arn:aws:iot:{here}:")
        case ("sts", "AssumeRole"):
            return [Need("sts:AssumeRole", given["RoleArn"])]
        case ("ecs", _):
            return _tasks(call, f"arn:aws:ecs:{here}:")
        case pair if pair in _FREE:
            return []
        case _:
            raise LookupError(f"what does {call.service} {call.operation} take?")


def _tables(call: Call, prefix: str) -> list[Need]:
    given, operation = call.parameters, call.operation
    if operation in {"BatchGetItem", "BatchWriteItem"}:
        return [Need(f"dynamodb:{operation}", prefix + table) for table in given["RequestItems"]]
    if operation == "TransactWriteItems":
        return [
            Need(f"dynamodb:{_TRANSACTED[kind]}", prefix + one["TableName"])
            for item in given["TransactItems"]
            for kind, one in item.items()
        ]
    if operation in _ROWS:
        return [Need(f"dynamodb:{operation}", prefix + given["TableName"])]
    raise LookupError(f"what does dynamodb {operation} take?")


def _objects(call: Call) -> list[Need]:
    given, operation = call.parameters, call.operation
    bucket = f"arn:aws:s3:::{given['Bucket']}"
    if operation in _OBJECTS:
        return [Need(f"s3:{_OBJECTS[operation]}", f"{bucket}/{given['Key']}")]
    if operation == "CopyObject":
        source = given["CopySource"]
        path = source if isinstance(source, str) else f"{source['Bucket']}/{source['Key']}"
        return [
            Need("s3:GetObject", f"arn:aws:s3:::{path}"),
            Need("s3:PutObject", f"{bucket}/{given['Key']}"),
        ]
    if operation == "DeleteObjects":
        keys = [one["Key"] for one in given["Delete"]["Objects"]]
        return [Need("s3:DeleteObject", f"{bucket}/{key}") for key in keys]
    if operation in {"ListObjectsV2", "HeadBucket"}:
        return [Need("s3:ListBucket", bucket, (("s3:prefix", given.get("Prefix", "")),))]
    raise LookupError(f"what does s3 {operation} take?")


def _things(call: Call, prefix: str) -> list[Need]:
    given, operation = call.parameters, call.operation
    action = f"iot:{operation}"
    thing = f"{prefix}thing/{given.get('thingName')}"
    match operation:
        case "DescribeEndpoint" | "CreateCertificateFromCsr":
            return [Need(action, "*")]
        case "CreateThing" | "DescribeThing" | "DeleteThing":
            return [Need(action, thing)]
        case "AddThingToThingGroup":
            return [
                Need(action, thing),
                Need(action, f"{prefix}thinggroup/{given['thingGroupName']}"),
            ]
        case "AttachThingPrincipal" | "DetachThingPrincipal":
            return [Need(action, given["principal"])]
        case "AttachPolicy" | "DetachPolicy":
            return [Need(action, given["target"])]
        case "UpdateCertificate" | "DeleteCertificate":
            return [Need(action, f"{prefix}cert/{given['certificateId']}")]
        case _:
            raise LookupError(f"what does iot {operation} take?")


def _tasks(call: Call, prefix: str) -> list[Need]:
    given, operation = call.parameters, call.operation
    cluster = str(given["cluster"]).rpartition("/")[2]
    match operation:
        case "RunTask":
            return [Need("ecs:RunTask", given["taskDefinition"])]
        case "StopTask":
            return [Need("ecs:StopTask", given["task"])]
        case "DescribeTasks":
            return [Need("ecs:DescribeTasks", task) for task in given["tasks"]]
        case "ListTasks":
            return [Need("ecs:ListTasks", "*", (("ecs:cluster", f"{prefix}cluster/{cluster}"),))]
        case _:
            raise LookupError(f"what does ecs {operation} take?")


# -------------------------------------------------------------------------------- what is granted


def refused(document: Mapping[str, Any], needed: list[Need]) -> set[Need]:
    """Return the needs that a policy does not meet."""
    return {one for one in needed if not allows(document, one.action, one.resource, _of(one))}


def idle(document: Mapping[str, Any], needed: list[Need]) -> set[str]:
    """Return what a policy allows for no need: `SID action`, for each action of each statement."""
    used = {
        f"{statement['Sid']} {one.action}"
        for one in needed
        for statement in matching(document, one.action, one.resource, _of(one))
    }
    granted = {
        f"{statement['Sid']} {action}"
        for statement in document["Statement"]
        for action in (
            [statement["Action"]] if isinstance(statement["Action"], str) else statement["Action"]
        )
    }
    return granted - used


def _of(need: Need) -> Context:
    return dict(need.context)
