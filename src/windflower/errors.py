"""Every exception that windflower raises, cut by what the caller can do about it.

What one device does is data (an outcome, counted and shown); what our own process cannot do is an
exception that names the cause and the fix.

    WindflowerError
    ├── ConfigError               fix the setting that `key` names
    ├── AppError                  fix the Flower app
    ├── ProtocolError             abstract
    │   ├── LocalProtocolError        our own caller broke a rule: a bug here
    │   └── MalformedMessage          the peer's bytes are not a message: count it and drop it
    ├── TransportError            try again
    │   ├── BrokerUnavailable
    │   ├── BlobsUnavailable
    │   ├── StoreUnavailable
    │   └── GatewayUnavailable
    ├── RefusedError              trying again will not help until something is changed
    │   ├── BrokerRefused
    │   ├── GrantRefused
    │   ├── BlobTooLarge
    │   ├── IdentityTaken
    │   ├── FleetTaken
    │   └── PortTaken
    ├── BlobNotFound
    ├── WorkerDied
    └── RunError                  the run ended without its result
        ├── RunSuspended              it is still open: resume it
        │   ├── NotEnoughDevices
        │   ├── NotEnoughReplies
        │   ├── NotEnoughRoom
        │   └── RunDiverged
        └── RunFailed
"""

from typing import ClassVar


class WindflowerError(Exception):
    """The root: catch this to catch everything that windflower raises on purpose.

    Attributes:
        exit_code: what a command that ends with this error says to its shell (sysexits.h).
    """

    exit_code: ClassVar[int] = 70


class ConfigError(WindflowerError):
    """A setting is missing or wrong.

    Attributes:
        key: the setting's name as a person writes it.
        source: where the value came from (a file, an environment variable, a flag).
    """

    exit_code = 78

    def __init__(self, message: str, *, key: str = "", source: str = "") -> None:
        super().__init__(message)
        self.key = key
        self.source = source


class AppError(WindflowerError):
    """The Flower app cannot be loaded or says nothing that can be run."""

    exit_code = 65


class ProtocolError(WindflowerError):
    """A rule of the wire was broken."""


class LocalProtocolError(ProtocolError):
    """Our own code asked for something that the wire cannot say."""


class MalformedMessage(ProtocolError):  # noqa: N818 - it is what was received, not what went wrong here
    """Bytes from outside that are not a message of this wire.

    Every decoder of `windflower.wire` raises this and nothing else, whatever the bytes.

    Attributes:
        reason: one short line, safe to log.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class TransportError(WindflowerError):
    """The other side cannot be reached now; the same call may succeed later."""

    exit_code = 69


class BrokerUnavailable(TransportError):  # noqa: N818 - named after the state it reports
    """No MQTT broker answers at the address."""


class BlobsUnavailable(TransportError):  # noqa: N818
    """The place that keeps the blobs does not answer."""


class StoreUnavailable(TransportError):  # noqa: N818
    """The file that must not forget cannot be written: the disk is full, or gone."""


class GatewayUnavailable(TransportError):  # noqa: N818
    """No gateway runs on this state folder, or it went away."""


class RefusedError(WindflowerError):
    """The other side answered, and said no."""

    exit_code = 77


class BrokerRefused(RefusedError):  # noqa: N818
    """The broker answered and refused: wrong password, no permission, wrong protocol."""


class GrantRefused(RefusedError):  # noqa: N818
    """A grant was not accepted: expired, for another key, or already used."""


class BlobTooLarge(RefusedError):  # noqa: N818
    """A blob is larger than the store takes."""


class IdentityTaken(RefusedError):  # noqa: N818
    """Another agent speaks under the same device id."""

    exit_code = 73


class FleetTaken(RefusedError):  # noqa: N818
    """Another gateway already works on the same state folder."""

    exit_code = 73


class PortTaken(RefusedError):  # noqa: N818
    """A TCP port that we must listen on is in use."""

    exit_code = 78


class BlobNotFound(WindflowerError):  # noqa: N818
    """No blob has this name."""


class WorkerDied(WindflowerError):  # noqa: N818
    """The process that runs the user's ClientApp ended without an answer."""


class RunError(WindflowerError):
    """The run ended without its result."""

    exit_code = 65


class RunSuspended(RunError):  # noqa: N818
    """The run stopped before its end and loses nothing by it: it can be resumed."""

    exit_code = 75


class NotEnoughDevices(RunSuspended):
    """Fewer devices are online than the run needs.

    Attributes:
        have: devices online.
        need: devices needed.
    """

    def __init__(self, message: str, *, have: int, need: int) -> None:
        super().__init__(message)
        self.have = have
        self.need = need


class NotEnoughReplies(RunSuspended):
    """By the deadline of a phase fewer devices had answered well than its policy asks for."""


class NotEnoughRoom(RunSuspended):
    """The gateway's disk has no room for what a phase may bring: it is not begun."""

    exit_code = 74


class RunDiverged(RunSuspended):
    """A run that was started again asks for something else than it did before."""

    exit_code = 65


class RunFailed(RunError):  # noqa: N818
    """The ServerApp raised, or its process died."""
