"""A large fleet behind the limits of AWS IoT Core."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import paho.mqtt.client as paho
import pytest
from aws.limiter import (
    PUBLISHES_A_SECOND,
    Allowance,
    Limiter,
    Refused,
    check_connect,
    check_subscribe,
)
from chaos.mqtt_client import MqttClient
from chaos.packets import Packet, variable_integer
from cloud import REGION, stack
from conftest import needs_mosquitto
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from processes import Programs, until
from scale.asking import ScriptedRun
from scale.fleet import CrewProcess

from windflower.adapters.aws.account import Service
from windflower.adapters.local.broker import LocalBroker
from windflower.adapters.local.http_server import HttpServer
from windflower.compose import StateFolder
from windflower.core.ledger import Settlement
from windflower.errors import RefusedError, StoreUnavailable
from windflower.offline.cloud import gateway_environment
from windflower.offline.object_store import ObjectStore
from windflower.offline.publish_endpoint import publish_endpoint
from windflower.offline.tables import Tables, make_tables, played
from windflower.offline.topic_rules import PUTS, TopicRules, rules_of
from windflower.wire.content import Content

DEVICES: Final = 1000

pytestmark = needs_mosquitto


def test_an_allowance_is_a_second_of_its_rate_and_grows_again() -> None:
    now = 0.0
    allowance = Allowance(100, lambda: now)
    taken = [sum(allowance.take(1) for _ in range(250))]
    now = 0.5
    taken.append(sum(allowance.take(1) for _ in range(250)))
    now = 9.0
    taken.append(sum(allowance.take(1) for _ in range(250)))
    slow = Allowance(1000, lambda: now)

    assert [100, 50, 100] == taken
    assert [0.0, 0.5, 1.5] == [slow.owe(1000), slow.owe(500), slow.owe(1000)]


def packet(body: bytes) -> Packet:
    head = b"\x80" + variable_integer(len(body))
    return Packet(head + body, len(head))


def test_what_iot_core_does_not_know_is_refused() -> None:
    filters = b"".join(b"\x00\x01a\x01" for _ in range(9))
    connect = b"\x00\x04MQTT\x05\x02\x00\x3c"
    with pytest.raises(Refused, match="identifier"):
        check_subscribe(packet(b"\x00\x01\x02\x0b\x07" + filters[:4]))
    with pytest.raises(Refused, match="9 filters"):
        check_subscribe(packet(b"\x00\x01\x00" + filters))
    with pytest.raises(Refused, match="hour"):
        check_connect(packet(connect + b"\x05\x11\x00\x00\x0e\x11"))
    check_subscribe(packet(b"\x00\x01\x00" + filters[:32]))
    check_connect(packet(connect + b"\x05\x11\x00\x00\x0e\x10"))


async def test_a_burst_beyond_the_limit_is_discarded(tmp_path: Path) -> None:
    broker = LocalBroker(tmp_path)
    limiter = Limiter((await broker.start()).port)
    await limiter.start()
    url = f"mqtt://127.0.0.1:{limiter.port}"

    def burst() -> int:
        with MqttClient(url, "listener", "t") as listener:
            sender = paho.Client(
                CallbackAPIVersion.VERSION2,
                client_id="sender",
                protocol=MQTTProtocolVersion.MQTTv5,
            )
            sender.connect("127.0.0.1", limiter.port)
            sender.loop_start()
            for number in range(300):
                sender.publish("t", b"%d" % number)
            until(lambda: limiter.discarded > 100, "what is discarded")
            sender.disconnect()
            sender.loop_stop()
            return len(set(listener.received))

    received = await asyncio.to_thread(burst)
    await limiter.stop()
    await broker.stop()

    assert received <= 2 * PUBLISHES_A_SECOND
    assert limiter.refused == []


@asynccontextmanager
async def limited_cloud(
    programs: Programs, object_store: ObjectStore
) -> AsyncIterator[tuple[Limiter, dict[str, str]]]:
    """Yield the limiter before a played cloud, and a gateway's environment."""
    made, tables = stack(), Tables(programs.folder / "tables")
    broker = LocalBroker(programs.folder / "broker")
    address = await broker.start()
    await tables.start()
    client = played("dynamodb", tables.url, region=REGION, access_key="a", secret_key="b")  # noqa: S106
    await asyncio.to_thread(make_tables, client, made)
    limiter, pool = Limiter(address.port), ThreadPoolExecutor(PUTS)
    await limiter.start()
    service = Service(client, pool, unavailable=StoreUnavailable, refused=RefusedError)
    failed: list[tuple[str, str]] = []
    rules = TopicRules(address, rules_of(made), service, lambda *problem: failed.append(problem))
    await rules.open()
    endpoint = HttpServer(publish_endpoint(rules.connection), host="127.0.0.1", port=0)
    url = f"http://127.0.0.1:{await endpoint.start()}"
    environment = gateway_environment(
        made, tables_url=tables.url, store=object_store, publish_url=url
    )
    try:
        yield limiter, environment
    finally:
        await limiter.stop()
        await endpoint.stop()
        await rules.close()
        pool.shutdown()
        await tables.stop()
        await broker.stop()
    assert [] == failed


def ask_all(
    programs: Programs, port: int, environment: dict[str, str]
) -> tuple[list[Settlement], list[str]]:
    """Begin a gateway and a crew, ask every device, and return what came of it."""
    state = StateFolder(programs.folder / "gateway")
    programs.windflower(
        *("serve", "--state", str(state.path), "--format", "json"), name="gateway", **environment
    )
    until(state.card.exists, "the gateway")
    crew = CrewProcess(
        programs,
        f"mqtt://127.0.0.1:{port}",
        *("--reply-rule", "windflower_response", "--heartbeat-rule", "windflower_heartbeat"),
        name="crew",
        size=DEVICES,
        interval_s=60.0,
    )
    line = state.line()
    line.wait_for_devices(DEVICES, timeout_s=120)
    run = ScriptedRun.begin(line, crew.devices)
    settled = list(run.ask("behind limits", Content()))
    run.end()
    line.close()
    return settled, crew.works


@pytest.mark.slow
async def test_a_round_with_a_thousand_devices_passes_behind_the_limits_of_iot_core(
    programs: Programs, object_store: ObjectStore
) -> None:
    async with limited_cloud(programs, object_store) as (limiter, environment):
        settled, works = await asyncio.to_thread(ask_all, programs, limiter.port, environment)
        programs.end_all()

    assert DEVICES == sum(s.is_good for s in settled)
    assert {s.id: 1 for s in settled} == Counter(works)
    assert limiter.doubled > 0
    assert (0, []) == (limiter.discarded, limiter.refused)
