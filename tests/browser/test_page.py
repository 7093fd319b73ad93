"""What a person finds on the page: devices, runs, errors, and a page that everybody can use."""

import asyncio
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe
from browser.conftest import Watched, Watcher, photograph
from playwright.sync_api import expect
from processes import Programs

from windflower.adapters.local.http_server import HttpServer
from windflower.core.events import PhaseOpened
from windflower.core.roster import Presence
from windflower.observe import endpoint
from windflower.observe.endpoint import Looking

PHONE = {"viewport": {"width": 390, "height": 844}}
VIEWS = ("", "#/devices", "#/devices/device-01", "#/runs")
FOLDER = Path(endpoint.__file__).parent / "page"
EMPTY = ".chart:not(:has(canvas))"
MOVING = """
[...document.querySelectorAll('*')]
  .filter((e) => getComputedStyle(e).transitionDuration.split(', ').some((t) => t !== '0s')).length
"""


def test_devices_are_found_by_name_and_state_and_order(watched: Watched, watcher: Watcher) -> None:
    page = watcher.open(f"{watched.page}/#/devices")
    rows = page.locator("tbody tr")
    expect(rows).to_have_count(4)
    page.get_by_label("Name holds").fill("-02")
    expect(rows).to_have_count(1)
    page.get_by_label("Name holds").fill("")
    page.get_by_label("Order").select_option("by name")
    expect(rows.first).to_contain_text("device-00")
    page.get_by_label("State").select_option("offline")
    expect(page.locator("caption")).to_contain_text("device")
    page.get_by_label("State").select_option("failed")
    expect(rows).to_have_count(1)
    expect(rows.first).to_contain_text("device-01")
    expect(rows.first).to_contain_text(re.compile(r"evaluate.*ok.*\d\d:\d\d:\d\d"))


def test_a_curve_says_what_it_is_worth_where_it_is_pointed_at(
    watched: Watched, watcher: Watcher
) -> None:
    page = watcher.open(f"{watched.page}/#/runs/{watched.runs[0]}")
    bars = page.locator("figure", has_text="Replies per round")
    bars.locator(".u-over").hover()
    expect(bars.locator(".legend")).to_contain_text(
        re.compile(r"round \d: ok \d.*failed \d.*late \d")
    )
    page.mouse.move(0, 0)
    expect(bars.locator(".legend")).to_have_text("okfailedlate")


def test_nothing_goes_away_under_a_finger(watched: Watched, watcher: Watcher) -> None:
    """A live table is drawn anew every few seconds, also between a press and its click."""
    page = watcher.open(f"{watched.page}/#/devices")
    heard = page.locator("tbody tr").first.locator("td").nth(2)
    expect(heard).to_contain_text("ago")
    page.locator("tbody a").first.hover()
    page.mouse.down()
    before = heard.text_content()
    page.wait_for_timeout(3_500)  # longer than between two looks
    assert before == heard.text_content()
    page.mouse.up()
    expect(page.locator("main")).to_contain_text("What it did lately")
    page.go_back()
    page.locator("tbody tr").first.click(button="right")
    expect(heard).not_to_have_text(str(heard.text_content()), timeout=10_000)


def test_a_device_shows_its_last_error_with_its_traceback(
    watched: Watched, watcher: Watcher
) -> None:
    page = watcher.open(watched.page)
    page.locator("#lanes a", has_text="device-01").click()
    expect(page.locator("pre")).to_contain_text("told to fail")
    expect(page.locator("pre")).to_contain_text("client_app.py")
    expect(page.locator("main")).to_contain_text("What it did lately")
    photograph(page, "device")


def test_finished_runs_are_compared_side_by_side(watched: Watched, watcher: Watcher) -> None:
    page = watcher.open(f"{watched.page}/#/runs")
    for run in watched.runs:
        page.get_by_label(f"Compare run {run}").check()
    beside = page.get_by_role("region", name="Each run in a column")
    expect(beside.locator("tr", has_text="Rounds")).to_contain_text("4")
    expect(beside.locator("tr", has_text="State")).to_contain_text("done")
    photograph(page, "runs")


def test_a_timeline_of_a_chosen_phase_is_shown(watched: Watched, watcher: Watcher) -> None:
    page = watcher.open(f"{watched.page}/#/runs/{watched.runs[0]}")
    expect(page.locator("#lanes .lane")).to_have_count(4)
    page.locator("#phase").select_option("1")
    expect(page.locator("#lanes .lane", has_text="device-01")).to_contain_text("failed")
    parts = page.locator("#lanes .lane", has_text="device-00").locator(".track i")
    assert parts.count() >= 1


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("view", VIEWS)
def test_nobody_is_kept_out(watched: Watched, watcher: Watcher, view: str, scheme: str) -> None:
    page = watcher.open(f"{watched.page}/{view}", color_scheme=scheme)
    expect(page.locator("main h1").first).to_be_visible()
    expect(page.locator(EMPTY)).to_have_count(0)
    found = Axe().run(page)
    photograph(page, f"{view.strip('#/').replace('/', '-') or 'now'}-{scheme}")

    problems = [
        f"{v['id']}: {node['html'][:120]}"
        for v in found.response["violations"]
        for node in v["nodes"]
    ]
    assert [] == problems


