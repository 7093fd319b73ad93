"""What Prometheus reads of a gateway."""

import json
import re
from pathlib import Path

import httpx
import pytest
from processes import MOSQUITTO, Program, Programs, until
from prometheus_client.parser import text_string_to_metric_families

pytestmark = pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed")

DASHBOARD = Path(__file__).parents[2] / "deploy" / "grafana" / "windflower.json"


def serve(programs: Programs, name: str = "serve", **environment: str) -> Program:
    gateway = programs.windflower(
        *("serve", "--state", str(programs.folder / "state"), "--format", "json"),
        name=name,
        **environment,
    )
    until(lambda: gateway.out, "the gateway")
    return gateway


def numbers(page: str, token: str | None = None) -> dict[str, float]:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    answer = httpx.get(f"{page}/metrics", headers=headers)
    text = answer.raise_for_status().text
    return {
        sample.name + "".join(f" {k}={v}" for k, v in sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_the_numbers_of_a_run_are_counted(programs: Programs, apps: Path) -> None:
    gateway = serve(programs)
    page = gateway.last["page"]
    run = programs.windflower(
        *("run", str(apps / "averaging"), "--state", str(programs.folder / "state")),
        *("--devices", "3", "-c", "num-server-rounds=2 fails-on=1", "--format", "json"),
        name="run",
    )
    assert 0 == run.wait(), run.err
    seen = numbers(page)

    assert run.last["replies"] == {
        "ok": sum(v for k, v in seen.items() if re.match(r"windflower_replies_total .*=ok", k)),
        "failed": seen["windflower_replies_total method=fit outcome=failed"],
        "late": 0,
    }
    assert 2 == seen["windflower_rounds_total"]
    assert 1 == seen["windflower_runs_total outcome=done"]
    assert 0 == seen["windflower_runs_open"]
    assert 3 == seen["windflower_phase_devices type=train"]
    assert 2 == seen["windflower_phase_duration_seconds_count type=train"]
    assert 4 == seen["windflower_work_duration_seconds_count method=fit"]
    assert 0 < seen["windflower_payload_bytes_total direction=sent path=message"]
    assert 0 < seen["windflower_payload_bytes_total direction=heard path=message"]
    assert 3 == seen["windflower_device_heartbeat_age_seconds_count"]
    assert 3 == seen["windflower_devices state=online"] + seen["windflower_devices state=offline"]
    assert (
        run.last["metrics"]["train"]["rounds-seen"]
        == seen["windflower_round_metric name=rounds-seen stage=train"]
    )
    assert not [k for k in seen if "device-0" in k]
    named = set(re.findall(r"windflower_\w+", DASHBOARD.read_text()))
    assert named
    assert set() == named - {key.split(" ")[0] for key in seen}


def test_others_need_a_token_and_the_port_stays(programs: Programs) -> None:
    gateway = serve(programs, WINDFLOWER_PAGE_TOKEN="t0ken")  # noqa: S106 - of a test
    page = gateway.last["page"]
    with pytest.raises(httpx.HTTPStatusError, match="401"):
        numbers(page)
    assert "windflower_runs_open" in numbers(page, "t0ken")
    gateway.end()

    assert page == serve(programs, "serve-2").last["page"]


def test_an_address_that_others_reach_is_refused_without_a_token(programs: Programs) -> None:
    gateway = programs.windflower(
        *("serve", "--state", str(programs.folder / "state")),
        name="serve",
        WINDFLOWER_PAGE="0.0.0.0:0",
    )

    assert 78 == gateway.wait()
    assert "page 0.0.0.0:0 can be reached by others: set page_token" in gateway.err


def test_the_dashboard_is_what_grafana_reads() -> None:
    dashboard = json.loads(DASHBOARD.read_text())

    assert "windflower" == dashboard["title"]
    assert all(panel["targets"] for panel in dashboard["panels"])
