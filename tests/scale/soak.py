"""A soak: a small fleet works run after run while its broker dies again and again.

What is looked at is taken where nothing is under way: behind a run's end, with every device
connected. What may grow with a run, such as the ids of its settled exchanges, is gone by then.
"""

import hashlib
import random
import statistics
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from processes import Programs

from scale.asking import ScriptedRun
from scale.fleet import BrokerProcess, CrewProcess, GatewayProcess
from scale.vitals import Vitals, processor_s, vitals_of
from windflower.gateway.line import SocketLine
from windflower.observe.timelines import EXCHANGES
from windflower.wire.content import Content, blob_ref

DEVICES: Final = 50
PHASES_A_RUN: Final = 10
OUTAGE_EVERY_S: Final = 8.0

MB_AN_HOUR: Final = 6.0
NOISE_MB: Final = 2.0
"""How much resident memory may grow: what an allocator needs now and then does not depend on time.
In a minute this finds what loses a quarter of a kilobyte in each exchange."""

_PACK_BYTES: Final = 200_000
_SMALL: Final = b"what a phase says" * 20
_INTERVAL_S: Final = 1.0
_DOWN_S: Final = 1.0
_ONLINE_S: Final = 60.0
_WARM_UP_RUNS: Final = -(-EXCHANGES // (DEVICES * PHASES_A_RUN)) + 1
"""After so many runs the page keeps as many exchanges as it ever will."""

_LEAST_RUNS: Final = 6
_REST_S: Final = 8.0
"""Longer than both ends keep an idle connection."""

_GLANCE_S: Final = 0.5
_SPARE: Final = 1
"""A pool may open one more of what it keeps at any time; what is lost with each outage is more."""


@dataclass(frozen=True, slots=True)
class Sample:
    """A process where nothing was under way.

    Attributes:
        at_s: when, from the first phase on.
        vitals: what the kernel says of it.
        tasks: how many tasks its loop had.
    """

    at_s: float
    vitals: Vitals
    tasks: int


@dataclass(frozen=True, slots=True)
class Growth:
    """What became of one process.

    Memory is compared from the first third of the samples after a warm-up to the last. What can be
    counted is compared at rest, before and after them: connections that are kept for a next
    request are closed then.

    Attributes:
        hours: how long that is, median to median.
        mb: how much its resident memory grew, median to median.
        descriptors: how many more there are at rest.
        threads: how many more there are at rest.
        tasks: how many more there are at rest.
        latest: how it was at the end.
    """

    hours: float
    mb: float
    descriptors: int
    threads: int
    tasks: int
    latest: Sample

    @classmethod
    def of(cls, samples: Sequence[Sample], rested: tuple[Sample, Sample]) -> "Growth":
        """Compare what was seen."""
        first_rest, last_rest = rested
        third = max(len(samples) // 3, 1)
        first, last = samples[:third], samples[-third:]

        def grown(number: Callable[[Sample], float]) -> float:
            return statistics.median_low(map(number, last)) - statistics.median_low(
                map(number, first)
            )

        return cls(
            hours=round(grown(lambda sample: sample.at_s) / 3600, 4),
            mb=round(grown(lambda sample: sample.vitals.resident_mb), 2),
            descriptors=last_rest.vitals.descriptors - first_rest.vitals.descriptors,
            threads=last_rest.vitals.threads - first_rest.vitals.threads,
            tasks=last_rest.tasks - first_rest.tasks,
            latest=samples[-1],
        )

    def problems(self, whose: str) -> Iterator[str]:
        """Yield what grew that should not."""
        if self.mb > NOISE_MB + self.hours * MB_AN_HOUR:
            yield f"the {whose} grew by {self.mb} MB in {self.hours} h"
        for what in ("descriptors", "threads", "tasks"):
            if (more := getattr(self, what)) > _SPARE:
                yield f"the {whose} has {more} {what} more"


@dataclass(frozen=True, slots=True)
class SoakFigures:
    """What came of a soak.

    Attributes:
        seed: when in a phase the broker died.
        runs: how many runs were ended.
        asked: how many exchanges there were.
        good: how many devices did what they were asked.
        outages: how often the broker was killed.
        gateway: what became of the gateway.
        crew: what became of the agents' process.
        gateway_processor_s: what the gateway used.
        gateway_disk_mb: what it left in its folder.
        not_once: commands that were worked on twice or never, each with how often.
    """

    seed: int
    runs: int
    asked: int
    good: int
    outages: int
    gateway: Growth
    crew: Growth
    gateway_processor_s: float
    gateway_disk_mb: float
    not_once: dict[str, int] = field(default_factory=dict)

    def problems(self) -> list[str]:
        """Return what is not as it has to be."""
        asked = self.runs * PHASES_A_RUN * DEVICES
        found = [*self.gateway.problems("gateway"), *self.crew.problems("crew")]
        if not asked == self.asked == self.good:
            found.append(f"of {asked} exchanges {self.asked} were asked and {self.good} are good")
        if self.not_once:
            found.append(f"not worked on once: {self.not_once}")
        if not self.outages:
            found.append("nothing was tested: the broker never died")
        return found


def soak(programs: Programs, seconds: int, *, seed: int = 1) -> SoakFigures:
    """Let a fleet work for so long, after a warm-up."""
    broker = BrokerProcess(programs)
    broker.start()
    gateway = GatewayProcess(programs, broker.address)
    crew = CrewProcess(programs, broker.address, name="crew", size=DEVICES, interval_s=_INTERVAL_S)
    line = gateway.line()
    line.wait_for_devices(DEVICES, timeout_s=_ONLINE_S)
    outages = _Outages(broker, random.Random(seed))
    answers: Counter[str] = Counter()
    good = 0
    samples: list[dict[str, Sample]] = []
    began = time.monotonic()

    def looks() -> dict[str, Sample]:
        at_s = time.monotonic() - began
        return {
            "gateway": Sample(at_s, vitals_of(gateway.pid), gateway.tasks),
            "crew": Sample(at_s, vitals_of(crew.pid), crew.tasks),
        }

    def work() -> None:
        nonlocal good
        for id_, is_good in _one_run(line, crew.devices, outages, programs.folder):
            answers[id_] += 1
            good += is_good

    for _ in range(_WARM_UP_RUNS):
        work()
    warm = _at_rest(looks)
    while time.monotonic() - began < seconds or len(samples) < _LEAST_RUNS:
        work()
        samples.append(looks())
    rested = _at_rest(looks)
    line.close()
    works = Counter(crew.works)
    return SoakFigures(
        seed=seed,
        runs=_WARM_UP_RUNS + len(samples),
        asked=len(answers),
        good=good,
        outages=outages.count,
        gateway=Growth.of([s["gateway"] for s in samples], (warm["gateway"], rested["gateway"])),
        crew=Growth.of([s["crew"] for s in samples], (warm["crew"], rested["crew"])),
        gateway_processor_s=round(processor_s(gateway.pid), 2),
        gateway_disk_mb=round(_size_mb(gateway.state.path), 1),
        not_once={i: works[i] for i in answers | works if works[i] != (i in answers)},
    )


def _at_rest(looks: Callable[[], dict[str, Sample]]) -> dict[str, Sample]:
    """Look until nothing is open any more that closes by itself."""
    found = [looks()]
    while found[-1]["crew"].at_s - found[0]["crew"].at_s < _REST_S:
        threading.Event().wait(_GLANCE_S)
        found.append(looks())
    return found[-1]


def _one_run(
    line: SocketLine, devices: Sequence[str], outages: "_Outages", folder: Path
) -> Iterator[tuple[str, bool]]:
    """Execute one run; yield each exchange, and whether it ended well."""
    run = ScriptedRun.begin(line, devices)
    for phase in range(PHASES_A_RUN):
        content = _large(run, folder) if phase == 0 else _small()
        # Whoever answers in the last phase is connected: no outage may come after it.
        perhaps = outages.perhaps() if phase < PHASES_A_RUN - 1 else nullcontext()
        with perhaps:
            settlements = run.ask(str(phase), content)
        yield from ((s.id, s.is_good) for s in settlements)
    run.end()


class _Outages:
    """Kills the broker when it is time again, at any moment of a phase.

    Args:
        broker: the victim.
        chance: draws the moment.
    """

    def __init__(self, broker: BrokerProcess, chance: random.Random) -> None:
        self._broker = broker
        self._chance = chance
        self._last = time.monotonic()
        self.count = 0

    @contextmanager
    def perhaps(self) -> Iterator[None]:
        """Let the broker die during what is inside, if it is time; it is back on leaving."""
        if time.monotonic() - self._last < OUTAGE_EVERY_S:
            yield
            return
        self.count += 1
        self._last = time.monotonic()
        dying = threading.Thread(target=self._die, args=(self._chance.uniform(0, 0.3),))
        dying.start()
        try:
            yield
        finally:
            dying.join()

    def _die(self, after_s: float) -> None:
        threading.Event().wait(after_s)
        self._broker.kill()
        threading.Event().wait(_DOWN_S)
        self._broker.start()


def _small() -> Content:
    return Content((("pack", None),), blob_ref(_SMALL), _SMALL)


def _large(run: ScriptedRun, folder: Path) -> Content:
    """Hand in a pack that no other run has, and return what names it."""
    data = hashlib.shake_256(run.record.run.encode()).digest(_PACK_BYTES)
    path = folder / "pack"
    path.write_bytes(data)
    ref = blob_ref(data)
    run.line.adopt(path, ref)
    return Content((("pack", None),), ref)


def _size_mb(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6
