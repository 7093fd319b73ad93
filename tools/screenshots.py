"""Takes the pictures of the README: a demo that stays, in which a watch is lost.

    python tools/screenshots.py [FOLDER]      docs/screenshots

Needs what `make test-browser` installs.
"""

import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

ROOT = Path(__file__).resolve().parents[1]
FOLDER = Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "docs" / "screenshots")
WINDOW = {"width": 1280, "height": 1010}
PHONE = {"width": 390, "height": 844}
LOOKS: dict[str, dict[str, Any]] = {
    "light": {"color_scheme": "light", "viewport": WINDOW},
    "dark": {"color_scheme": "dark", "viewport": WINDOW},
    "phone": {"color_scheme": "light", "viewport": PHONE, "device_scale_factor": 2},
}
ROUNDS = 12


def main() -> None:
    """Start the demo, lose a watch, take the pictures, end the demo."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="windflower-") as state:
        log = Path(state) / "said"
        command = [sys.executable, "-m", "windflower.cli.main", "demo", "--stay", "--state", state]
        with log.open("wb") as said:
            demo = subprocess.Popen(command, stderr=said)
        try:
            page = await_text(log, r"page (http\S+)")
            pid = await_text(log, r"kill -9 (\d+)")
            await_text(log, rf"round ({ROUNDS}):")
            subprocess.run(["kill", "-9", pid], check=True)
            await_text(log, "(is lost)")
            photograph(page)
        finally:
            demo.send_signal(signal.SIGINT)
            demo.wait(30)


def await_text(log: Path, pattern: str) -> str:
    """Return what the demo says, once it does."""
    for _ in range(600):
        found = re.search(pattern, log.read_text())
        if found:
            return found.group(1)
        time.sleep(0.1)
    raise SystemExit(f"waited 60 s in vain for {pattern}")


def photograph(url: str) -> None:
    """Take a picture of each look."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path="/usr/bin/chromium", args=["--no-sandbox", "--disable-gpu"]
        )
        pages = {name: browser.new_context(**look).new_page() for name, look in LOOKS.items()}
        for page in pages.values():
            page.goto(url)
        for name, page in pages.items():
            page.locator(".why", has_text="not heard since").first.wait_for()
            page.wait_for_timeout(1_500)
            page.screenshot(path=FOLDER / f"{name}.png")
        browser.close()


if __name__ == "__main__":
    main()
