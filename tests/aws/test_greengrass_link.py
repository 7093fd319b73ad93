"""A device's link through the nucleus of a Greengrass core; the client is the real awsiotsdk."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from aws.nucleus import STACK, TOKEN, Nucleus
from processes import MOSQUITTO, Programs

from windflower.adapters.aws.template import Stack
from windflower.adapters.greengrass import device_link
from windflower.adapters.greengrass.device_link import GreengrassDeviceLink
from windflower.adapters.local.mqtt import Arrival, Connection
from windflower.errors import BrokerRefused, ConfigError
from windflower.offline.iot_broker import CLOUD, IotBroker
from windflower.ports import LinkDown, LinkUp, Received
from windflower.wire.topics import Ingest, Topics

pytestmark = pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed")

INGEST = Ingest("windflower_heartbeat", "windflower_response")
REPLY = "$aws/rules/windflower_response/fit/client/core-1/sent"
HEARTBEAT = "$aws/rules/windflower_heartbeat/flower/clients/core-1"


@dataclass
class Core:
    """A core, and IoT Core's own ear and mouth behind it."""

    folder: Path
    broker: IotBroker
    cloud: Connection
    heard: asyncio.Queue[Arrival]
    running: AsyncExitStack

    def nucleus(self, stack: Stack = STACK) -> Nucleus:
        address = self.broker.address("core-1")
        nucleus = Nucleus(self.folder / "ipc.socket", address, "core-1", stack=stack)
        self.running.push_async_callback(nucleus.stop)
        return nucleus

    def link(self, *, token: str = TOKEN, device: str = "core-1") -> GreengrassDeviceLink:
        nucleus = device_link.Nucleus(str(self.folder / "ipc.socket"), token)
        link = GreengrassDeviceLink(nucleus, device, topics=Topics(), ingest=INGEST)
        self.running.push_async_callback(link.close)
        return link

    async def said(self) -> tuple[str, bytes]:
        async with asyncio.timeout(20):
            arrival = await self.heard.get()
        return arrival.topic, arrival.payload


@pytest.fixture
async def core(tmp_path: Path) -> AsyncIterator[Core]:
    async with AsyncExitStack() as running:
        broker = IotBroker(tmp_path, STACK)
        running.push_async_callback(broker.stop)
        await broker.start()
        broker.authority.issue("core-1")
        heard: asyncio.Queue[Arrival] = asyncio.Queue()
        cloud = Connection(
            *(broker.address(CLOUD), CLOUD),
            filters=("$aws/rules/#",),
            on_message=heard.put_nowait,
            on_change=lambda _: None,
        )
        running.push_async_callback(cloud.close)
        await cloud.open(must_answer=True)
        yield Core(tmp_path, broker, cloud, heard, running)


async def told(link: GreengrassDeviceLink) -> LinkUp | LinkDown | Received:
    async with asyncio.timeout(20):
        return await link.next()


async def test_commands_come_and_replies_and_heartbeats_go(core: Core) -> None:
    core.nucleus()
    link = core.link()
    assert LinkUp() == await told(link)
    core.cloud.publish("commands/client/core-2/update", b"for another")
    core.cloud.publish("commands/client/core-1/update", bytes(range(256)))
    command = await told(link)
    link.answer("fit", b"an answer")
    link.beat(b"a heartbeat")

    assert isinstance(command, Received)
    assert bytes(range(256)) == command.body
    assert [(REPLY, b"an answer"), (HEARTBEAT, b"a heartbeat")] == [
        await core.said() for _ in range(2)
    ]


async def test_what_is_said_at_the_end_is_handed_over(core: Core) -> None:
    core.nucleus()
    link = core.link()
    await told(link)
    link.beat(b"gone")
    await link.close()

    assert (HEARTBEAT, b"gone") == await core.said()


async def test_a_nucleus_that_comes_later_and_goes_is_waited_for(core: Core) -> None:
    link = core.link()
    first = await told(link)
    link.answer("fit", b"to nobody")
    nucleus = core.nucleus()
    came = await until_up(link)
    await nucleus.stop()
    lost = await told(link)
    link.answer("fit", b"to nobody")
    core.nucleus()
    back = await until_up(link)
    link.answer("fit", b"to IoT Core")

    assert isinstance(first, LinkDown)
    assert isinstance(lost, LinkDown)
    assert "ipc.socket: " in first.reason
    assert "ipc.socket: " in lost.reason
    assert [LinkUp(), LinkUp()] == [came, back]
    assert (REPLY, b"to IoT Core") == await core.said()


