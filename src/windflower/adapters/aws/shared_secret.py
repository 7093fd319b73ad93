"""A secret of the fleet that outlives its gateways: in the journal's table, made by the first."""

import secrets
from typing import Any

from botocore.exceptions import ClientError

from windflower.adapters.aws.account import Service
from windflower.adapters.aws.names import AwsNames
from windflower.wire.sealing import KEY_BYTES

_TAKEN = "ConditionalCheckFailedException"


async def shared_secret(service: Service, names: AwsNames, name: str) -> bytes:
    """Return a secret of the fleet; two gateways that begin at once get the same.

    Devices obey one key, so that it must not go with a task's disk. Whoever may read the journal's
    table may speak for the fleet.

    Raises:
        RefusedError, TransportError, ConfigError: as the service says.
    """
    key = {"fleet": {"S": f"{names.fleet}/secret/{name}"}, "sequence": {"N": "0"}}
    drawn = secrets.token_bytes(KEY_BYTES)
    try:
        await service.call(
            "put_item",
            expected=[_TAKEN],
            TableName=names.journal,
            Item={**key, "data": {"B": drawn}},
            ConditionExpression="attribute_not_exists(#sequence)",
            ExpressionAttributeNames={"#sequence": "sequence"},
            ReturnValuesOnConditionCheckFailure="ALL_OLD",
        )
    except ClientError as taken:
        item: dict[str, Any] = taken.response["Item"]
        return bytes(item["data"]["B"])
    return drawn
