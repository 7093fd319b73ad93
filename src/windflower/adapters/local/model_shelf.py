"""The published models that a device keeps: files, and a link to the one in use.

Each is kept twice: as the pack that came, and as an `.npz` that numpy reads. That is made without
numpy: the arrays of a pack are in the .npy format already. `current` is a link that is replaced in
one step, so whoever opens it reads a whole model, whatever happens meanwhile.
"""

import asyncio
import os
import shutil
import zipfile
from pathlib import Path
from typing import Final

from windflower.adapters.local.files import make_durable, move_durably
from windflower.errors import MalformedMessage
from windflower.wire.blobs import BlobRef
from windflower.wire.content import (
    PACK_PREFIX_BYTES,
    Arrays,
    pack_header_bytes,
    read_pack_header,
)

KEPT: Final = 3
"""So many models stay: a fleet that goes back to an earlier one need not fetch it again."""

_NUMPY: Final = "numpy.ndarray"
_ZIP_DATE: Final = (1980, 1, 1, 0, 0, 0)
"""Not the device's clock: it may stand before what a zip can say."""


class FolderShelf:
    """One device's models.

    Args:
        folder: where they are; made when the first one comes.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._current = folder / "current"

    def current(self) -> str | None:
        """Return the digest of the model in use."""
        return self._current.readlink().stem if self._current.exists() else None

    def holds(self, digest: str) -> bool:
        """Return whether a model is here."""
        return self._pack(digest).exists() and self._arrays(digest).exists()

    def file(self) -> Path | None:
        """Return the model in use as a file that numpy reads."""
        return self._current if self._current.exists() else None

    def pack(self) -> tuple[Path, BlobRef] | None:
        """Return the model in use as it came."""
        digest = self.current()
        if digest is None:
            return None
        path = self._pack(digest)
        return path, BlobRef(digest, path.stat().st_size)

    async def put(self, ref: BlobRef, pack: Path | None) -> None:
        """Use a model from now on; durable on return, and nothing is between the old and the new.

        Args:
            ref: which.
            pack: its bytes, verified; None where it is here already.

        Raises:
            MalformedMessage: this is no pack of arrays.
        """
        await asyncio.to_thread(self._put, ref.digest, pack)

    def _put(self, digest: str, pack: Path | None) -> None:
        if pack is not None and not self.holds(digest):
            self._folder.mkdir(parents=True, exist_ok=True)
            landing = self._folder / "landing"
            write_arrays(pack, landing)
            move_durably(landing, self._arrays(digest))
            shutil.copyfile(pack, landing)
            move_durably(landing, self._pack(digest))
        link = self._folder / "next"
        link.unlink(missing_ok=True)
        link.symlink_to(self._arrays(digest).name)
        link.replace(self._current)
        os.utime(self._pack(digest))
        make_durable(self._folder)
        self._trim()

    def _trim(self) -> None:
        """Drop models that have not been in use for long, and what a power cut left half there."""
        packs = sorted(self._folder.glob("*.pack"), key=lambda path: path.stat().st_mtime_ns)
        in_use = self._current.readlink().stem  # whatever the device's clock says
        others = [path.stem for path in packs if path.stem != in_use]
        kept = {in_use, *others[max(len(others) - KEPT + 1, 0) :]}
        for path in [*self._folder.glob("*.pack"), *self._folder.glob("*.npz")]:
            if path.stem not in kept:
                path.unlink()

    def _pack(self, digest: str) -> Path:
        return self._folder / f"{digest}.pack"

    def _arrays(self, digest: str) -> Path:
        return self._folder / f"{digest}.npz"


def write_arrays(pack: Path, target: Path) -> None:
    """Write the arrays of a pack as an `.npz`; raises MalformedMessage.

    Its names are those of the arrays; where there are several records, `record/array`.
    """
    with pack.open("rb") as file:
        prefix = file.read(PACK_PREFIX_BYTES)
        header = prefix + file.read(pack_header_bytes(prefix) - len(prefix))
        records = read_pack_header(header, pack_bytes=pack.stat().st_size)
        arrays = [(name, r) for name, r in records.items() if isinstance(r, Arrays)]
        if not arrays:
            raise MalformedMessage("a model without arrays")
        with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED, allowZip64=True) as npz:
            for name, record in arrays:
                before = "" if len(arrays) == 1 else f"{name}/"
                for entry in record.entries:
                    if entry.stype == _NUMPY:
                        file.seek(entry.offset)
                        info = zipfile.ZipInfo(f"{before}{entry.name}.npy", _ZIP_DATE)
                        npz.writestr(info, file.read(entry.size_bytes))
