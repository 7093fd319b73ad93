"""Imports a component of a Flower app from its folder, into sources that are seeded."""

import importlib
import random
import sys
import traceback
from pathlib import Path
from typing import Any

import numpy as np

from windflower.errors import AppError


def load_component(folder: Path, reference: str, kind: type) -> Any:  # noqa: ANN401 - `kind` says
    """Import `module:attribute` from an app's folder. One app a process: modules stay loaded.

    Raises:
        AppError: it does not import, or is something else; the traceback is in the message.
    """
    module_name, attribute = reference.split(":")
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    try:
        component = getattr(importlib.import_module(module_name), attribute)
    except Exception as error:  # the app is anybody's code, and may raise anything
        raise AppError(f"{reference} does not import:\n{traceback_of(error)}") from error
    if not isinstance(component, kind):
        raise AppError(
            f"{reference} is a {type(component).__name__}, not a {kind.__name__}: name a"
            f" {kind.__name__} under [tool.flwr.app.components]"
        )
    return component


def traceback_of(error: BaseException) -> str:
    """Return an exception's traceback as Python prints it, without our own frames."""
    own = str(Path(__file__).parent)
    summary = traceback.extract_tb(error.__traceback__)
    hidden = (own, "<frozen importlib", importlib.__file__)
    frames = [f for f in summary if not f.filename.startswith(hidden)]
    heading = ["Traceback (most recent call last):\n"] if frames else []
    lines = [*heading, *traceback.format_list(frames)]
    return "".join([*lines, *traceback.format_exception_only(error)]).rstrip()


def seed_sources(seed: int, *, is_secret: bool) -> None:
    """Seed the sources that strategies and apps draw from.

    Args:
        seed: any number of bits.
        is_secret: whether nobody may find the seed by trying: then all its bits count, where
            numpy's usual 32 would fall in minutes.
    """
    random.seed(seed)
    words = [(seed >> shift) & 0xFFFFFFFF for shift in range(0, 256, 32)]
    np.random.seed(words if is_secret else seed % (1 << 32))  # noqa: NPY002 - what apps draw from
    torch: Any = sys.modules.get("torch")
    if torch is not None:
        torch.manual_seed(seed % (1 << 63))
    tensorflow: Any = sys.modules.get("tensorflow")
    if tensorflow is not None:
        tensorflow.random.set_seed(seed % (1 << 63))
