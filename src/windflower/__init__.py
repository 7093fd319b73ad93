"""Run any Flower app, unchanged, on a fleet of devices that are reached over MQTT.

import windflower

with windflower.open_fleet() as fleet:
result = fleet.run("path/to/app", devices=10).result()
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from windflower.fleet import Device, Fleet, Run, RunResult, fleet_grid, on_fleet, open_fleet

__version__ = "0.1.0.dev0"

__all__ = [
    "Device",
    "Fleet",
    "Run",
    "RunResult",
    "__version__",
    "fleet_grid",
    "on_fleet",
    "open_fleet",
]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - whatever it is
    """Load what is asked for: a device's agent must not load what a gateway's needs."""
    if name not in __all__:
        raise AttributeError(f"module 'windflower' has no attribute {name!r}")
    from windflower import fleet  # noqa: PLC0415

    return getattr(fleet, name)
