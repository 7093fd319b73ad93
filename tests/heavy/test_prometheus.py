"""A real Prometheus scrapes a gateway, and answers every question that the dashboard asks."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import httpx
import pytest
from processes import MOSQUITTO, Programs, free_port, until

PROMETHEUS, PROMTOOL = shutil.which("prometheus"), shutil.which("promtool")
DASHBOARD = Path(__file__).parents[2] / "deploy" / "grafana" / "windflower.json"
NEVER = ("refused", "unfit", 'outcome="failed"', 'again="true"')
"""Words of questions about what does not happen in a run that goes well."""

CONFIG = """\
global: {{scrape_interval: 500ms, scrape_timeout: 500ms}}
scrape_configs:
  - job_name: windflower
    static_configs: [{{targets: ["{target}"]}}]
"""

pytestmark = [
    pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed"),
    pytest.mark.skipif(PROMETHEUS is None or PROMTOOL is None, reason="prometheus is not there"),
]


def questions() -> list[str]:
    board = json.loads(DASHBOARD.read_text())
    return [target["expr"] for panel in board["panels"] for target in panel.get("targets", ())]


def answer(prometheus: str, question: str) -> list[Any]:
    """Return what Prometheus answers now; a question that it cannot read is an error."""
    said = httpx.get(f"{prometheus}/api/v1/query", params={"query": question}).raise_for_status()
    return list(said.json()["data"]["result"])


def test_each_panel_of_the_dashboard_has_something_to_show(
    programs: Programs, apps: Path, tmp_path: Path
) -> None:
    gateway = programs.windflower(
        "serve", "--state", str(tmp_path / "state"), "--format", "json", name="serve"
    )
    until(lambda: gateway.out, "the gateway")
    page = gateway.last["page"]
    (tmp_path / "prometheus.yml").write_text(CONFIG.format(target=page.removeprefix("http://")))
    address = f"127.0.0.1:{free_port()}"
    programs.start(
        *(str(PROMETHEUS), f"--config.file={tmp_path / 'prometheus.yml'}"),
        *(f"--storage.tsdb.path={tmp_path / 'series'}", f"--web.listen-address={address}"),
        name="prometheus",
    )
    prometheus = f"http://{address}"

    def is_scraped() -> bool:
        try:
            return bool(answer(prometheus, "windflower_build_info"))
        except httpx.HTTPError:
            return False

    until(is_scraped, "the first scrape")
    run = programs.windflower(
        *("run", str(apps / "averaging"), "--state", str(tmp_path / "state"), "--devices", "3"),
        *("-c", "num-server-rounds=3", "--format", "json"),
        name="run",
    )
    assert 0 == run.wait(), run.err
    over = 'windflower_runs_total{outcome="done"} == 1'
    until(lambda: answer(prometheus, f"count_over_time(({over})[1m:500ms]) > 2"), "its end")
    # Of what never happened there is no series: who asks for it is answered with nothing.
    unanswered = [question for question in questions() if not answer(prometheus, question)]

    assert [] == [q for q in unanswered if not any(word in q for word in NEVER)]


def test_its_own_tool_finds_nothing_wrong_with_the_numbers(
    programs: Programs, tmp_path: Path
) -> None:
    gateway = programs.windflower(
        "serve", "--state", str(tmp_path / "state"), "--format", "json", name="serve"
    )
    until(lambda: gateway.out, "the gateway")
    text = httpx.get(f"{gateway.last['page']}/metrics").raise_for_status().content
    checked = subprocess.run(
        [str(PROMTOOL), "check", "metrics"],
        input=text,
        capture_output=True,
        check=False,
        timeout=60,
    )

    assert (0, b"") == (checked.returncode, checked.stdout + checked.stderr)
