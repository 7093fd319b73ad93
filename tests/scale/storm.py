"""A storm: the broker is killed, and a large fleet is asked while all of it comes back."""

import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from processes import Programs

from scale.asking import ScriptedRun
from scale.fleet import BrokerProcess, CrewProcess, GatewayProcess
from scale.vitals import processor_s, vitals_of
from windflower.core.ledger import Settlement
from windflower.wire.content import Content

DOWN_S: Final = 1.0
INTERVAL_S: Final = 5.0

_CREWS: Final = 2
_ONLINE_S: Final = 300.0


@dataclass(frozen=True, slots=True)
class StormFigures:
    """What came of a storm.

    Attributes:
        devices: how many were asked.
        good: how many did what they were asked.
        online_s: from the start of all processes until every device was online.
        answered_s: from the broker's return until every device was commanded and had answered.
        calm_s: how long the same takes when nothing has happened.
        gateway_processor_s: of that, what the gateway used.
        crews_processor_s: of that, what all agents used.
        broker_processor_s: of that, what the broker used.
        gateway_mb: the gateway's memory afterwards.
        not_once: commands that were worked on twice or never, each with how often.
    """

    devices: int
    good: int
    online_s: float
    answered_s: float
    calm_s: float
    gateway_processor_s: float
    crews_processor_s: float
    broker_processor_s: float
    gateway_mb: float
    not_once: dict[str, int] = field(default_factory=dict)

    def problems(self) -> list[str]:
        """Return what is not as it has to be."""
        found = []
        if self.good != self.devices:
            found.append(f"{self.good} of {self.devices} devices did what they were asked")
        if self.not_once:
            found.append(f"not worked on once: {self.not_once}")
        return found


def storm(programs: Programs, devices: int) -> StormFigures:
    """Kill the broker of a fleet, start it again a second later, and ask everybody at once."""
    began = time.monotonic()
    broker = BrokerProcess(programs)
    broker.start()
    gateway = GatewayProcess(programs, broker.address)
    crews = [
        CrewProcess(programs, broker.address, name=f"crew{i}", size=size, interval_s=INTERVAL_S)
        for i, size in enumerate(_shares(devices, _CREWS))
    ]
    line = gateway.line()
    line.wait_for_devices(devices, timeout_s=_ONLINE_S)
    online_s = time.monotonic() - began
    run = ScriptedRun.begin(line, [device for crew in crews for device in crew.devices])
    broker.kill()
    threading.Event().wait(DOWN_S)
    broker.start()
    pids = [gateway.pid, *(crew.pid for crew in crews), broker.pid]
    used_before = [processor_s(pid) for pid in pids]
    returned = time.monotonic()
    settlements = run.ask("in the storm", Content())
    answered_s = time.monotonic() - returned
    used = [processor_s(p) - before for p, before in zip(pids, used_before, strict=True)]
    not_once = _not_once(settlements, [id_ for crew in crews for id_ in crew.works])
    calmed = time.monotonic()
    run.ask("in the calm", Content())
    calm_s = time.monotonic() - calmed
    run.end()
    line.close()
    return StormFigures(
        devices=devices,
        good=sum(s.is_good for s in settlements),
        online_s=round(online_s, 2),
        answered_s=round(answered_s, 2),
        calm_s=round(calm_s, 2),
        gateway_processor_s=round(used[0], 2),
        crews_processor_s=round(sum(used[1:-1]), 2),
        broker_processor_s=round(used[-1], 2),
        gateway_mb=round(vitals_of(gateway.pid).resident_mb, 1),
        not_once=not_once,
    )


def _shares(whole: int, parts: int) -> list[int]:
    return [len(range(part, whole, parts)) for part in range(parts)]


def _not_once(settlements: Sequence[Settlement], works: Sequence[str]) -> dict[str, int]:
    counts = Counter(works)
    asked = {s.id for s in settlements}
    return {id_: counts[id_] for id_ in asked | counts.keys() if counts[id_] != (id_ in asked)}
