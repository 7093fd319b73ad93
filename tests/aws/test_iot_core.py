"""IoT Core as it is played: rules of the template, one certificate a device, its policy."""

import asyncio
import base64
import copy
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from cloud import REGION, Cloud, stack
from processes import MOSQUITTO
from samples import command, reply

from windflower.adapters.aws.template import Stack
from windflower.adapters.local.broker_address import BrokerAddress
from windflower.adapters.local.mqtt import Arrival, Connection
from windflower.errors import BrokerRefused, BrokerUnavailable, ConfigError
from windflower.offline.certificates import Authority
from windflower.offline.iot_core import IotCore
from windflower.offline.topic_rules import rules_of
from windflower.wire.content import pack_inline, pack_records
from windflower.wire.values import Values

pytestmark = pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed")


@dataclass
class Played:
    core: IotCore
    cloud: Cloud
    problems: asyncio.Queue[tuple[str, str]]

    async def connected(self, name: str, *filters: str) -> tuple[Connection, asyncio.Queue[Any]]:
        self.core.broker.authority.issue(name)
        arrivals: asyncio.Queue[Arrival] = asyncio.Queue()
        connection = Connection(
            self.core.broker.address(name),
            name,
            filters=filters,
            on_message=arrivals.put_nowait,
            on_change=lambda _: None,
        )
        await connection.open(must_answer=True)
        return connection, arrivals

    async def rows(self, table: str, count: int) -> list[dict[str, Any]]:
        async with asyncio.timeout(20):
            while True:
                answer = await self.cloud.tables().call("scan", TableName=table)
                if len(answer["Items"]) >= count:
                    return list(answer["Items"])
                await asyncio.sleep(0.02)


@pytest.fixture
async def played(tables: Cloud, moto_url: str, tmp_path: Path) -> AsyncIterator[Played]:
    problems: asyncio.Queue[tuple[str, str]] = asyncio.Queue()
    core = IotCore(
        tmp_path,
        stack(),
        tables_url=moto_url,
        region=REGION,
        report=lambda rule, problem: problems.put_nowait((rule, problem)),
    )
    await core.start()
    yield Played(core, tables, problems)
    await core.stop()


async def test_a_reply_by_basic_ingest_and_one_by_the_broker_become_like_rows(
    played: Played,
) -> None:
    device, _ = await played.connected("d1")
    device.publish("$aws/rules/windflower_response/fit/client/d1/sent", b'{"id":"one"}')
    device.publish("flower/clients/d1", b'{"state":"gone"}')  # a last will takes this way
    (answer,) = await played.rows(played.cloud.names.responses, 1)
    (beat,) = await played.rows(played.cloud.names.presences, 1)
    await device.close()

    assert ("d1", "fit#one") == (answer["client"]["S"], answer["type"]["S"])
    assert {"client", "type", "path", "ttl"} == answer.keys()
    assert {"client", "time", "path", "ttl"} == beat.keys()


async def test_a_device_speaks_for_itself_and_hears_what_is_for_it(played: Played) -> None:
    device, heard = await played.connected("d1", "commands/client/d1/update")
    other, others = await played.connected("d2", "commands/client/+/update")
    device.publish("$aws/rules/windflower_response/fit/client/d2/sent", b'{"id":"forged"}')
    device.publish("commands/client/d2/update", b"forged")
    device.publish("$aws/rules/windflower_response/fit/client/d1/sent", b'{"id":"own"}')
    rows = await played.rows(played.cloud.names.responses, 1)
    cloud = Connection(
        played.core.broker.address("aws"),
        "aws",
        filters=(),
        on_message=lambda _: None,
        on_change=lambda _: None,
    )
    await played.core._topic_rules.connection.close()  # type: ignore[union-attr]
    await cloud.open(must_answer=True)
    for client in ("d1", "d2"):
        cloud.publish(f"commands/client/{client}/update", client.encode())
    async with asyncio.timeout(20):
        got = await heard.get(), await others.get()
    for connection in (device, other, cloud):
        await connection.close()

    assert ["fit#own"] == [row["type"]["S"] for row in rows]
    assert [b"d1", b"d2"] == [arrival.payload for arrival in got]
    assert others.empty()


