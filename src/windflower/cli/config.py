"""`windflower config`: what is set, and where."""

import json
import sys
from pathlib import Path
from typing import Any

from windflower.adapters.local.broker_address import BrokerAddress
from windflower.observe.sinks import without_user
from windflower.settings import (
    Settings,
    is_set_by_hand,
    load_settings,
    origins,
    own_broker_port,
)


def show_settings(state: Path | None, *, has_origin: bool, is_json: bool) -> None:
    """Print each setting, and where it came from; a broker's password is left out.

    For people, what nobody sets by hand is shown where something did set it.
    """
    settings, sources = load_settings(state=state), origins(state=state)
    values = {key: _shown(settings, key) for key in Settings.model_fields}
    if is_json:
        answer: dict[str, Any] = {"success": True, "settings": values}
        if has_origin:
            answer["origins"] = sources
        sys.stdout.write(json.dumps(answer) + "\n")
        return
    for key, value in values.items():
        if not is_set_by_hand(key) and sources[key] == "default":
            continue
        line = f"{key:<20} {'-' if value is None or value == '' else value}"
        sys.stdout.write((f"{line:<56}  {sources[key]}" if has_origin else line).rstrip() + "\n")


def _shown(settings: Settings, key: str) -> Any:  # noqa: ANN401 - whatever it is, for JSON
    value = getattr(settings, key)
    if key == "broker" and own_broker_port(value) is None:
        return str(BrokerAddress.parse(value))
    if key == "page_token" and value is not None:
        return "(it is set)"
    if key in ("sinks", "hooks"):
        return " ".join(map(without_user, value))
    return str(value) if isinstance(value, Path) else value
