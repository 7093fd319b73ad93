"""Names and seeds that follow from what they stand for: a run that starts again asks alike."""

import hashlib
from typing import Final

_NODE_BITS: Final = 63


def command_id(
    *, run: str, device: str, message_type: str, group: str, content_digest: str, occurrence: int
) -> str:
    """Return the id of a command, 32 hex digits.

    Two commands have the same id exactly when the same run asks the same device for the same thing
    for the same time.

    Args:
        run: the run's id.
        device: the device's id.
        message_type: Flower's message type.
        group: Flower's group id.
        content_digest: `Content.digest` of what is sent.
        occurrence: how often the run has asked exactly this before.
    """
    return _hash("command", run, device, message_type, group, content_digest, str(occurrence))[:32]


def device_seed(*, run_seed: int, device: str, message_type: str, occurrence: int) -> str:
    """Return the seed for one piece of work on one device, 16 hex digits.

    Never made from a run id, a command id or the time: two runs with one seed draw alike.
    """
    return _hash("seed", str(run_seed), device, message_type, str(occurrence))[:16]


def node_of(device: str) -> int:
    """Return Flower's integer for a device: 1 to 2**63 - 1, the same everywhere and for ever."""
    value = int(_hash("node", device), 16) >> (256 - _NODE_BITS)
    return max(value, 2)  # 1 is Flower's own SuperLink


def run_integer(run: str) -> int:
    """Return Flower's integer for a run."""
    return max(int(_hash("run", run), 16) >> (256 - _NODE_BITS), 1)


def _hash(*parts: str) -> str:
    # Lengths go in, or ("ab", "c") and ("a", "bc") would be one.
    joined = b"".join(
        b"%d:%s" % (len(p), p) for p in (part.encode("utf-8", "surrogatepass") for part in parts)
    )
    return hashlib.sha256(b"windflower 1\n" + joined).hexdigest()


def checkpoint_seed(*, run_seed: int, number: int) -> int:
    """Return what the random sources are seeded with behind a run's nth checkpoint, 256 bits.

    A run that goes on from there then draws what it would have drawn.
    """
    return int(_hash("checkpoint", str(run_seed), str(number)), 16)
