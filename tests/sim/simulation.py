"""One seed from its first second to its last: a storm, then calm, then everything must be done."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random
from typing import Final

from sim.app import Plan
from sim.blob_store import BlobStore
from sim.codec import Bytes, Codec, Handing, QuickBytes
from sim.device_node import DeviceNode
from sim.gateway_node import GatewayNode
from sim.network import Network
from sim.oracle import Oracle
from sim.parts import SOUND, Parts
from sim.place import Place
from sim.plans import Size, draw_plans, draw_size
from sim.weather import CALM, NEVER, Weather, forecast, mild
from sim.world import Violation, World
from windflower.core.retention import SPARE_BLOBS

HEALING_S: Final = 600.0
"""Once nothing fails any more, everything is done within this."""

_ROUND_S: Final = 60.0
"""Beside that, each round of a long run may take so long."""

_EVENTS_PER_WORK: Final = 200
_LONG_S: Final = 4 * 3600.0
"""Longer than a wrong clock can make anything last."""

_BYTES: Final = 0.08
"""The share of the small seeds in which bytes travel; a quarter of them under real signatures."""

_REAL_SEALS: Final = 0.25
_MEAN_MESSAGE_BYTES: Final = 1000


@dataclass(frozen=True, slots=True)
class Outcome:
    """What is left of a simulation when it is over."""

    seed: int
    trace_hash: str
    events: int
    works: int
    asked: int
    settled: int
    beats: float
    healing_s: float
    virtual_s: float
    commands_sent: int
    messages: int
    message_bytes: int
    troubles: int
    crashes: int
    retrainings: int
    abandoned: int
    damaged_downloads: int
    damages: int
    renewed: int

    def waste(self, weather: Weather) -> str | None:
        """Say what was more than it need be, measured against what went wrong.

        The bounds are fixed, a little above the worst of the first 20,000 seeds. They see what no
        rule of safety sees: a protocol that is right and never stops talking.
        """
        return next(self._wasted(weather), None)

    def _wasted(self, weather: Weather) -> Iterator[str]:
        commands = self.asked + self.renewed
        messages = self.beats + 5 * self.asked + 2 * self.renewed + 10
        if not weather.is_calm:
            commands += 2 * self.troubles + 10
            messages += 2 * self.beats + 3 * self.troubles + 10
        if self.commands_sent > commands:
            yield f"{self.commands_sent} commands were sent, {commands} would do"
        if self.messages > messages:
            yield f"{self.messages} messages were published, {messages:.0f} would do"
        if self.message_bytes > _MEAN_MESSAGE_BYTES * max(self.messages, 1):
            yield f"{self.message_bytes} bytes in {self.messages} messages"
        if self.retrainings > self.crashes:
            yield f"work was begun again {self.retrainings} times after {self.crashes} crashes"
        if self.damaged_downloads > self.damages + self.crashes:
            causes = f"{self.damages} damages and {self.crashes} crashes"
            yield f"{self.damaged_downloads} downloads came to other bytes after {causes}"
        if weather.is_calm and self.abandoned:
            yield f"{self.abandoned} devices were given up, and nobody was away"


class Simulation:
    """A fleet in the weather that its seed brings.

    Args:
        seed: decides everything.
        parts: what it is built of.
        keeps_trace: whether `world.lines` is filled.
    """

    def __init__(self, seed: int, *, parts: Parts = SOUND, keeps_trace: bool = False) -> None:
        self.seed = seed
        self.world = World(seed, keeps_trace=keeps_trace)
        random = self.world.random
        size = draw_size(random)
        self.is_large = size.is_large
        self.weather = mild(random) if size.is_large else forecast(random)
        heartbeat_s = random.choice((20.0, 60.0))
        network, blobs = Network(self.world), BlobStore(self.world)
        oracle = Oracle(self.world, heartbeat_s=heartbeat_s)
        self.place = Place(
            world=self.world,
            weather=CALM,
            network=network,
            blobs=blobs,
            oracle=oracle,
            codec=_codec(random, size),
            parts=parts,
            heartbeat_s=heartbeat_s,
            spares_the_unlucky=random.random() < 0.9,
            states_of=self._states_of,
            longest_work_s=size.longest_work_s,
            is_lossless=self.weather.is_lossless,
        )
        self.place.change_weather(self.weather)
        self.plans = draw_plans(random, size)
        self.devices = [DeviceNode(self.place, name) for name in self.plans[0].devices]
        self.gateway = GatewayNode(self.place)
        self.world.most_events += _EVENTS_PER_WORK * sum(plan.works for plan in self.plans)
        self.healing_s = HEALING_S + sum(_ROUND_S * max(p.rounds - 3, 0) for p in self.plans)
        self.storm_s = random.choice((200.0, 600.0, 1500.0))
        self._is_storm = True
        self.world.note("world", str(self.weather), str(self.plans))

    def run(self) -> Outcome:
        """Let everything happen; raises Violation when a rule is broken."""
        self._begin()
        self.world.run_until(self._is_done, end=self.storm_s)
        calm_at = self.world.now
        self._calm_down()
        if not self.world.run_until(self._is_done, end=calm_at + self.healing_s):
            raise Violation(
                "liveness", f"{self.healing_s:.0f} s after the storm: {self._unfinished()}"
            )
        outcome = self._outcome(healing_s=self.world.now - calm_at)
        self._check_clean()
        if problem := outcome.waste(self.weather):
            raise Violation("economy", problem)
        return outcome

    # ------------------------------------------------------------------------------- weather

    def _begin(self) -> None:
        world, weather = self.world, self.weather
        world.after(world.between(0.0, 5.0), self.gateway.start)
        for device in self.devices:
            world.after(world.between(0.0, 10.0), device.start)
        for plan in self.plans:
            self._plan_run(plan)
        self._now_and_then(weather.broker_crash_s, self._crash_broker)
        self._now_and_then(weather.device_crash_s, lambda: self._some_device().crash())
        self._now_and_then(weather.gateway_crash_s, self._crash_gateway)
        self._now_and_then(weather.run_crash_s, lambda: self.gateway.kill_run(self._some_run()))
        self._now_and_then(weather.cut_s, lambda: self._some_device().link.cut(self._outage_s()))
        self._now_and_then(weather.cleaning_s, self._clean)
        self._now_and_then(weather.gateway_cut_s, lambda: self.gateway.link.cut(self._outage_s()))

    def _plan_run(self, plan: Plan) -> None:
        self.world.after(plan.starts_at, self.gateway.open_run, plan)
        if plan.stops_at is not None:
            self.world.after(plan.stops_at, self.gateway.stop_run, plan.run)

    def _now_and_then(self, mean_s: float, disaster: Callable[[], None]) -> None:
        """Let a kind of disaster strike at random times until the storm is over."""
        if mean_s == NEVER:
            return

        def strike() -> None:
            if self._is_storm:
                disaster()
                self._now_and_then(mean_s, disaster)

        self.world.after(self.world.random.expovariate(1 / mean_s), strike)

    def _outage_s(self) -> float:
        return self.world.between(0.5, self.weather.longest_outage_s)

    def _some_device(self) -> DeviceNode:
        return self.world.random.choice(self.devices)

    def _some_run(self) -> str:
        return self.world.random.choice(self.plans).run

    def _crash_broker(self) -> None:
        self.place.network.crash(self.world.between(0.5, 30.0))

    def _clean(self) -> None:
        if self.gateway.is_alive:
            self.gateway.clean()

    def _crash_gateway(self) -> None:
        if self.gateway.is_alive:
            self.gateway.crash()

    def _calm_down(self) -> None:
        """End the storm: whatever is down comes up within seconds."""
        self.world.note("world", "calms down")
        self._is_storm = False
        self.place.change_weather(CALM)
        self.place.network.recover()
        self.world.after(self.world.between(0.0, 5.0), self.gateway.start)
        self.gateway.link.hurry()
        for device in self.devices:
            self.world.after(self.world.between(0.0, 5.0), device.start)
            device.link.hurry()

    # ----------------------------------------------------------------------------------- end

    def _is_done(self) -> bool:
        runs = self.gateway.journal.runs
        are_over = len(runs) == len(self.plans) and all(row.is_over for row in runs.values())
        return are_over and not self._unfinished()

    def _unfinished(self) -> list[str]:
        """Say what is still to be done, as far as the disks show it."""
        journal, left = self.gateway.journal, []
        for plan in self.plans:
            row = journal.runs.get(plan.run)
            if row is None or not row.is_over:
                left.append(f"{plan.run} goes on")
        left += [f"{id_[:6]} is open" for id_ in journal.asked if journal.is_open(id_)]
        for device in self.devices:
            if not device.is_alive or not device.disk.is_clear():
                left.append(f"{device.name} still holds or owes something")
        if not self.gateway.is_idle:
            left.append("the gateway is busy")
        return left + [f"{device.name} is busy" for device in self.devices if not device.is_idle]

    def _check_clean(self) -> None:
        """In the end all runs are over; once they are forgotten, nothing is left."""
        self.world.now += _LONG_S
        self.gateway.clean()
        if self.place.blobs.blobs:
            raise Violation("growth", f"{len(self.place.blobs.blobs)} blobs are left for ever")
        # Who loses power before it drops what it is done with has one more of each run.
        most = SPARE_BLOBS + len(self.plans)
        for device in self.devices:
            if len(device.disk.blobs) > most:
                raise Violation("growth", f"{device.name} keeps {len(device.disk.blobs)} blobs")

    def _states_of(self, run: str) -> dict[str, str]:
        return {d.name: d.disk.states[run] for d in self.devices if run in d.disk.states}

    def _outcome(self, *, healing_s: float) -> Outcome:
        network, oracle = self.place.network, self.place.oracle
        return Outcome(
            seed=self.seed,
            trace_hash=self.world.trace_hash(),
            events=self.world.events,
            works=sum(device.works for device in self.devices),
            asked=oracle.asked,
            settled=oracle.settled,
            beats=len(self.devices) * (self.world.now / self.place.heartbeat_s + 1),
            healing_s=healing_s,
            virtual_s=self.world.now,
            commands_sent=self.gateway.commands_sent,
            messages=network.published.total(),
            message_bytes=network.published_bytes,
            troubles=network.troubles + self.place.blobs.troubles + oracle.crashes,
            crashes=oracle.crashes,
            retrainings=oracle.retrainings,
            abandoned=oracle.abandoned,
            renewed=oracle.renewed,
            damaged_downloads=oracle.damaged_downloads,
            damages=self.place.blobs.damages,
        )


def _codec(random: Random, size: Size) -> Codec:
    if size.is_large or random.random() >= _BYTES:
        return Handing()
    return Bytes() if random.random() < _REAL_SEALS else QuickBytes()
