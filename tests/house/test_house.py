"""The house stands as its plan says."""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from windflower import errors
from windflower.cli.exit_codes import TABLE, code_of
from windflower.core import events
from windflower.core.events import Event

ROOT = Path(__file__).parents[2]

BREACHES = [
    ("Stairs go down only", "wire/limits.py", "import windflower.core.backoff"),
    ("Stairs go down only", "core/backoff.py", "import windflower.ports"),
    ("Stairs go down only", "ports.py", "import windflower.settings"),
    ("Stairs go down only", "gateway/feed.py", "import windflower.adapters.memory.events"),
    ("Stairs go down only", "adapters/memory/events.py", "import windflower.agent"),
    ("Stairs go down only", "agent/agent.py", "import windflower.adapters.local.files"),
    ("Stairs go down only", "observe/sentences.py", "import windflower.gateway"),
    ("Stairs go down only", "flower/private.py", "import windflower.pipeline"),
    ("Stairs go down only", "pipeline/job.py", "import windflower.compose"),
    ("Stairs go down only", "compose.py", "import windflower.cli"),
    ("What crosses the wire", "core/backoff.py", "import time"),
    ("What crosses the wire", "wire/limits.py", "import numpy"),
    ("Places do not know each other", "adapters/memory/events.py",
     "import windflower.adapters.local.files"),
    ("Places do not know each other", "adapters/greengrass/device_link.py",
     "import windflower.adapters.local.files"),
    ("Only the flower room imports flwr", "gateway/feed.py", "import flwr.app"),
    ("A device installs no web server", "agent/agent.py", "import numpy"),
]  # fmt: skip


def lint_imports(folder: Path) -> tuple[int, str]:
    program = Path(sys.executable).parent / "lint-imports"
    done = subprocess.run(
        [program, "--no-cache"],
        cwd=folder,
        env={"PYTHONPATH": str(folder / "src"), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout


def copy_of_the_house(folder: Path) -> Path:
    shutil.copytree(ROOT / "src", folder / "src", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


def test_the_floors_hold(tmp_path: Path) -> None:
    code, said = lint_imports(copy_of_the_house(tmp_path))

    assert (0, True) == (code, "Contracts: 5 kept, 0 broken." in said)


@pytest.mark.parametrize(("contract", "file", "line"), BREACHES)
def test_a_breach_is_caught(tmp_path: Path, contract: str, file: str, line: str) -> None:
    path = copy_of_the_house(tmp_path) / "src" / "windflower" / file
    source = path.read_text()
    path.write_text(source + f"\n{line}\n")
    code, said = lint_imports(tmp_path)

    assert 1 == code
    assert re.search(rf"{contract}.*BROKEN", said)


def test_the_drawn_error_tree_is_the_real_one() -> None:
    def real(kind: type[Exception], depth: int = 0) -> list[tuple[int, str]]:
        below = [line for sub in kind.__subclasses__() for line in real(sub, depth + 1)]
        return [(depth, kind.__name__), *below]

    lines = [line for line in (errors.__doc__ or "").splitlines() if line.startswith("    ")]
    drawn = []
    for line in lines:
        name = re.search(r"[A-Z]\w+", line)
        assert name is not None
        drawn.append(((name.start() - 4) // 4, name.group()))

    assert real(errors.WindflowerError) == drawn


def test_every_error_has_an_exit_code() -> None:
    def all_below(
        kind: type[errors.WindflowerError],
    ) -> list[type[errors.WindflowerError]]:
        return [kind, *(sub for direct in kind.__subclasses__() for sub in all_below(direct))]

    for kind in all_below(errors.WindflowerError):
        assert code_of(kind.__name__) in {kind.exit_code for kind, _ in TABLE}
    assert 75 == errors.NotEnoughDevices("x", have=1, need=2).exit_code
    assert 65 == code_of("NoSuchError")


def test_every_event_has_its_own_name() -> None:
    classes = [v for v in vars(events).values() if isinstance(v, type) and issubclass(v, Event)]
    kinds = [kind.kind() for kind in classes if kind is not Event]

    assert len(kinds) == len(set(kinds))
    assert all(re.fullmatch(r"[a-z]+(-[a-z]+)+", kind) for kind in kinds)


def test_no_file_of_the_house_is_long_and_no_room_is_a_drawer() -> None:
    files = list((ROOT / "src" / "windflower").rglob("*.py"))
    forbidden = {"utils", "util", "helpers", "common", "base", "misc", "manager", "engine"}

    assert [] == [f.name for f in files if f.stem in forbidden]
    assert [] == [f.name for f in files if len(f.read_text().splitlines()) > 560]


LOCKS = sorted(ROOT.glob("requirements*.lock"))


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.name)
def test_the_lock_holds_names_and_versions_only(lock: Path) -> None:
    lines = lock.read_text().splitlines()

    assert [] == [line for line in lines if not re.match(r"^[a-z0-9._-]+==[^ ]+( ; .*)?$", line)]
    assert not (ROOT / "uv.lock").exists()


def test_the_lock_holds_whatever_the_project_names() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    named = [*project["project"]["dependencies"]]
    for extra in project["project"]["optional-dependencies"].values():
        named += extra
    for group in project["dependency-groups"].values():
        named += [entry for entry in group if isinstance(entry, str)]
    names = {re.split(r"[<>=\[ ]", entry)[0].lower() for entry in named}
    lines = [line for lock in LOCKS for line in lock.read_text().splitlines()]

    assert set() == names - {line.split("==")[0] for line in lines}


def test_the_version_is_one() -> None:
    from windflower import __version__  # noqa: PLC0415

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

    assert project["version"] == __version__
