"""Writes the page of settings from their types.

python tools/settings_page.py > docs/settings.md
"""

import sys
from typing import Any

from windflower.settings import Settings, is_set_by_hand

HEAD = """\
# Settings

Written by `python tools/settings_page.py`; a test compares the two. Each can stand in
`windflower.toml` (`resume_gb = 5.0`), or in the file that WINDFLOWER_CONFIG names, or in the
environment (`WINDFLOWER_RESUME_GB`), or be a flag where the command has one (`--broker`). A flag
wins over the environment, and that over the file. `windflower config show --origin` shows what
holds, and why.

"""
OTHERS = """
## Not set by hand

What begins with `aws_` is for the place `aws`, where the stack says it. `private` is said by
`windflower run` to a gateway of its own.

"""
TABLE = """\
| setting | default | means |
|---|---|---|
"""


def page() -> str:
    """Return the page."""
    by_hand: list[str] = []
    others: list[str] = []
    for name, field in Settings.model_fields.items():
        meaning = " ".join((field.description or "").split())
        row = f"| `{name}` | {_default(name, field.get_default())} | {meaning} |\n"
        (by_hand if is_set_by_hand(name) else others).append(row)
    return "".join((HEAD, TABLE, *by_hand, OTHERS, TABLE, *others))


def _default(name: str, value: Any) -> str:  # noqa: ANN401 - of any setting
    if name == "state":
        return "`~/.local/state/windflower`"
    return "" if value in (None, "", ()) else f"`{value}`".replace("False", "false")


if __name__ == "__main__":
    sys.stdout.write(page())
