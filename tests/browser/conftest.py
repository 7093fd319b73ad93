"""A real browser, and a fleet to look at."""

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page, sync_playwright
from processes import MOSQUITTO, Programs, events, until

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
SCREENSHOTS = Path(os.environ.get("WINDFLOWER_SCREENSHOTS", "build/screenshots"))

QUIET = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
"""A browser in a test asks nobody but the page."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs programs that are not installed."""
    for name, found in {"chromium": CHROMIUM, "mosquitto": MOSQUITTO}.items():
        if found is None:
            for item in items:
                item.add_marker(pytest.mark.skip(reason=f"{name} is not installed"))


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Chromium, without a window."""
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=list(QUIET))
        yield started
        started.close()


@dataclass
class Watcher:
    """Opens pages, and notes whatever a person who looks would complain of."""

    browser: Browser
    complaints: list[str] = field(default_factory=list)
    hosts: set[str] = field(default_factory=set)

    def open(self, url: str, **options: Any) -> Page:  # noqa: ANN401 - as the browser's own
        """Open a page as a new visitor."""
        options = {"viewport": {"width": 1280, "height": 900}, **options}
        page = self.browser.new_context(**options).new_page()
        page.set_default_timeout(20_000)
        page.on("console", lambda said: self._note(said.type, said.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", lambda request: self.hosts.add(str(urlsplit(request.url).hostname)))
        page.goto(url)
        return page

    def _note(self, kind: str, text: str) -> None:
        if kind in ("error", "warning") and "Failed to load resource" not in text:
            self.complaints.append(f"{kind}: {text}")


@pytest.fixture
def watcher(browser: Browser) -> Iterator[Watcher]:
    """A person who looks; nothing may be wrong, and nobody else may be asked."""
    person = Watcher(browser)
    yield person
    for context in browser.contexts:
        context.close()
    assert [] == person.complaints
    assert {"127.0.0.1"} >= person.hosts


@dataclass
class Watched:
    """A gateway that two runs went through, and what it is called."""

    page: str
    state: Path
    runs: list[str]


@pytest.fixture(scope="session")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """Two runs of real devices, one of which failed each time it was asked."""
    folder = tmp_path_factory.mktemp("watched")
    programs = Programs(folder)
    state = folder / "state"
    gateway = programs.windflower("serve", "--state", str(state), "--format", "json", name="serve")
    until(lambda: gateway.out, "the gateway")
    apps = Path(__file__).parents[1] / "apps"
    runs = []
    for number in (1, 2):
        run = programs.windflower(
            *("run", str(apps / "averaging"), "--state", str(state), "--devices", "4"),
            *("--seed", str(number), "-c", f"num-server-rounds={2 + number} fails-on=1"),
            *("--format", "json"),
            name=f"run-{number}",
        )
        assert 0 == run.wait(), run.err
        runs.append(run.last["run-id"])
    assert events(state, "reply-failed")
    yield Watched(gateway.last["page"], state, runs)
    programs.end_all()


def photograph(page: Page, name: str) -> None:
    """Keep a picture for people to look at."""
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SCREENSHOTS / f"{name}.png", full_page=True)
