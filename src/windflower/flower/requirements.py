"""The Python packages that an app says it needs, and what of them is not here."""

import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from importlib import invalidate_caches, metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from windflower.errors import AppError

GIVEN: Final = frozenset({"flwr", "numpy", "windflower"})
"""Every device has these. An app that asks for `flwr[simulation]` needs no simulation here."""

INSTALL_S: Final = 1800.0

CHECK: Final = "query.windflower_check"
"""A message type that no app sees: the worker says whether it can run the app."""

READINESS: Final = "readiness"
"""The record in which it says so: two sentences, empty where there is nothing to say."""

OBSTACLE: Final = "obstacle"
"""Why the app cannot run."""

NOTE: Final = "note"
"""What is not as the app asks for it, though the app loads."""


def checked(requires: tuple[str, ...]) -> tuple[str, ...]:
    """Return requirements as they are; raises AppError where one is none."""
    for text in requires:
        _read(text)
    return requires


def others(requires: Iterable[str]) -> tuple[str, ...]:
    """Return what an app needs that a device may lack.

    Raises:
        AppError: what the app's pyproject has is no requirement.
    """
    return tuple(text for text in requires if canonicalize_name(_read(text).name) not in GIVEN)


def missing(requires: Iterable[str]) -> list[str]:
    """Return the requirements of which no version is installed."""
    return [str(one) for one in _applying(requires) if _installed(one) is None]


def unlike(requires: Iterable[str]) -> list[str]:
    """Return sentences on requirements of which another version is installed: it may do."""
    return [
        f"{one} wanted, {version} installed"
        for one in _applying(requires)
        if (version := _installed(one)) is not None
        and not one.specifier.contains(version, prereleases=True)
    ]


def install(requirements: Sequence[str]) -> None:
    """Install packages where this Python finds them; what is installed already stays as it is.

    Raises:
        AppError: they cannot be installed; the installer's last line is in the message.
    """
    with tempfile.TemporaryDirectory() as folder:
        kept = Path(folder) / "constraints.txt"
        kept.write_text("".join(f"{name}=={version}\n" for name, version in _everything()))
        command = [*_installer(), "-c", str(kept), *requirements]
        try:
            done = subprocess.run(  # noqa: S603 - what the app asks for, on a device that may install
                command, capture_output=True, text=True, check=False, timeout=INSTALL_S
            )
        except subprocess.TimeoutExpired as error:
            raise AppError(
                f"{', '.join(requirements)} not installed: no end after {error}"
            ) from error
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        reason = next((one for one in lines if "ERROR" in one), lines[-1] if lines else "?")
        raise AppError(f"{', '.join(requirements)} cannot be installed: {reason.strip()}")
    invalidate_caches()


def _installer() -> list[str]:
    if find_spec("pip") is not None:
        return [sys.executable, "-m", "pip", "install", "--no-input", "--quiet"]
    if find_spec("uv") is not None:
        return [sys.executable, "-m", "uv", "pip", "install", "--python", sys.executable, "--quiet"]
    raise AppError(f"{sys.executable} has neither pip nor uv: nothing can be installed")


def _everything() -> Iterable[tuple[str, str]]:
    return sorted((one.name, one.version) for one in metadata.distributions() if one.name)


def _applying(requires: Iterable[str]) -> list[Requirement]:
    read = [_read(text) for text in others(requires)]
    return [one for one in read if one.marker is None or one.marker.evaluate()]


def _installed(requirement: Requirement) -> str | None:
    try:
        return metadata.version(requirement.name)
    except metadata.PackageNotFoundError:
        return None


def _read(text: str) -> Requirement:
    try:
        return Requirement(text)
    except InvalidRequirement as error:
        raise AppError(f"pyproject.toml asks for {text!r}, which is no requirement") from error
