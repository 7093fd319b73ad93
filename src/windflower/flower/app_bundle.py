"""An app as devices get it: a zip with its code, named by its digest.

Nothing here imports flwr or the app.
"""

import hashlib
import io
import os
import stat
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Final

from windflower.errors import AppError
from windflower.flower.app_folder import AppFolder
from windflower.wire.blobs import BlobRef

BUNDLE_BYTES: Final = 10 * 1024 * 1024
"""As Flower: an app bundle larger than this holds what does not belong in one."""

MEMBERS: Final = 10_000
"""A bundle that holds more files than that holds what does not belong in one."""

_INCLUDED: Final = (
    "*.py", "*.toml", "*.md", "*.yaml", "*.yml", "*.json", "*.jsonl", "/LICENSE",
)  # fmt: skip
"""As Flower's app bundle (flwr build): what runs there runs here, and data stays where it is."""

_EXCLUDED: Final = (
    *(".*", "__pycache__/", "*_test.py", "test_*.py", "*.egg"),
    *("/build/", "/dist/", "/eggs/", "/lib/", "/lib64/", "/parts/"),
    *("/venv/", "/env/", "/ENV/"),
)
"""Likewise; and whatever is hidden."""

_PROJECT: Final = "pyproject.toml"
_ZIP_DATE: Final = (1980, 1, 1, 0, 0, 0)


def make_bundle(app: AppFolder) -> tuple[BlobRef, bytes]:
    """Zip what devices need: the same folder gives the same bytes.

    Left out is what the folder's `.gitignore` names and what `[tool.flwr.app]` says by
    `fab-include` and `fab-exclude`, as Flower does it.

    Raises:
        AppError: more than fits in a bundle, or a pattern that is none.
    """
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as bundle:
        for name, path in files_of(app):
            info = zipfile.ZipInfo(name, _ZIP_DATE)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = 0o644 << 16
            bundle.writestr(info, path.read_bytes())
    data = buffer.getvalue()
    if len(data) > BUNDLE_BYTES:
        raise AppError(f"{app.path} makes a bundle of {len(data):,} bytes, {BUNDLE_BYTES:,} fit")
    return BlobRef(hashlib.sha256(data).hexdigest(), len(data)), data


def unpack_bundle(bundle: Path, folder: Path) -> None:
    """Unpack a bundle into an empty folder.

    Raises:
        AppError: no zip; a name that escapes the folder or comes twice, a link or a device; or
            more than a bundle may hold.
    """
    try:
        with zipfile.ZipFile(bundle) as archive:
            members = archive.infolist()
            if len(members) > MEMBERS or sum(m.file_size for m in members) > 10 * BUNDLE_BYTES:
                raise AppError("an app bundle unpacks to more than any app needs")
            for member in members:
                _check(member)
                if not member.is_dir():
                    target = folder / member.filename
                    target.parent.mkdir(parents=True, exist_ok=True)
                    with target.open("xb") as file:
                        file.write(archive.read(member))  # at most as much as the header says
    except FileExistsError as error:
        raise AppError(f"an app bundle holds two files of one name: {error.filename}") from error
    except (zipfile.BadZipFile, NotImplementedError, zlib.error, EOFError) as error:
        raise AppError(f"an app bundle is damaged: {error}") from error


def _check(member: zipfile.ZipInfo) -> None:
    name, mode = PurePosixPath(member.filename), member.external_attr >> 16
    is_plain = stat.S_IFMT(mode) in (0, stat.S_IFREG, stat.S_IFDIR)
    if name.is_absolute() or ".." in name.parts or "\\" in member.filename or not is_plain:
        raise AppError(f"an app bundle holds {member.filename!r}: refused")


def files_of(app: AppFolder) -> Iterator[tuple[str, Path]]:
    """Yield what goes into a bundle: names in it, and files; sorted.

    Raises:
        AppError: a pattern that is none.
    """
    import pathspec  # noqa: PLC0415 - devices unpack bundles, and never make one

    def spec(patterns: Iterable[str]) -> pathspec.GitIgnoreSpec:
        return pathspec.GitIgnoreSpec.from_lines(patterns)

    ignore = app.path / ".gitignore"
    ignored = ignore.read_text(errors="replace").splitlines() if ignore.is_file() else []
    try:
        chosen = spec(["*"] if app.include is None else app.include)
        left_out = spec([*ignored, *app.exclude, *_EXCLUDED])
    except ValueError as error:
        raise AppError(f"{app.path}: {error}") from error
    included = spec(_INCLUDED)
    for path in sorted(_plain_files(app.path)):
        name = path.relative_to(app.path).as_posix()
        is_wanted = chosen.match_file(name) and included.match_file(name)
        if name == _PROJECT or (is_wanted and not left_out.match_file(name)):
            yield name, path


def _plain_files(folder: Path) -> Iterator[Path]:
    """Yield files that are no links, and not within what is hidden: that may be large."""
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            path = Path(parent, name)
            if path.is_file() and not path.is_symlink():
                yield path
