"""What all processes of one simulation share."""

from collections.abc import Callable
from dataclasses import dataclass

from sim.blob_store import BlobStore
from sim.codec import Codec
from sim.network import Network
from sim.oracle import Oracle
from sim.parts import Parts
from sim.weather import Weather
from sim.world import World


@dataclass(slots=True)
class Place:
    """The world, what is in it, and the weather, which changes once: when all is healed.

    Attributes:
        spares_the_unlucky: whether no device loses power so often that it gives a command up.
        states_of: reads the apps' states of one run from the devices' disks.
        is_lossless: whether all that is said while both are connected arrives, storm or calm.
        longest_work_s: how long a worker takes at most.
    """

    world: World
    weather: Weather
    network: Network
    blobs: BlobStore
    oracle: Oracle
    codec: Codec
    parts: Parts
    heartbeat_s: float
    spares_the_unlucky: bool
    states_of: Callable[[str], dict[str, str]]
    longest_work_s: float
    is_lossless: bool

    def change_weather(self, weather: Weather) -> None:
        """Let other weather begin."""
        self.weather = self.network.weather = self.blobs.weather = weather
