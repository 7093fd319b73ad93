"""The whole of AWS that a fleet needs, on this machine, as the template sets it up."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from windflower.adapters.aws.template import Stack, Template
from windflower.adapters.local.access import Access
from windflower.offline.iot_core import IotCore
from windflower.offline.object_store import ObjectStore, Role
from windflower.offline.rule_check import check_rules
from windflower.offline.tables import Tables, make_bucket, make_tables, played

REGION: Final = "eu-west-1"
"""What the played region is called; nothing leaves this machine."""


@dataclass(frozen=True, slots=True)
class PlayedCloud:
    """A cloud at work.

    Attributes:
        stack: what it was set up from.
        environment: what a gateway finds in its environment.
        access: how devices get in.
    """

    stack: Stack
    environment: dict[str, str]
    access: Access


@asynccontextmanager
async def played_cloud(
    folder: Path,
    devices: Sequence[str],
    *,
    report: Callable[[str, str], None],
    template: Template | None = None,
) -> AsyncIterator[PlayedCloud]:
    """Play AWS as long as the block lasts. It begins empty.

    Args:
        folder: where everything goes.
        devices: who gets a certificate.
        report: told of rules that fail, with what went wrong.
        template: the template; the project's by default.

    Raises:
        ConfigError: something that is needed is not installed, or the template is not understood.
        TransportError: something did not start.
    """
    made = (template or Template.load()).resolve(region=REGION)
    async with AsyncExitStack() as running:
        tables, store = Tables(folder), ObjectStore(folder / "objects", _transfer_role(made))
        running.push_async_callback(tables.stop)
        running.push_async_callback(store.stop)
        await asyncio.gather(tables.start(), store.start())
        core = IotCore(folder / "iot", made, tables_url=tables.url, region=REGION, report=report)
        running.push_async_callback(core.stop)
        await core.start()
        environment = gateway_environment(
            made, tables_url=tables.url, store=store, publish_url=core.url
        )
        await asyncio.to_thread(_make_resources, made, environment)
        await check_rules(core, core.tables, made)
        for device in devices:
            core.broker.authority.issue(device)
        yield PlayedCloud(made, environment, _access(made, core))


def _transfer_role(stack: Stack) -> Role:
    policies = stack.properties("TransferRole")["Policies"]
    documents = tuple(policy["PolicyDocument"] for policy in policies)
    return Role(stack.outputs["TransferRoleArn"], documents)


def gateway_environment(
    stack: Stack, *, tables_url: str, store: ObjectStore, publish_url: str
) -> dict[str, str]:
    """Return what the template gives its task, and where the played services are."""
    (container,) = stack.properties("RunTask")["ContainerDefinitions"]
    return {
        **{one["Name"]: one["Value"] for one in container["Environment"]},
        "AWS_ENDPOINT_URL_DYNAMODB": tables_url,
        "AWS_ENDPOINT_URL_S3": store.url,
        "AWS_ENDPOINT_URL_STS": store.url,
        "AWS_ENDPOINT_URL_IOT_DATA_PLANE": publish_url,
        "AWS_ACCESS_KEY_ID": store.access_key,
        "AWS_SECRET_ACCESS_KEY": store.secret_key,
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def _access(stack: Stack, core: IotCore) -> Access:
    """Return how a device gets in: with its own certificate, and to the rules."""
    folder = core.broker.authority.folder
    flags = {
        "--ca": folder / "ca.pem",
        "--certificate": folder / "{device}.pem",
        "--key": folder / "{device}.key",
        "--reply-rule": stack.properties("ResponseRule")["RuleName"],
        "--heartbeat-rule": stack.properties("HeartbeatRule")["RuleName"],
    }
    url = f"mqtts://127.0.0.1:{core.broker.port}"
    return Access(url, tuple(f"{flag}={value}" for flag, value in flags.items()))


def _make_resources(stack: Stack, environment: dict[str, str]) -> None:
    keys = {
        "region": REGION,
        "access_key": environment["AWS_ACCESS_KEY_ID"],
        "secret_key": environment["AWS_SECRET_ACCESS_KEY"],
    }
    make_tables(played("dynamodb", environment["AWS_ENDPOINT_URL_DYNAMODB"], **keys), stack)
    make_bucket(played("s3", environment["AWS_ENDPOINT_URL_S3"], **keys), stack)
