"""What a gateway shows of what is under way, over HTTP."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from processes import MOSQUITTO, Programs, events, until

pytestmark = pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed")


@contextmanager
def stream(page: str, **headers: str) -> Iterator[Iterator[tuple[int, dict[str, Any]]]]:
    """Yield the ids and summaries that are sent."""
    url = f"{page}/api/v1/stream"
    with httpx.stream("GET", url, headers=headers, timeout=60) as answer:

        def told() -> Iterator[tuple[int, dict[str, Any]]]:
            number = -1
            shown: dict[str, Any] = {"runs": {}}
            for line in answer.iter_lines():
                if line.startswith("id: "):
                    number = int(line.removeprefix("id: "))
                if line.startswith("data: "):
                    changes = json.loads(line.removeprefix("data: "))
                    shown |= changes | {"runs": shown["runs"] | changes.get("runs", {})}
                    yield number, dict(shown)

        yield told()


def test_a_run_is_seen_from_begin_to_end(programs: Programs, apps: Path, tmp_path: Path) -> None:
    state = tmp_path / "state"
    gateway = programs.windflower("serve", "--state", str(state), "--format", "json", name="serve")
    until(lambda: gateway.out, "the gateway")
    page = gateway.last["page"]
    pause = tmp_path / "pause"
    pause.touch()
    with stream(page) as told:
        _, empty = next(told)
        run = programs.windflower(
            *("run", str(apps / "averaging"), "--state", str(state), "--devices", "3"),
            *("-c", f"num-server-rounds=1 fails-on=1 pause-file='{pause}'", "--format", "json"),
            name="run",
        )
        until(lambda: events(state, "reply-failed"), "the device that fails")
        held = next(s for _, s in told if s["run"] and s["run"]["failed"])
        pause.unlink()
        assert 0 == run.wait(), run.err
        last, over = next((n, s) for n, s in told if s["run"]["state"] == "done")
    with stream(page, **{"last-event-id": str(last - 1)}) as told:
        again, _ = next(told)
    name = run.last["run-id"]
    shown = httpx.get(f"{page}/api/v1/runs/{name}").json()
    timeline = httpx.get(f"{page}/api/v1/runs/{name}/phases/1").json()["exchanges"]

    assert empty["run"] is None
    phase = held["run"]["phase"]
    assert ("train", 3, 2) == (phase["type"], phase["devices"], phase["waiting"])
    assert {"device-00", "device-02"} == {row["device"] for row in phase["waiting_for"]}
    assert phase["deadline_at"] == pytest.approx(phase["opened_at"] + 60.0, abs=1.0)
    assert last == again == over["seq"]
    assert (5, 1, 0) == (over["run"]["ok"], over["run"]["failed"], over["run"]["late"])
    assert ["train", "evaluate"] == [p["type"] for p in shown["phases"]]
    assert ["train", "evaluate"] == [m["stage"] for m in shown["measured"]]
    assert {"device-00": "ok", "device-01": "failed", "device-02": "ok"} == {
        exchange["device"]: exchange["outcome"] for exchange in timeline
    }
    assert 404 == httpx.get(f"{page}/api/v1/runs/9-none").status_code
    assert 404 == httpx.get(f"{page}/api/v1/runs/{name}/phases/9").status_code


def test_devices_are_listed_page_by_page(programs: Programs, tmp_path: Path) -> None:
    state = tmp_path / "state"
    gateway = programs.windflower("serve", "--state", str(state), "--format", "json", name="serve")
    until(lambda: gateway.out, "the gateway")
    card = gateway.last
    programs.windflower(
        *("agent", "--broker", card["broker"], "--gateway-key", card["key"]),
        *("--device-id", "crew", "--crew", "120", "--state", str(tmp_path / "crew")),
        name="crew",
    )
    until(lambda: len(events(state, "device-heard")) == 120, "the crew")

    def listed(**asked: str) -> dict[str, Any]:
        found = httpx.get(f"{card['page']}/api/v1/devices", params=asked)
        return dict(found.raise_for_status().json())

    first, second = listed(), listed(offset="100")
    names = [d["device"] for d in first["devices"] + second["devices"]]
    assert (100, 20, 120) == (len(first["devices"]), len(second["devices"]), first["count"])
    assert 120 == len(set(names))
    assert 10 == listed(search="crew-001", state="online")["count"]
    assert 0 == listed(state="offline")["count"]
    assert 1 == len(listed(limit="1")["devices"])
    assert 100 == len(listed(limit="100000", offset="none")["devices"])
