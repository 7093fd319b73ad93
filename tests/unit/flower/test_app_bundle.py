"""A bundle holds what Flower's own bundle would, and nothing else."""

import os
import stat
import subprocess
import sys
import textwrap
import zipfile
from io import BytesIO
from pathlib import Path

import pytest

from windflower.errors import AppError
from windflower.flower.app_bundle import files_of, make_bundle, unpack_bundle
from windflower.flower.app_folder import AppFolder

APP = Path(__file__).parents[2] / "apps" / "averaging"
EXAMPLE = Path(__file__).parents[3] / "examples" / "01-smartwatch"


def test_the_same_folder_gives_the_same_bundle() -> None:
    assert make_bundle(AppFolder.read(APP)) == make_bundle(AppFolder.read(APP))


def test_a_bundle_leaves_data_where_it_is(tmp_path: Path) -> None:
    ref, data = make_bundle(AppFolder.read(EXAMPLE))
    names = zipfile.ZipFile(BytesIO(data)).namelist()
    path = tmp_path / "bundle"
    path.write_bytes(data)
    unpack_bundle(path, tmp_path / "app")

    assert len(data) == ref.size_bytes
    assert {"pyproject.toml", "smartwatch/client_app.py"} <= set(names)
    assert [] == [name for name in names if name.endswith((".npz", ".pyc"))]
    assert "watch" not in {path.stem for path in (tmp_path / "app").rglob("*.npz")}
    assert AppFolder.read(tmp_path / "app").name == AppFolder.read(EXAMPLE).name


FILES = {
    "pyproject.toml": """
        [project]
        name = "odd"
        version = "1.0.0"
        license = "Apache-2.0"
        description = "odd"
        [tool.flwr.app]
        publisher = "us"
        fab-include = ["**/*.py", "*.json", "LICENSE"]
        fab-exclude = ["odd/private/**"]
        [tool.flwr.app.components]
        serverapp = "odd.server:app"
        clientapp = "odd.client:app"
    """,
    ".gitignore": "secret.py\n*.local.json\n!kept.local.json\n/notes/\n",
    "odd/__init__.py": "",
    "odd/server.py": "app = None",
    "odd/client.py": "app = None",
    "odd/test_client.py": "",
    "odd/private/keys.py": "",
    "odd/secret.py": "",
    "odd/weights.npz": "",
    "settings.local.json": "{}",
    "kept.local.json": "{}",
    "notes/todo.md": "",
    "venv/lib/site.py": "",
    "LICENSE": "free",
    "data/people.csv": "",
}


def test_a_bundle_holds_what_flowers_own_does(tmp_path: Path) -> None:
    folder = tmp_path / "odd"
    for name, text in FILES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
    (folder / "odd" / "link.py").symlink_to(folder / "odd" / "client.py")
    flwr = Path(sys.executable).with_name("flwr")
    environment = {**os.environ, "FLWR_HOME": str(tmp_path / "home")}
    built = subprocess.run(
        [flwr, "build", "--app", str(folder)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert 0 == built.returncode, built.stdout + built.stderr
    (fab,) = tmp_path.glob("*.fab")
    ours = {name for name, _ in files_of(AppFolder.read(folder))}

    assert ours == {n for n in zipfile.ZipFile(fab).namelist() if not n.startswith(".")}
    assert {"odd/server.py", "kept.local.json", "LICENSE"} <= ours


@pytest.mark.parametrize("name", ["../out.py", "/out.py", "a/../../out.py", "a\\..\\out.py"])
def test_a_bundle_that_escapes_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "bundle"
    with zipfile.ZipFile(path, "w") as bundle:
        bundle.writestr(name, "x")
    with pytest.raises(AppError, match="refused"):
        unpack_bundle(path, tmp_path / "app")

    assert not (tmp_path / "out.py").exists()


def test_a_link_in_a_bundle_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bundle"
    with zipfile.ZipFile(path, "w") as bundle:
        link = zipfile.ZipInfo("link")
        link.external_attr = 0o120777 << 16
        bundle.writestr(link, "/etc/passwd")
    with pytest.raises(AppError, match="refused"):
        unpack_bundle(path, tmp_path / "app")


@pytest.mark.parametrize("kind", [stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO, stat.S_IFSOCK])
def test_a_device_in_a_bundle_is_refused(tmp_path: Path, kind: int) -> None:
    path = tmp_path / "bundle"
    with zipfile.ZipFile(path, "w") as bundle:
        device = zipfile.ZipInfo("device")
        device.external_attr = (kind | 0o666) << 16
        bundle.writestr(device, "")
    with pytest.raises(AppError, match="refused"):
        unpack_bundle(path, tmp_path / "app")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_files_of_one_name_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "bundle"
    with zipfile.ZipFile(path, "w") as bundle:
        bundle.writestr("app.py", "first")
        bundle.writestr("app.py", "second")
    with pytest.raises(AppError, match="two files of one name"):
        unpack_bundle(path, tmp_path / "app")


def test_what_is_no_zip_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bundle"
    path.write_bytes(b"PK\x03\x04 and then nothing")
    with pytest.raises(AppError, match="damaged"):
        unpack_bundle(path, tmp_path / "app")


def test_a_zip_that_lies_about_its_sizes_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bundle"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as bundle:
        bundle.writestr("zeros.py", bytes(300 << 20))
    data = path.read_bytes()
    path.write_bytes(data.replace((300 << 20).to_bytes(4, "little"), (10).to_bytes(4, "little")))
    with pytest.raises(AppError, match="damaged"):
        unpack_bundle(path, tmp_path / "app")


def test_a_bomb_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bundle"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as bundle:
        bundle.writestr("zeros.py", bytes(200 << 20))
    with pytest.raises(AppError, match="more than any app needs"):
        unpack_bundle(path, tmp_path / "app")
