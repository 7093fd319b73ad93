"""A run is watched from its begin to its end, whatever dies meanwhile."""

import os
import signal
from pathlib import Path

from browser.conftest import Watcher, photograph
from playwright.sync_api import expect
from processes import Program, Programs, events, until

SLOW_MS = 40_000


def serve(programs: Programs, state: Path, name: str) -> str:
    gateway = programs.windflower("serve", "--state", str(state), "--format", "json", name=name)
    until(lambda: gateway.out, "the gateway")
    return str(gateway.last["page"])


def test_a_run_is_seen_from_begin_to_end_and_who_is_missed_meanwhile(
    programs: Programs, watcher: Watcher, apps: Path, tmp_path: Path
) -> None:
    state, pause = tmp_path / "state", tmp_path / "pause"
    page = watcher.open(serve(programs, state, "serve"))
    expect(page.locator("#link")).to_have_text("live")
    expect(page.locator("#head")).to_contain_text("No run yet")
    broker = programs.folder / "serve.out"
    address = broker.read_text().split('"broker": "')[1].split('"')[0]
    first, second = ("--node-config", "partition-id=0"), ("--node-config", "partition-id=1")
    programs.agent("d0", address, *first)
    missed = programs.agent("d1", address, *second)
    expect(page.locator("#fleet")).to_have_text("2 devices online")

    pause.touch()
    run = programs.windflower(
        *("run", str(apps / "averaging"), "--state", str(state), "--deadline", "30"),
        *("--wait-for-offline", "-c", f"num-server-rounds=2 pause-file='{pause}'"),
        *("--format", "json"),
        name="run",
    )
    until(lambda: events(state, "phase-opened"), "the first phase")
    expect(page.locator(".why").first).to_contain_text("round 1, train")
    missed.kill()
    expect(page.locator(".why").first).to_contain_text("d1 (not heard since", timeout=SLOW_MS)
    expect(page.locator(".why").first).to_contain_text("at the latest, with or without")
    expect(page.locator("#news")).to_contain_text("d1 is lost")
    photograph(page, "missed")

    programs.agent("d1", address, *second)
    expect(page.locator("#news")).to_contain_text("d1 is back")
    pause.unlink()
    assert 0 == run.wait(), run.err
    expect(page.locator("#head")).to_contain_text("done")
    expect(page.locator("#numbers")).to_contain_text("Replies ok")
    expect(page.locator("#costs caption")).to_have_text("All 4 phases, and the latest 2 rounds")
    expect(page.locator("#lanes .lane")).to_have_count(2)
    page.locator("#phase").select_option("1")
    expect(page.locator("#lanes .lane", has_text="d1")).to_contain_text("ok")


def test_a_page_goes_on_by_itself_when_the_gateway_comes_back(
    programs: Programs, watcher: Watcher, tmp_path: Path
) -> None:
    state = tmp_path / "state"
    page = watcher.open(serve(programs, state, "first"))
    expect(page.locator("#link")).to_have_text("live")
    first = programs.folder / "first.out"
    os.kill(int(first.read_text().split('"pid": ')[1].split(",")[0]), signal.SIGKILL)
    expect(page.locator("#link")).to_contain_text("no answer since")
    again = serve(programs, state, "second")

    assert page.url.startswith(again)
    expect(page.locator("#link")).to_have_text("live", timeout=SLOW_MS)


def test_a_phase_whose_gateway_was_killed_is_told_from_its_first_beginning(
    programs: Programs, watcher: Watcher, apps: Path, tmp_path: Path
) -> None:
    state, pause = tmp_path / "state", tmp_path / "pause"
    pause.touch()
    page = watcher.open(serve(programs, state, "first"))
    run = programs.windflower(
        *("run", str(apps / "averaging"), "--state", str(state), "--devices", "2"),
        *("--format", "json", "-c", f"num-server-rounds=1 pause-file='{pause}'"),
        name="run",
    )
    until(lambda: len(events(state, "command-sent")) == 2, "the commands")
    first = programs.folder / "first.out"
    os.kill(int(first.read_text().split('"pid": ')[1].split(",")[0]), signal.SIGKILL)
    serve(programs, state, "second")
    until(lambda: len(events(state, "phase-opened")) == 2, "the phase, once more")
    pause.unlink()

    assert 0 == run.wait(), run.err
    expect(page.locator("#head")).to_contain_text("done", timeout=SLOW_MS)
    costs = page.locator("#costs tbody tr", has=page.get_by_role("cell", name="1", exact=True))
    expect(costs.first).to_contain_text("\u2265")
    expect(page.locator("#costs")).to_contain_text("it stopped meanwhile")
    page.locator("#phase").select_option("1")
    expect(page.locator("#lanes .lane")).to_have_count(2)
    photograph(page, "killed-gateway")


def test_runs_side_by_side_are_kept_up_to_date(
    programs: Programs, watcher: Watcher, apps: Path, tmp_path: Path
) -> None:
    state, pause = tmp_path / "state", tmp_path / "pause"
    pause.touch()
    page = watcher.open(f"{serve(programs, state, 'serve')}/#/runs")

    def run(name: str, config: str) -> Program:
        return programs.windflower(
            *("run", str(apps / "averaging"), "--state", str(state), "--devices", "2"),
            *("--format", "json", "-c", f"num-server-rounds=1 {config}"),
            name=name,
        )

    first = run("first", "")
    assert 0 == first.wait(), first.err
    second = run("second", f"pause-file='{pause}'")
    until(lambda: len(events(state, "phase-opened")) > 2, "the second run's first phase")
    for started in events(state, "run-started"):
        page.get_by_label(f"Compare run {started['run']}").check()
    beside = page.get_by_role("region", name="Each run in a column").locator("tr")
    expect(beside.filter(has_text="State").locator("td").nth(2)).to_have_text("running")
    expect(beside.filter(has_text="On AWS").locator("td").nth(2)).to_have_text("\u2013")
    pause.unlink()

    assert 0 == second.wait(), second.err
    expect(beside.filter(has_text="State").locator("td").nth(2)).to_have_text("done")
    expect(beside.filter(has_text="On AWS").locator("td").nth(2)).to_contain_text("$")
