"""Says of a stack's rules, before anybody waits for them, whether they carry what devices say."""

import asyncio
import time
from dataclasses import dataclass
from typing import Any, Final

from windflower.adapters.aws.account import Service
from windflower.adapters.aws.rows import Row
from windflower.adapters.aws.template import Stack
from windflower.adapters.local.device_link import MqttDeviceLink
from windflower.errors import ConfigError
from windflower.offline.iot_core import IotCore
from windflower.wire.messages import Heartbeat, Reply
from windflower.wire.topics import Ingest

PROBE: Final = "probe"
"""The device that speaks here and nowhere else."""

WAIT_S: Final = 10.0

_ID: Final = "0" * 32


@dataclass(frozen=True, slots=True)
class _Expected:
    """What a rule is to write, and where."""

    rule: str
    table: str
    key: dict[str, str]
    body: bytes


async def check_rules(core: IotCore, tables: Service, stack: Stack) -> None:
    """Let a device say one heartbeat and one reply, and look at the rows.

    Raises:
        ConfigError: names the rule, and what is wrong with what it wrote.
    """
    core.broker.authority.issue(PROBE)
    beat = Heartbeat(PROBE, time.time(), "boot", "connect", 60.0)
    reply = Reply(PROBE, _ID, "fit", "run", 1)
    rules = {
        kind: str(stack.properties(name)["RuleName"])
        for kind, name in (("heartbeat", "HeartbeatRule"), ("reply", "ResponseRule"))
    }
    link = MqttDeviceLink(
        core.broker.address(PROBE),
        last_will=Heartbeat(PROBE, time.time(), "boot", "gone", 60.0),
        ingest=Ingest(**rules),
    )
    try:
        await link.next()
        link.beat(beat.to_bytes())
        link.answer("fit", reply.to_bytes())
        for expected in (
            _Expected(
                rules["heartbeat"],
                stack.outputs["FleetTable"],
                {"client": PROBE},
                beat.to_bytes(),
            ),
            _Expected(
                rules["reply"],
                stack.outputs["ResponsesTable"],
                {"client": PROBE, "type": f"fit#{_ID}"},
                reply.to_bytes(),
            ),
        ):
            await _check(core, tables, expected)
    finally:
        await link.close()


async def _check(core: IotCore, tables: Service, expected: _Expected) -> None:
    item = await _written(core, tables, expected)
    row = Row.read(item)
    if row.body != expected.body:
        problem = "its column path does not hold the message's bytes"
    elif "type" not in expected.key and not 0 <= time.time() * 1000 - row.time_ms <= WAIT_S * 2000:
        problem = f"its column time is {row.time_ms}, not Unix milliseconds"
    elif row.ttl <= time.time():
        problem = f"its column ttl is {row.ttl}: its rows are over when they are written"
    else:
        key = {name: {"S": value} for name, value in expected.key.items()}
        await tables.call("delete_item", TableName=expected.table, Key=key)
        return
    raise ConfigError(f"the rule {expected.rule}: {problem}", key="template")


async def _written(core: IotCore, tables: Service, expected: _Expected) -> dict[str, Any]:
    """Wait for the row, which has to have the key that a gateway expects."""
    for _ in range(int(WAIT_S / 0.05)):
        if problem := core.problems.get(expected.rule):
            raise ConfigError(f"the rule {expected.rule} failed: {problem}", key="template")
        for item in (await tables.call("scan", TableName=expected.table))["Items"]:
            wrote = {name: item[name].get("S") for name in expected.key}
            if wrote == expected.key:
                return dict(item)
            raise ConfigError(
                f"the rule {expected.rule} wrote a row for {wrote}, not for {expected.key}",
                key="template",
            )
        await asyncio.sleep(0.05)
    raise ConfigError(f"the rule {expected.rule} wrote no row", key="template")