async def until_up(link: GreengrassDeviceLink) -> LinkUp:
    while True:
        if isinstance(what := await told(link), LinkUp):
            return what


async def test_a_nucleus_that_answers_no_more_is_left(
    core: Core, monkeypatch: pytest.MonkeyPatch
) -> None:
    nucleus = core.nucleus()
    link = core.link()
    await told(link)
    nucleus.is_mute = True
    monkeypatch.setattr(device_link, "ANSWER_S", 0.05)
    link.beat(b"into the void")
    down = await told(link)

    assert isinstance(down, LinkDown)
    assert "no answer in time" in down.reason


async def test_a_nucleus_without_a_way_upstream_loses_one_message_and_not_the_link(
    core: Core,
) -> None:
    core.nucleus()
    link = core.link()
    await told(link)
    link.answer("fit", bytes(2**17 + 1))  # more than IoT Core takes
    link.answer("fit", b"an answer")

    assert (REPLY, b"an answer") == await core.said()


async def test_a_component_that_the_nucleus_does_not_know_is_refused(core: Core) -> None:
    core.nucleus()
    with pytest.raises(BrokerRefused, match=r"^the Greengrass nucleus refuses .* access denied"):
        await told(core.link(token="of-another"))  # noqa: S106 - nobody's


async def until_refused(link: GreengrassDeviceLink) -> None:
    while True:
        await told(link)
        link.answer("fit", b"x")
        link.beat(b"x")


def without(stack: Stack, old: str, new: str) -> Stack:
    resources = dict(stack.resources)
    component = resources["GreengrassComponent"]
    recipe = component["Properties"]["InlineRecipe"]
    assert old in recipe
    properties = {**component["Properties"], "InlineRecipe": recipe.replace(old, new)}
    resources["GreengrassComponent"] = {**component, "Properties": properties}
    return replace(stack, resources=resources)


@pytest.mark.parametrize(
    ("old", "named"),
    [
        ("commands/client/+/update", "commands/client/core-1/update"),
        ("_response/+/client/+/sent", REPLY),
        ("_heartbeat/flower/clients/+", HEARTBEAT),
    ],
)
async def test_what_the_recipe_does_not_allow_is_refused_with_its_topic(
    core: Core, old: str, named: str
) -> None:
    core.nucleus(without(STACK, old, "elsewhere"))
    with pytest.raises(BrokerRefused) as refused:
        await until_refused(core.link())

    assert named in str(refused.value)
    assert "check accessControl in its recipe" in str(refused.value)
    assert 1 == len(str(refused.value).splitlines())


def test_only_a_nucleus_knows_where_it_is_and_the_app_is_not_told() -> None:
    variable = device_link.SOCKET_VARIABLE
    environment = {variable: "/ipc.socket", "SVCUID": "secret"}

    assert device_link.Nucleus("/ipc.socket", "secret") == device_link.Nucleus.take(environment)
    assert {variable: "/ipc.socket"} == environment
    with pytest.raises(ConfigError, match="SVCUID"):
        device_link.Nucleus.take(environment)


RULES = ("--reply-rule", "windflower_response", "--heartbeat-rule", "windflower_heartbeat")


@pytest.mark.parametrize(
    ("before", "given", "said"),
    [
        ("", (), "needs --reply-rule and --heartbeat-rule"),
        ("", (*RULES, "--crew", "2"), "serves one device"),
        ("", RULES, "AWS_GG_NUCLEUS_DOMAIN_SOCKET_FILEPATH_FOR_COMPONENT and SVCUID"),
        ("sys.modules['awsiot'] = None; ", RULES, "pip install 'windflower[greengrass]'"),
    ],
)
def test_an_agent_that_cannot_be_a_component_says_why_in_one_line(
    programs: Programs, before: str, given: tuple[str, ...], said: str
) -> None:
    code = f"import sys; {before}from windflower.agent.__main__ import main; sys.exit(main())"
    arguments = ("--broker", "greengrass:", "--device-id", "core-1", "--state")
    agent = programs.start(
        *(sys.executable, "-c", code, *arguments, str(programs.folder / "state"), *given),
        name="agent",
    )

    assert 78 == agent.wait()
    assert said in agent.err.splitlines()[-1]


def test_an_agent_on_a_broker_of_its_own_does_not_load_what_a_component_needs(
    programs: Programs,
) -> None:
    code = "import sys, windflower.agent.__main__; print('awsiot' in sys.modules)"
    agent = programs.start(sys.executable, "-c", code, name="agent")

    assert (0, "False\n") == (agent.wait(), agent.out)
