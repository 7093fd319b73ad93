"""What somebody wants to run, and the run that comes of it."""

import secrets
from dataclasses import dataclass

from windflower.core.ledger import RunRecord
from windflower.core.policy import RoundPolicy
from windflower.wire.blobs import BlobRef
from windflower.wire.values import Values


@dataclass(frozen=True, slots=True)
class RunRequest:
    """What somebody wants to run.

    Attributes:
        app: the app's name.
        folder: where it was read from.
        bundle: the app; adopted before.
        config: the run configuration's overrides.
        seed: what all random sources derive from; None draws one.
        is_private: whether noise is drawn that must stay secret; then `seed` is None.
        policy: what its phases wait for.
        limit: how many of the freshest devices take part; None takes all.
        request: a name that whoever asks has drawn: one request opens one run, asked twice or not.
        simulated: how many devices are simulated for it.
        crew: what they are called.
    """

    app: str
    folder: str
    bundle: BlobRef
    config: Values
    seed: int | None
    policy: RoundPolicy
    is_private: bool = False
    limit: int | None = None
    request: str = ""
    simulated: int = 0
    crew: str = "device"

    def to_record(self, *, number: int, epoch: int, at: float) -> RunRecord:
        """Return the run that this opens: its name, and what its random sources derive from.

        Args:
            number: its number in the fleet.
            epoch: under which it is begun.
            at: Unix seconds.
        """
        return RunRecord(
            run=f"{number}-{secrets.token_hex(4)}",
            number=number,
            epoch=epoch,
            app=self.app,
            folder=self.folder,
            bundle=self.bundle,
            config=self.config,
            seed=self._draw_seed(),
            is_private=self.is_private,
            policy=self.policy,
            limit=self.limit,
            request=self.request,
            simulated=self.simulated,
            crew=self.crew,
            state="open",
            created_at=at,
        )

    def _draw_seed(self) -> int:
        """Draw a seed where none is given: where noise depends on it, one that nobody can try."""
        if self.is_private:
            return secrets.randbits(256)
        return secrets.randbits(63) if self.seed is None else self.seed