@pytest.mark.parametrize("view", VIEWS)
def test_a_phone_shows_all_without_scrolling_sideways(
    watched: Watched, watcher: Watcher, view: str
) -> None:
    page = watcher.open(f"{watched.page}/{view}", **PHONE)
    expect(page.locator("main h1").first).to_be_visible()
    expect(page.locator(EMPTY)).to_have_count(0)
    photograph(page, f"{view.strip('#/').replace('/', '-') or 'now'}-phone")

    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_a_keyboard_is_enough(watched: Watched, watcher: Watcher) -> None:
    page = watcher.open(watched.page)
    page.keyboard.press("Tab")
    assert "To the content" == page.evaluate("document.activeElement.textContent")
    page.keyboard.press("Enter")
    assert "main" == page.evaluate("document.activeElement.id")
    page.get_by_role("link", name="Devices").focus()
    page.keyboard.press("Enter")
    expect(page.locator("h1")).to_have_text("Devices")
    page.get_by_text("To the content").focus()
    page.keyboard.press("Enter")
    expect(page.locator("h1")).to_have_text("Devices")
    page.get_by_label("Name holds").focus()
    page.keyboard.type("-03")
    expect(page.locator("tbody tr")).to_have_count(1)
    assert "search" == page.evaluate("document.activeElement.id")


def test_nothing_moves_for_who_does_not_want_it(watched: Watched, watcher: Watcher) -> None:
    page = watcher.open(watched.page, reduced_motion="reduce")
    expect(page.locator("main h1")).to_be_visible()

    assert 0 == page.evaluate(MOVING)


def test_an_address_that_makes_no_sense_is_no_end(watched: Watched, watcher: Watcher) -> None:
    page = watcher.open(f"{watched.page}/#/runs/%")
    expect(page.locator("main")).to_contain_text("No such run is known here")
    expect(page.locator("#link")).to_have_text("live")
    long = "9" * 5_000

    assert 200 == httpx.get(f"{watched.page}/api/v1/devices?offset={long}").status_code
    assert 404 == httpx.get(f"{watched.page}/api/v1/runs/x/phases/{long}").status_code


def test_charts_that_are_gone_are_let_go(watched: Watched, watcher: Watcher) -> None:
    page = watcher.open(watched.page)
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable")

    def listeners_after(times: int) -> float:
        for _ in range(times):
            page.get_by_role("link", name="Runs").click()
            expect(page.locator("h1")).to_have_text("Runs")
            page.get_by_role("link", name="Now").click()
            expect(page.locator("canvas").first).to_be_visible()
        session.send("HeapProfiler.collectGarbage")
        metrics = session.send("Performance.getMetrics")["metrics"]
        return float(next(m["value"] for m in metrics if m["name"] == "JSEventListeners"))

    few, many = listeners_after(3), listeners_after(12)

    assert many < few + 20


def test_the_page_is_small_and_strict(watched: Watched) -> None:
    answer = httpx.get(watched.page)
    policy = answer.headers["content-security-policy"]

    assert 100_000 > sum(path.stat().st_size for path in FOLDER.iterdir())
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert 404 == httpx.get(f"{watched.page}/page/..%2fendpoint.py").status_code
    assert 404 == httpx.get(f"{watched.page}/page/nothing.js").status_code
    assert 421 == httpx.get(watched.page, headers={"host": "elsewhere.example"}).status_code


DEVICES = 10_000
TOKEN = "0123-known-to-few"  # noqa: S105 - of a test


def large_fleet(*, token: str | None = None) -> Looking:
    """A fleet that nobody has here: 10,000 devices, every hundredth of which is late."""
    roster = [
        Presence(f"d{n:05}", 1e9 + n / 1e4, "b", 60.0, 2e9, n % 10 != 0, {"site": f"s{n % 7}"})
        for n in reversed(range(DEVICES))
    ]
    looking = Looking(lambda: roster, lambda: 1e9 + 30, version="0", token=token)
    run = {"run": "1-large"}
    looking.board.write({"event": "gateway-started", "at": 1e9, "broker": "mqtt://b"})
    looking.board.write({"event": "run-started", "at": 1e9, **run, "app": "large", "bundle": "b0"})
    opened = PhaseOpened(
        run="1-large", phase=1, type="train", round=1, devices=DEVICES, timeout_s=600.0
    )
    looking.board.write({"at": 1e9, **opened.to_json()})
    for n in range(DEVICES):
        line = {"at": 1e9 + 1, **run, "device": f"d{n:05}", "command": f"c{n}", "method": "fit"}
        looking.board.write({"event": "command-sent", **line, "again": False})
        if n % 100:
            ok = {**line, "event": "reply-accepted", "at": 1e9 + 2 + n / 1e4, "worked_s": 0.5}
            looking.board.write(ok)
    return looking


