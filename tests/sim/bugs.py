"""Planted bugs: each is a small, tempting mistake, and the simulator must find every one.

A simulator that finds nothing proves nothing. Whoever adds a rule to the core adds the mistake
beside the others, in `gateway_bugs.py` or `device_bugs.py`.
"""

from typing import Final

from sim.device_bugs import DEVICE_BUGS
from sim.gateway_bugs import GATEWAY_BUGS

BUGS: Final = {**GATEWAY_BUGS, **DEVICE_BUGS}
"""By name; `python -m sim --bug NAME SEED` plants one."""
