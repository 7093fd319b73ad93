"""Makes wheels again of what is installed here, so that pip can install it elsewhere offline."""

import re
import zipfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement


def _is_installed() -> bool:
    try:
        return bool(metadata.version("windflower"))
    except metadata.PackageNotFoundError:
        return False


needs_installation = pytest.mark.skipif(
    not _is_installed(), reason="windflower is on the path and not installed"
)


def fill(folder: Path, requirement: str) -> None:
    """Put a wheel of everything that a requirement needs into a folder, but of itself."""
    for name in sorted(set(_needed(Requirement(requirement)))):
        _repack(metadata.distribution(name), folder)


def _needed(requirement: Requirement, seen: set[str] | None = None) -> Iterator[str]:
    seen = set() if seen is None else seen
    for text in metadata.requires(requirement.name) or []:
        one = Requirement(text)
        extras = requirement.extras or {""}
        is_asked = one.marker is None or any(one.marker.evaluate({"extra": e}) for e in extras)
        if is_asked and str(one) not in seen:
            seen.add(str(one))
            yield re.sub(r"[-_.]+", "-", one.name).lower()
            yield from _needed(one, seen)


def _repack(installed: metadata.Distribution, folder: Path) -> None:
    """Write a wheel; its programs are left out, but those that pip makes of entry points."""
    tags = re.findall(r"^Tag: (.+)-(.+)-(.+)$", installed.read_text("WHEEL") or "", re.MULTILINE)
    tag = "-".join(".".join(sorted(set(parts))) for parts in zip(*tags, strict=True))
    name = re.sub(r"[-_.]+", "_", installed.metadata["Name"])
    record = ""
    with zipfile.ZipFile(folder / f"{name}-{installed.version}-{tag}.whl", "w") as wheel:
        for file in installed.files or []:
            if ".." in file.parts or file.suffix == ".pyc":
                continue
            if file.name == "RECORD":
                record = str(file)
            elif file.name not in {"INSTALLER", "REQUESTED", "direct_url.json"}:
                wheel.write(str(file.locate()), str(file))
        names = "".join(f"{one},,\n" for one in [*wheel.namelist(), record])
        wheel.writestr(record, names)
