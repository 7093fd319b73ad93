"""The agent as a Greengrass component: one zip, from which a core installs and starts it.

In it are this very package as a wheel, two scripts, and what the apps need. The nucleus unpacks
`NAME.zip` into a folder `NAME`: the zip is uploaded as `agent.zip`, as the recipe has it.
"""

import base64
import hashlib
import io
import zipfile
from collections.abc import Iterator, Mapping
from importlib import metadata, resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Final

from windflower.adapters.aws.deploy_folder import deploy_text
from windflower.errors import ConfigError

ZIP_NAME: Final = "agent.zip"
_EPOCH: Final = (1980, 1, 1, 0, 0, 0)
_NOT_ON_A_DEVICE: Final = frozenset({"__pycache__", "deploy", "examples"})
_WHEEL: Final = (
    "Wheel-Version: 1.0\nGenerator: windflower\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
)


def component_zip(requirements: Path | None = None, wheels: Path | None = None) -> bytes:
    """Return the zip; the same package and the same files give the same bytes.

    Args:
        requirements: what the apps need on the device, as pip reads it.
        wheels: a folder with wheels of all that is needed, for cores that reach no PyPI.

    Raises:
        ConfigError: there are no such files, or this package was not installed.
    """
    name, wheel = agent_wheel()
    files = {
        name: wheel,
        **{
            script: deploy_text("greengrass", script).encode()
            for script in ("install.sh", "run.sh")
        },
    }
    if requirements is not None:
        files["requirements.txt"] = _read(requirements)
    if wheels is not None:
        found = sorted(wheels.glob("*.whl"))
        if not found:
            raise ConfigError(f"{wheels} holds no wheels: pip download makes them", key="wheels")
        files |= {f"wheels/{path.name}": path.read_bytes() for path in found}
    return _zipped(files)


def _read(requirements: Path) -> bytes:
    try:
        return requirements.read_bytes()
    except OSError as error:
        raise ConfigError(f"{requirements}: {error.strerror}", key="requirements") from error


def agent_wheel() -> tuple[str, bytes]:
    """Return this package as a wheel, and the wheel's name.

    Raises:
        ConfigError: it was not installed, or from other files than these.
    """
    try:
        installed = metadata.distribution("windflower")
    except metadata.PackageNotFoundError:
        raise ConfigError("windflower is not installed here: pip install it", key="") from None
    if "greengrass" not in (installed.metadata.get_all("Provides-Extra") or []):
        raise ConfigError("windflower was installed from older files: install it again", key="")
    info = f"windflower-{installed.version}.dist-info"
    files = dict(_package_files(resources.files("windflower"), "windflower"))
    # The README behind the headers is for people, and an editable install has an old one.
    headers = (installed.read_text("METADATA") or "").partition("\n\n")[0]
    files[f"{info}/METADATA"] = f"{headers}\n".encode()
    for name in ("entry_points.txt", "licenses/LICENSE"):
        files[f"{info}/{name}"] = (installed.read_text(name) or "").encode()
    files[f"{info}/WHEEL"] = _WHEEL.encode()
    files[f"{info}/RECORD"] = _record(files, f"{info}/RECORD")
    return f"windflower-{installed.version}-py3-none-any.whl", _zipped(files)


def _package_files(folder: Traversable, path: str) -> Iterator[tuple[str, bytes]]:
    for one in folder.iterdir():
        if one.name in _NOT_ON_A_DEVICE:
            continue
        if one.is_dir():
            yield from _package_files(one, f"{path}/{one.name}")
        else:
            yield f"{path}/{one.name}", one.read_bytes()


def _record(files: Mapping[str, bytes], own_name: str) -> bytes:
    """Return what an installer checks the files against."""
    lines = []
    for name, data in sorted(files.items()):
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        lines.append(f"{name},sha256={digest},{len(data)}")
    return "\n".join([*lines, f"{own_name},,", ""]).encode()


def _zipped(files: Mapping[str, bytes]) -> bytes:
    """Return files as a zip. Nothing is packed: that would depend on the version of zlib."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as bundle:
        for name, data in sorted(files.items()):
            bundle.writestr(zipfile.ZipInfo(name, _EPOCH), data)
    return buffer.getvalue()