async def test_a_certificate_of_another_authority_is_refused(
    played: Played, tmp_path: Path
) -> None:
    stranger = Authority(tmp_path / "stranger")
    certificate, key = stranger.issue("d1")
    address = replace(played.core.broker.address("d1"), certificate=certificate, key=key)
    connection = Connection(
        address, "d1", filters=(), on_message=lambda _: None, on_change=lambda _: None
    )
    with pytest.raises((BrokerUnavailable, BrokerRefused)):
        await connection.open(must_answer=True)
    await connection.close()


async def test_a_rule_whose_from_does_not_match_is_named(tmp_path: Path, tables: Cloud) -> None:
    del tables
    problems: asyncio.Queue[tuple[str, str]] = asyncio.Queue()
    broken = with_sql("ResponseRule", lambda sql: sql.replace("'+/client/+/sent'", "'+/+/sent'"))
    core = IotCore(
        tmp_path,
        broken,
        tables_url="http://127.0.0.1:1",
        region=REGION,
        report=lambda rule, problem: problems.put_nowait((rule, problem)),
    )
    await core.start()
    device, _ = await Played(core, None, problems).connected("d1")  # type: ignore[arg-type]
    device.publish("$aws/rules/windflower_response/fit/client/d1/sent", b'{"id":"one"}')
    async with asyncio.timeout(20):
        rule, problem = await problems.get()
    await device.close()
    await core.stop()

    assert "windflower_response" == rule
    assert "fit/client/d1/sent" in problem


def with_sql(rule: str, change: Any) -> Stack:  # noqa: ANN401 - a function of the text
    made = stack()
    resources = copy.deepcopy(made.resources)
    payload = resources[rule]["Properties"]["TopicRulePayload"]
    payload["Sql"] = change(payload["Sql"])
    return replace(made, resources=resources)


def test_a_rule_that_cannot_be_read_is_named() -> None:
    broken = with_sql("ResponseRule", lambda sql: sql.replace("SELECT", "SELEKT"))
    with pytest.raises(ConfigError, match="windflower_response"):
        rules_of(broken)


@pytest.mark.parametrize("is_map", [True, False])
async def test_a_map_of_a_message_fails_where_dynamodb_refuses_a_number(
    tmp_path: Path, moto_url: str, tables: Cloud, *, is_map: bool
) -> None:
    """Why the template's rules keep bytes: an app's metric may be any number."""
    tiny = pack_inline(pack_records([("m", Values("metrics", (("loss", 1e-200),)))], []))
    message = replace(reply(command()), content=tiny).to_bytes()
    as_map = with_sql("ResponseRule", lambda sql: sql.replace("encode(*, 'base64')", "*"))
    problems: asyncio.Queue[tuple[str, str]] = asyncio.Queue()
    core = IotCore(
        tmp_path,
        as_map if is_map else stack(),
        tables_url=moto_url,
        region=REGION,
        report=lambda *problem: problems.put_nowait(problem),
    )
    await core.start()
    played = Played(core, tables, problems)
    device, _ = await played.connected("d1")
    device.publish("$aws/rules/windflower_response/fit/client/d1/sent", message)
    if is_map:
        async with asyncio.timeout(20):
            problem = await problems.get()

        assert ("windflower_response", "DynamoDB refuses the number 1e-200") == problem
    else:
        (row,) = await played.rows(tables.names.responses, 1)

        assert message == base64.b64decode(row["path"]["S"])
    await device.close()
    await core.stop()


async def test_a_port_for_several_protocols_is_asked_for_mqtt(tmp_path: Path) -> None:
    """AWS IoT Core speaks MQTT with X.509 on 443 to whoever asks for it by ALPN."""
    certificate, key = Authority(tmp_path).issue("server")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    context.set_alpn_protocols(["http/1.1", "x-amzn-mqtt-ca"])
    asked: asyncio.Queue[str | None] = asyncio.Queue()

    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.put_nowait(writer.get_extra_info("ssl_object").selected_alpn_protocol())
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    got = []
    for alpn in (None, "x-amzn-mqtt-ca"):
        url = f"mqtts://127.0.0.1:{port}"
        address = BrokerAddress.parse(url, ca=tmp_path / "ca.pem", alpn=alpn)
        connection = Connection(
            address, "d1", filters=(), on_message=lambda _: None, on_change=lambda _: None
        )
        with pytest.raises(BrokerUnavailable):
            await connection.open(must_answer=True)
        await connection.close()
        async with asyncio.timeout(20):
            got.append(await asked.get())
    server.close()
    await server.wait_closed()

    assert [None, "x-amzn-mqtt-ca"] == got
