"""Reads what stands in `deploy/`: in a checkout there, in a wheel where it came along."""

from importlib import resources
from pathlib import Path
from typing import Final

_CHECKOUT: Final = Path(__file__).parents[4] / "deploy"


def deploy_text(folder: str, name: str) -> str:
    """Return a file of a folder of `deploy/`."""
    if _CHECKOUT.is_dir():
        return (_CHECKOUT / folder / name).read_text()
    return (resources.files("windflower") / "deploy" / folder / name).read_text()
