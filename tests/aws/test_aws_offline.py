"""The whole path through AWS, played on this machine, and the template's rules in it."""

import asyncio
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from cloud import REGION, Cloud
from processes import MOSQUITTO, Programs

from windflower.adapters.aws.template import Template
from windflower.cli.demo import example
from windflower.errors import ConfigError
from windflower.offline import object_store as store
from windflower.offline.iot_core import IotCore
from windflower.offline.rule_check import check_rules
from windflower.pipeline.behind_aws import behind_aws
from windflower.pipeline.job import JobRequest

pytestmark = pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed")

ROOT = Path(__file__).parents[2]
FAULTS: dict[str, tuple[str, str, str]] = {
    # what is wrong: what stands in the template, what takes its place, the rule that is named
    "no SQL": (
        "SELECT topic(3) AS client, concat",
        "SELEKT topic(3) AS client, concat",
        "response",
    ),
    "another device": ("topic(3) AS client, concat", "topic(2) AS client, concat", "response"),
    "another key": ("'#', id)", "'/', id)", "response"),
    "a field that is not there": ("'#', id)", "'#', command)", "response"),
    "no bytes": ("AS type, encode(*, 'base64') AS path", "AS type, id AS path", "response"),
    "over at once": ("+ 86400", "- 86400", "response"),
    "another topic": ("'+/client/+/sent'", "'+/devices/+/sent'", "response"),
    "no client": ("SELECT topic(3) AS client, timestamp", "SELECT timestamp", "heartbeat"),
    "seconds": ("timestamp() AS time", "floor(timestamp() / 1000) AS time", "heartbeat"),
    "an unknown function": ("timestamp() AS time", "now() AS time", "heartbeat"),
}


def with_fault(name: str) -> Template:
    before, after, _ = FAULTS[name]
    text = Template.load().text
    assert 1 == text.count(before), before
    return Template.parse(text.replace(before, after))


@pytest.fixture
async def core(
    tables: Cloud, moto_url: str, tmp_path: Path
) -> AsyncIterator[Callable[[Template], IotCore]]:
    del tables
    made: list[IotCore] = []

    def make(template: Template) -> IotCore:
        stack = template.resolve(region=REGION)
        made.append(
            IotCore(tmp_path, stack, tables_url=moto_url, region=REGION, report=lambda *_: None)
        )
        return made[0]

    yield make
    for one in made:
        await one.stop()


async def checked(core: Callable[[Template], IotCore], template: Template) -> None:
    one = core(template)
    await one.start()
    await check_rules(one, one.tables, template.resolve(region=REGION))


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_rule_that_does_not_do_its_work_is_named_before_anybody_waits(
    core: Callable[[Template], IotCore], fault: str
) -> None:
    with pytest.raises(ConfigError, match=f"windflower_{FAULTS[fault][2]}"):
        await checked(core, with_fault(fault))


async def test_the_templates_rules_do_their_work(
    core: Callable[[Template], IotCore], tables: Cloud
) -> None:
    await checked(core, Template.load())
    left = [
        (await tables.tables().call("scan", TableName=table))["Count"]
        for table in (tables.names.responses, tables.names.presences)
    ]

    assert [0, 0] == left


async def test_the_demo_ends_at_once_and_names_the_rule(tmp_path: Path) -> None:
    request = JobRequest(app=example("01-smartwatch"), state=tmp_path, devices=2)
    async with asyncio.timeout(60):
        with pytest.raises(ConfigError, match="windflower_response"):
            async with behind_aws(request, with_fault("another topic")):
                pass


def ack_trace(state: Path) -> list[tuple[str, str]]:
    """Return who did what in an exchange, as the tool says."""
    tool = [sys.executable, str(ROOT / "tools" / "ack_trace.py"), str(state)]
    said = subprocess.run(tool, capture_output=True, text=True, check=True).stdout
    return re.findall(r"^ +\d+ ms  (\w+) +(.+)$", said, re.MULTILINE)


def test_the_model_is_the_local_places_bit_for_bit(programs: Programs) -> None:
    results = []
    for place in ("local", "aws-offline"):
        state = str(programs.folder / place)
        program = programs.windflower(
            *("demo", "--place", place, "--state", state, "--format", "json"),
            *("--rounds", "3", "--devices", "4"),
            name=place,
        )

        assert 0 == program.wait(deadline_s=90), program.err
        results.append(program.last)

    found = ack_trace(programs.folder / "aws-offline" / "aws-offline")
    page = (ROOT / "docs" / "aws-design.md").read_text()
    shown = re.findall(r"^ +\d+ ms  (\w+) +(.+)$", page, re.MULTILINE)

    assert shown == found  # the page shows a real exchange
    assert ["mosquitto", "aws"] == [result["broker"] for result in results]
    assert results[0]["model-hash"] == results[1]["model-hash"]
    assert [{"ok": 4 + 3 * 7, "failed": 0, "late": 0}] * 2 == [r["replies"] for r in results]


async def test_what_is_not_installed_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, programs: Programs
) -> None:
    code = "import sys; sys.modules['boto3'] = None; from windflower.cli.main import main; main()"
    program = programs.start(
        *(sys.executable, "-c", code, "demo", "--place", "aws-offline", "--state", str(tmp_path)),
        name="without",
    )
    monkeypatch.setattr("shutil.which", lambda *_, **__: None)
    with pytest.raises(ConfigError, match=r"windflower\[aws-offline\]"):
        await store.ObjectStore(tmp_path, store.Role("arn:aws:iam::1:role/r", ())).start()

    assert 78 == program.wait()
    assert "pip install 'windflower[aws-offline]'" in program.err
    assert 1 == len(program.err.strip().splitlines())
