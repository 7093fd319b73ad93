"""How many apps of a folder run, and why the others do not."""

import shutil
import sys
from pathlib import Path

import pytest
from processes import MOSQUITTO, Programs

TOOL = Path(__file__).parents[2] / "tools" / "pass_rate.py"

pytestmark = pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed")


@pytest.fixture
def folder(apps: Path, tmp_path: Path) -> Path:
    """A folder of apps: one that runs, and others."""
    made = tmp_path / "apps"

    def copy(name: str, **changes: tuple[str, str]) -> Path:
        app = made / name
        shutil.copytree(apps / "averaging", app)
        for old, new in changes.values():
            for file in (app / "pyproject.toml", app / "averaging" / "client_app.py"):
                file.write_text(file.read_text().replace(old, new))
        return app

    copy("deep/down/works")
    copy("lacks", asked=('["flwr>=1.31"]', '["flwr", "windflower-nowhere>=2"]'),
         imported=("import time\n", "import time\nimport windflower_nowhere\n"))  # fmt: skip
    copy("imports", imported=("import time\n", "import time\nimport windflower_nowhere\n"))
    copy(
        "downloads",
        raised=("    number = int", "    raise ConnectionError('no way')\n    number = int"),
    )
    slow = copy("slow")
    (slow / "pyproject.toml").write_text(
        (slow / "pyproject.toml")
        .read_text()
        .replace('pause-file = ""', f'pause-file = "{slow / "pyproject.toml"}"')
    )
    (copy("broken") / "pyproject.toml").write_text("[tool.flwr.app\n")
    headless = copy("headless") / "pyproject.toml"
    headless.write_text(headless.read_text().replace("serverapp =", "somethingelse ="))
    (made / "library").mkdir()
    (made / "library" / "pyproject.toml").write_text("[project]\nname = 'no app'\n")
    return made


def test_each_app_is_tried_and_judged(programs: Programs, folder: Path) -> None:
    tool = programs.start(
        *(sys.executable, str(TOOL), str(folder), "--devices", "2", "--seconds", "25"),
        *("--format", "json"),
        name="pass-rate",
    )
    assert 0 == tool.wait(deadline_s=200), tool.err
    tried = {one["app"]: (one["outcome"], one["reason"]) for one in tool.last["apps"]}

    assert 1 == tool.last["passed"]
    assert ("pass", "") == tried.pop("deep/down/works")
    assert ("missing packages", "windflower-nowhere>=2") == tried.pop("lacks")
    assert ("missing packages", "windflower_nowhere") == tried.pop("imports")
    assert ("network", "ConnectionError: no way") == tried.pop("downloads")
    assert ("time limit", "not over after 25 s") == tried.pop("slow")
    assert "no app" == tried["broken"][0]
    assert "lacks serverapp" in tried["headless"][1]
    assert {"broken", "headless"} == set(tried)
