"""A bundle holds what Flower's own bundle would, and nothing else."""

import zipfile
from io import BytesIO
from pathlib import Path

import pytest

from windflower.errors import AppError
from windflower.flower.app_bundle import make_bundle, unpack_bundle
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


def test_a_bomb_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bundle"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as bundle:
        bundle.writestr("zeros.py", bytes(200 << 20))
    with pytest.raises(AppError, match="more than any app needs"):
        unpack_bundle(path, tmp_path / "app")
