"""A store of blobs behind grants. A key is written once; what lies there may rot."""

from sim.weather import CALM, Weather
from sim.world import World
from windflower.core.device_effects import FetchProblem
from windflower.wire.blobs import BlobRef, Grant
from windflower.wire.content import blob_ref


class BlobStore:
    """Holds bytes under keys; a grant's URL says until when it is good."""

    def __init__(self, world: World) -> None:
        self.weather: Weather = CALM
        self.blobs: dict[str, bytes] = {}
        self._stored_at: dict[str, float] = {}
        self.troubles = 0
        self.damages = 0
        self.ahead_s = 0.0
        """The gateway's clock is the store's: by so much it is ahead of the world."""
        self._world = world

    def grant_get(self, ref: BlobRef) -> Grant:
        """Return a capability to read."""
        url = self._url(ref.key)
        return Grant("GET", ref.key, url, ref.size_bytes, self.weather.grant_s)

    def grant_put(self, key: str) -> Grant:
        """Return a capability to write."""
        return Grant("PUT", key, self._url(key), 1 << 20, self.weather.grant_s)

    def get(
        self, ref: BlobRef, grants: tuple[Grant, ...], *, begun: bytes = b"", checks: bool
    ) -> bytes | FetchProblem:
        """Read as a device does, which compares what came with the digest.

        Where nothing lies under the key, a store says 404: to a device that is a dead grant.

        Args:
            ref: what is wanted.
            grants: what the device holds.
            begun: what it has of an earlier download, which goes on behind that.
            checks: whether it compares.
        """
        grant = next((g for g in grants if (g.method, g.key) == ("GET", ref.key)), None)
        if grant is None or (problem := self._problem(grant)) == "refused":
            return self._trouble("refused")
        if problem is not None:
            return self._trouble(problem)
        if ref.key not in self.blobs:
            return "refused"
        data = begun + self.blobs[ref.key][len(begun) :]
        if self._world.chance(self.weather.damage):
            self._trouble("damaged")
            self.damages += 1
            data = b"damaged" + data
        return data if not checks or blob_ref(data) == ref else "damaged"

    def put(self, grant: Grant, data: bytes) -> FetchProblem | None:
        """Write as a device does; what is there already stays."""
        if (problem := self._problem(grant)) is not None:
            return self._trouble(problem)
        if self._world.chance(self.weather.cut_upload):
            self.cut_off(grant, data)
            return self._trouble("unreachable")
        if grant.key in self.blobs:
            return None
        self.adopt(grant.key, data)
        if self._world.chance(self.weather.rot):
            self.troubles += 1
            if self._world.chance(0.5):
                del self.blobs[grant.key]
            else:
                self.blobs[grant.key] = b"rotten" + data
        return None

    def cut_off(self, grant: Grant, data: bytes) -> None:
        """See an upload end in the middle: a store keeps nothing of it, a rotten one half."""
        if self.weather.keeps_halves and grant.key not in self.blobs:
            self.troubles += 1
            self.adopt(grant.key, data[: len(data) // 2])

    def adopt(self, key: str, data: bytes) -> None:
        """Store bytes under a key; that they are there already starts their time anew."""
        self.blobs[key] = data
        self._stored_at[key] = self._clock()

    def sweep(self, live: frozenset[str], *, older_than_s: float) -> None:
        """Drop what lies under other keys for so long."""
        before = self._clock() - older_than_s
        for key in [k for k in self.blobs if k not in live and self._stored_at[k] <= before]:
            del self.blobs[key]

    def is_sound(self, key: str, ref: BlobRef, *, discards: bool = True) -> bool:
        """Compare a blob with its digest, as the gateway does; an unsound one is removed."""
        data = self.blobs.get(key)
        if data is not None and blob_ref(data) == ref:
            return True
        # A key is written once: what is unsound must go, or it could never be replaced.
        if discards:
            self.blobs.pop(key, None)
        return False

    def _clock(self) -> float:
        return self._world.now + self.ahead_s

    def _url(self, key: str) -> str:
        until = self._clock() + self.weather.grant_s
        return f"https://blobs.example/{key}?until={until:.3f}"

    def _problem(self, grant: Grant) -> FetchProblem | None:
        if self._world.chance(self.weather.unreachable):
            return "unreachable"
        until = float(grant.url.rpartition("=")[2])
        if until < self._clock() or self._world.chance(self.weather.refusal):
            return "refused"
        return None

    def _trouble(self, problem: FetchProblem) -> FetchProblem:
        # A refusal excuses nothing: it must cost no more than what a heartbeat says of it.
        self.troubles += problem != "refused"
        return problem