@contextmanager
def serving(looking: Looking) -> Iterator[str]:
    """Serve from a loop of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    server = HttpServer(looking.application(), host="127.0.0.1", port=0)
    port = asyncio.run_coroutine_threadsafe(server.start(), loop).result(20)
    yield f"http://127.0.0.1:{port}"
    asyncio.run_coroutine_threadsafe(server.stop(), loop).result(20)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


def test_ten_thousand_devices_are_a_page_like_any_other(watcher: Watcher) -> None:
    with serving(large_fleet()) as url:
        page = watcher.open(url)
        expect(page.locator("#fleet")).to_have_text("9,000 devices online, 1,000 offline")
        expect(page.locator(".why").first).to_contain_text("9,900 of 10,000 devices answered")
        expect(page.locator("#lanes .lane")).to_have_count(40)
        expect(page.locator("#lanes")).to_contain_text("and 9,960 devices that took no longer")
        page.get_by_role("link", name="Devices").click()
        expect(page.locator("tbody tr")).to_have_count(50)
        page.get_by_label("Name holds").fill("d0123")
        expect(page.locator("caption")).to_have_text("10 devices; 1 to 10")
        page.get_by_label("Name holds").fill("")
        page.get_by_label("State").select_option("offline")
        expect(page.locator("caption")).to_have_text("1,000 devices; 1 to 50")
        page.get_by_role("button", name="Later").click()
        expect(page.locator("caption")).to_have_text("1,000 devices; 51 to 100")
        photograph(page, "ten-thousand")

        assert page.evaluate("document.querySelectorAll('*').length") < 1_500
        page.close()


def test_runs_of_long_ago_have_dates_and_four_of_them_are_compared(watcher: Watcher) -> None:
    looking = Looking(list, lambda: 1e9 + 30, version="0", token=None)
    looking.board.write({"event": "gateway-started", "at": 1e9, "broker": "mqtt://b"})
    for number in range(1, 6):
        run = {"run": f"{number}-old", "at": 1e9 + number}
        looking.board.write({"event": "run-started", **run, "app": "old", "bundle": "b0"})
        ended = {"event": "run-ended", "success": True, "seconds": 0.5, "reason": "it ended"}
        looking.board.write({**run, **ended})
    with serving(looking) as url:
        page = watcher.open(url)
        expect(page.locator(".news time").first).to_have_text(re.compile(r"\d+/\d+/\d+, \d+:\d+:"))
        page.get_by_role("link", name="Runs").click()
        for number in range(1, 5):
            page.get_by_label(f"Compare run {number}-old").check()
        expect(page.get_by_label("Compare run 5-old")).to_be_disabled()
        page.get_by_label("Compare run 4-old").uncheck()
        page.get_by_label("Compare run 5-old").check()
        expect(page.get_by_role("region", name="Each run in a column")).to_contain_text("5-old")
        page.close()


def test_elsewhere_a_token_opens_the_page_and_is_shown_nowhere(watcher: Watcher) -> None:
    with serving(large_fleet(token=TOKEN)) as url:
        assert 401 == httpx.get(url).status_code
        assert 401 == httpx.get(f"{url}/api/v1/summary", params={"token": TOKEN}).status_code
        assert 401 == httpx.get(f"{url}/?token=wrong").status_code
        page = watcher.open(f"{url}/?token={TOKEN}")
        expect(page.locator("#fleet")).to_contain_text("9,000 devices online")

        assert f"{url}/" == page.url
        assert "" == page.evaluate("document.cookie")
        page.close()
        elsewhere = watcher.open("about:blank")
        elsewhere.set_content(f'<a href="{url}/?token={TOKEN}">the fleet</a>')
        elsewhere.get_by_text("the fleet").click()
        expect(elsewhere.locator("#fleet")).to_contain_text("9,000 devices online")
        elsewhere.close()


def test_a_report_is_a_page_that_needs_nobody(
    watched: Watched, watcher: Watcher, programs: Programs, tmp_path: Path
) -> None:
    written = programs.windflower(
        *("report", watched.runs[0], "--state", str(watched.state), "--out", str(tmp_path)),
        *("--format", "json"),
        name="report",
    )
    assert 0 == written.wait(), written.err
    page = watcher.open(Path(written.last["html"]).as_uri())
    expect(page.locator("h1")).to_have_text("averaging")
    expect(page.locator("main")).to_contain_text("told to fail")
    expect(page.locator(EMPTY)).to_have_count(0)
    page.locator("details", has_text="round 1, train").locator("summary").click()
    expect(page.locator("details[open] .lane").first).to_be_visible()
    photograph(page, "report")
    watcher.hosts.discard("None")  # a file has no host

    assert [] == Axe().run(page).response["violations"]
    assert "told to fail" in Path(written.last["csv"]).read_text()
