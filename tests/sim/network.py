"""A broker and its links. What it holds is lost whenever it crashes: nobody may count on it."""

from collections import Counter
from collections.abc import Callable
from typing import Final

from sim.codec import Parcel
from sim.weather import CALM, Weather
from sim.world import Action, World

GATEWAY: Final = "gateway"
KEPT: Final = 100
"""How many messages the broker keeps for one device that is away."""

Receive = Callable[[str, Parcel], None]


class Network:
    """The broker: takes messages and, in its own time, hands them on, or not."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.weather: Weather = CALM
        self.is_up = True
        self.links: dict[str, Link] = {}
        self.published: Counter[str] = Counter()
        self.published_bytes = 0
        self.troubles = 0
        """Messages lost, doubled or late, and links gone: excuses for saying a thing again."""
        self._life = 0
        self._latest: dict[tuple[str, str], float] = {}
        self.eavesdroppers: list[Receive] = []
        """Who else hears what is said to the gateway."""
        self.retained: dict[str, Parcel] = {}
        """The last heartbeat of each device, for whoever subscribes later."""

    def crash(self, outage_s: float) -> None:
        """Lose all that is on its way or kept, and every link; come back after a while."""
        self.world.note("broker", "crashes for", outage_s, "s")
        self._life += 1
        self.is_up = False
        self.retained.clear()
        for link in self.links.values():
            link.kept.clear()
            link.cut(outage_s, publishes_will=False)
        self.world.after(outage_s, self.recover)

    def recover(self) -> None:
        """Let clients connect again."""
        self.is_up = True

    def publish(self, sender: str, to: str, kind: str, parcel: Parcel) -> None:
        """Take a message from a link that is up."""
        self.published[kind] += 1
        if isinstance(parcel, bytes):
            self.published_bytes += len(parcel)
        if self.world.chance(self.weather.loss):
            self.troubles += 1
            self.world.note(sender, "loses", kind, "to", to)
            return
        if kind == "heartbeat":
            self.retained[sender] = parcel
        self._hand_on(sender, to, kind, parcel)
        if self.world.chance(self.weather.duplication):
            self.troubles += 1
            self._hand_on(sender, to, kind, parcel)

    def _hand_on(self, sender: str, to: str, kind: str, parcel: Parcel) -> None:
        """Keep the order between two clients, as MQTT does, except for what jitter holds back."""
        now = self.world.now
        arrives_at = max(now + self.world.between(0.01, 0.1), self._latest.get((sender, to), 0.0))
        if self.weather.jitter_s and self.world.chance(0.3):
            self.troubles += 1
            arrives_at += self.world.between(0.0, self.weather.jitter_s)
        else:
            self._latest[sender, to] = arrives_at
        self.world.after(arrives_at - now, self._arrive, self._life, to, kind, parcel)

    def _arrive(self, life: int, to: str, kind: str, parcel: Parcel) -> None:
        link = self.links[to]
        if life == self._life and to == GATEWAY:
            for hear in list(self.eavesdroppers):
                hear(kind, parcel)
        if life == self._life and link.is_up:
            link.receive(kind, parcel)
            return
        self.troubles += 1
        if life == self._life and self.weather.keeps_sessions and len(link.kept) < KEPT:
            link.kept.append((kind, parcel))


class Link:
    """One client's connection: it comes up again by itself for as long as its owner lives.

    Args:
        network: where it leads.
        name: the client's name.
        came_up: called each time that it is up.
        went_down: called each time that it is down.
        receive: called with each message.
    """

    def __init__(
        self,
        network: Network,
        name: str,
        *,
        came_up: Action,
        receive: Receive,
        went_down: Action = lambda: None,
    ) -> None:
        self.network = network
        self.name = name
        self.is_up = False
        self.up_since = 0.0
        self.will: Parcel | None = None
        self.kept: list[tuple[str, Parcel]] = []
        self.receive = receive
        self._came_up = came_up
        self._went_down = went_down
        self._is_wanted = False
        self._attempt = 0
        network.links[name] = self

    def start(self, *, will: Parcel | None = None) -> None:
        """Connect, and connect again, until `stop`."""
        self._is_wanted = True
        self.will = will
        self._connect_after(self.network.world.between(0.05, 1.0))

    def stop(self) -> None:
        """Go down with the owner, who says no goodbye."""
        self._is_wanted = False
        self._go_down(publishes_will=True)

    def cut(self, outage_s: float, *, publishes_will: bool = True) -> None:
        """Go down for a while."""
        self._go_down(publishes_will=publishes_will)
        if self._is_wanted:
            jitter_s = self.network.world.between(0.1, 3.0)
            self._connect_after(outage_s + jitter_s)

    def hurry(self) -> None:
        """Come up soon, if it is wanted and down."""
        if self._is_wanted and not self.is_up:
            self._connect_after(self.network.world.between(0.1, 3.0))

    def send(self, to: str, kind: str, parcel: Parcel) -> None:
        """Publish, if the link is up; else the message is lost."""
        if self.is_up:
            self.network.publish(self.name, to, kind, parcel)
        else:
            self.network.troubles += 1

    def _go_down(self, *, publishes_will: bool) -> None:
        was_up, self.is_up = self.is_up, False
        self._attempt += 1
        if was_up:
            # A gateway that comes back calls the whole roll, and once more for each name kept.
            fleet = 2 * (len(self.network.links) - 1)
            self.network.troubles += fleet if self.name == GATEWAY else 1
            self._went_down()
        if not was_up or not publishes_will or self.will is None:
            return
        world, will = self.network.world, self.will

        def publish_will() -> None:
            if not self.is_up or world.chance(self.network.weather.false_will):
                self.network.publish(self.name, GATEWAY, "heartbeat", will)

        world.after(world.between(0.0, 90.0), publish_will)

    def _connect_after(self, delay_s: float) -> None:
        self._attempt += 1
        self.network.world.after(delay_s, self._connect, self._attempt)

    def _connect(self, attempt: int) -> None:
        if not self._is_wanted or self.is_up or attempt != self._attempt:
            return
        if not self.network.is_up:
            self._connect_after(self.network.world.between(0.5, 5.0))
            return
        self.is_up = True
        self.up_since = self.network.world.now
        self._came_up()
        if self.name == GATEWAY:
            self.kept = [("kept heartbeat", parcel) for parcel in self.network.retained.values()]
        kept, self.kept = self.kept, []
        for kind, parcel in kept:
            if self.is_up:  # its owner may lose power over the first of them
                self.receive(kind, parcel)
