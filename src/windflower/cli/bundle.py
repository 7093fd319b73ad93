"""`windflower bundle`: what of an app goes to devices, and under which name."""

from pathlib import Path
from typing import Any

from windflower.flower.app_bundle import files_of, make_bundle
from windflower.flower.app_folder import AppFolder


def describe(folder: Path) -> dict[str, Any]:
    """Return the digest of an app's bundle, its size and its files; raises AppError."""
    app = AppFolder.read(folder)
    ref, _ = make_bundle(app)
    return {
        "success": True,
        "app": app.name,
        "digest": ref.digest,
        "size-bytes": ref.size_bytes,
        "files": [name for name, _ in files_of(app)],
    }


def shown(described: dict[str, Any]) -> str:
    """Return it for people."""
    files = "\n".join(f"  {name}" for name in described["files"])
    return f"{files}\n{described['app']}: {described['size-bytes']:,} bytes, {described['digest']}"
