"""Messages for tests: small, whole, and different where a test says so."""

from collections.abc import Mapping
from dataclasses import replace

from windflower.core.identity import command_id
from windflower.core.ledger import RunRecord
from windflower.core.policy import RoundPolicy, Terms
from windflower.wire.blobs import BlobRef
from windflower.wire.content import ArrayEntry, Arrays, Content, pack_inline, pack_records
from windflower.wire.messages import NOTHING, Command, Failure, Reply
from windflower.wire.values import Values

RUN = "1-abc"


RUN_RECORD = RunRecord(
    run=RUN,
    number=4,
    epoch=1,
    app="app",
    folder="/apps/app",
    bundle=BlobRef("0" * 64, 10),
    config=Values("configs", (("rounds", 3), ("name", "x"), ("rate", 0.1))),
    seed=2**62 + 1,
    is_private=False,
    policy=RoundPolicy(is_strict=True),
    limit=None,
    request="",
    simulated=0,
    crew="device",
    state="open",
    created_at=1.5,
)
TERMS = Terms(99.0, waits_for_offline=True)


def content(number: int = 0) -> Content:
    """Return a content with one array and one metric."""
    data = bytes([number % 256]) * 8
    arrays = Arrays((ArrayEntry("w", "uint8", (8,), "raw", 8),))
    metrics = Values("metrics", (("num-examples", number), ("loss", 0.5)))
    return pack_inline(pack_records([("arrays", arrays), ("metrics", metrics)], [data]))


def command(number: int = 0, *, device: str = "d1", run: str = RUN, run_number: int = 1) -> Command:
    """Return a command."""
    id_ = command_id(
        run=run,
        device=device,
        message_type="train",
        group=str(number),
        content_digest=content(number).digest,
        occurrence=1,
    )
    return Command(
        id=id_,
        client=device,
        method="fit",
        type="train",
        group=str(number),
        run=run,
        number=run_number,
        epoch=1,
        floor=0,
        ttl_s=60.0,
        created_at=1000.0,
        content=content(number),
    )


def reply(to: Command, *, number: int = 0) -> Reply:
    """Return a reply with content."""
    return Reply(to.client, to.id, to.method, to.run, to.epoch, content(number), worked_s=0.25)


def failed(to: Command, reason: str = "it broke") -> Reply:
    """Return a reply with a failure."""
    return replace(reply(to), content=NOTHING, failure=Failure(2, reason))


class PlainPrice:
    """A dollar for each command and second."""

    source = "a list"

    def __call__(self, traffic: Mapping[str, int], seconds: float) -> float:
        return traffic["commands"] * seconds
