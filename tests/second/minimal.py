"""The minimal device of the pages, as tests import and start it."""

import sys
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[2] / "docs" / "minimal_device"

sys.path.insert(0, str(FOLDER))
import device as _device  # type: ignore[import-not-found]  # noqa: E402
import wire as _wire  # type: ignore[import-not-found]  # noqa: E402

device: Any = _device
wire: Any = _wire
REFUSED = (ValueError, LookupError, TypeError)
"""What its readers raise at bytes that are refused; a mistake of its own is none of these."""
