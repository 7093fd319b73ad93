"""An app as devices get it: a zip with its code, named by its digest.

Nothing here imports flwr or the app.
"""

import hashlib
import io
import stat
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Final

from windflower.errors import AppError
from windflower.flower.app_folder import AppFolder
from windflower.wire.blobs import BlobRef

BUNDLE_BYTES: Final = 10 * 1024 * 1024
"""As Flower: an app bundle larger than this holds what does not belong in one."""

_INCLUDED: Final = (".py", ".toml", ".md", ".yaml", ".yml", ".json", ".jsonl")
"""As Flower's app bundle (flwr build): what runs there runs here, and data stays where it is."""

_EXCLUDED_FOLDERS: Final = frozenset(
    {"build", "dist", "eggs", "lib", "lib64", "parts", "venv", "env", "ENV"}
)
_ZIP_DATE: Final = (1980, 1, 1, 0, 0, 0)


def make_bundle(app: AppFolder) -> tuple[BlobRef, bytes]:
    """Zip what devices need: the same folder gives the same bytes.

    Raises:
        AppError: more than fits in a bundle.
    """
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as bundle:
        for name, path in _files(app.path):
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
        AppError: a name that escapes the folder, a link, or more than a bundle may hold.
    """
    with zipfile.ZipFile(bundle) as archive:
        members = archive.infolist()
        if sum(member.file_size for member in members) > 10 * BUNDLE_BYTES:
            raise AppError("an app bundle unpacks to more than any app needs")
        for member in members:
            name = PurePosixPath(member.filename)
            is_link = stat.S_ISLNK(member.external_attr >> 16)
            if name.is_absolute() or ".." in name.parts or is_link or "\\" in member.filename:
                raise AppError(f"an app bundle holds {member.filename!r}: refused")
            if not member.is_dir():
                target = folder / name
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(archive.read(member))


def _files(folder: Path) -> Iterator[tuple[str, Path]]:
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        hidden = any(p.startswith(".") or p == "__pycache__" for p in parts)
        if hidden or parts[0] in _EXCLUDED_FOLDERS:
            continue
        if path.is_file() and not path.is_symlink() and path.suffix in _INCLUDED:
            yield "/".join(parts), path
