"""The wheel that is built from the tree runs in an empty environment elsewhere."""

import json
import os
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest
from aws.wheelhouse import needs_installation
from processes import ENVIRONMENT

from windflower.adapters.aws.component import component_zip

ROOT = Path(__file__).parents[2]
UV = shutil.which("uv", path=str(Path(sys.executable).parent)) or shutil.which("uv")


needs_uv = pytest.mark.skipif(UV is None, reason="uv is not in the environment")


def built(folder: Path) -> Path:
    """Return the wheel that is built from the tree."""
    assert UV is not None
    build = [UV, "build", "--quiet", "--wheel", "--out-dir", str(folder), str(ROOT)]
    subprocess.run(build, check=True)
    (wheel,) = folder.glob("*.whl")
    return wheel


@needs_uv
def test_the_wheel_runs_the_demo_in_an_empty_environment(tmp_path: Path) -> None:
    assert UV is not None
    wheel = built(tmp_path)
    names = zipfile.ZipFile(wheel).namelist()
    assert "windflower/examples/01-smartwatch/data/watch.npz" in names
    assert "windflower/examples/01-smartwatch/data/NOTICE.md" in names
    assert "windflower/deploy/aws/template.yaml" in names
    assert "windflower/deploy/greengrass/install.sh" in names
    assert [] == [n for n in names if "__pycache__" in n or "/devices/" in n]

    venv.create(tmp_path / "venv")
    python = tmp_path / "venv" / "bin" / "python"
    lock = str(ROOT / "requirements.lock")
    install = [UV, "pip", "install", "--quiet", "-p", str(python), "-c", lock]
    subprocess.run([*install, f"{wheel}[demo]"], check=True)
    clean = {k: v for k, v in ENVIRONMENT.items() if not k.startswith("PYTHON")}
    done = subprocess.run(
        [
            *(str(tmp_path / "venv" / "bin" / "windflower"), "demo", "--rounds", "2"),
            *("--state", str(tmp_path / "state"), "--format", "json"),
        ],
        cwd=tmp_path,
        env={**clean, "PATH": os.defpath},
        capture_output=True,
        text=True,
        check=True,
    )

    assert json.loads(done.stdout.splitlines()[-1])["success"] is True


@needs_uv
@needs_installation
def test_the_wheel_makes_the_same_component_as_a_checkout(tmp_path: Path) -> None:
    assert UV is not None
    target = str(tmp_path / "installed")
    install = [UV, "pip", "install", "--quiet", "--no-deps", "--target", target]
    subprocess.run([*install, str(built(tmp_path))], check=True)
    make = (
        "import sys; from windflower.adapters.aws.component import component_zip;"
        " sys.stdout.buffer.write(component_zip())"
    )
    done = subprocess.run(
        [sys.executable, "-c", make],
        cwd=tmp_path,
        env={**ENVIRONMENT, "PYTHONPATH": target},
        capture_output=True,
        check=True,
    )

    assert component_zip() == done.stdout
