"""What a device answers: content, or a failure."""

import math
from dataclasses import dataclass
from typing import Final

from windflower.errors import MalformedMessage
from windflower.wire.blobs import reply_key
from windflower.wire.content import Content
from windflower.wire.identifiers import check_command, check_device, check_identifier
from windflower.wire.limits import REASON_BYTES, REASON_CHARS
from windflower.wire.messages.vocabulary import (
    COUNT,
    SECONDS,
    VERSION,
    Method,
    check_method,
    check_version,
    ignored,
)
from windflower.wire.strict_json import (
    Fields,
    dumps,
    integer,
    is_unicode,
    loads,
    number,
    present,
    text,
)

NOTHING: Final = Content()
_MAX_CODE: Final = 1 << 31


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a device could not do what it was asked.

    Attributes:
        code: Flower's error code; what no reader would take is 0, "unknown".
        reason: what happened, the device's traceback where there is one.
    """

    code: int
    reason: str

    def __post_init__(self) -> None:
        """Make it fit: an app may fail with anything, and its failure has to arrive."""
        if not 0 <= self.code <= _MAX_CODE:
            object.__setattr__(self, "code", 0)
        reason = self.reason if is_unicode(self.reason) else _without_surrogates(self.reason)
        object.__setattr__(self, "reason", _without_middle(reason))


@dataclass(frozen=True, slots=True)
class Reply:
    """A device's answer to one command: content, or a failure.

    Attributes:
        client: the device's id.
        id: the command's id.
        method: the command's method.
        run: the command's run.
        epoch: the command's epoch.
        content: what the app answers; empty with a failure.
        failure: why there is no content.
        worked_s: seconds of work, for the page.
    """

    client: str
    id: str
    method: Method
    run: str
    epoch: int
    content: Content = NOTHING
    failure: Failure | None = None
    worked_s: float = 0.0

    @property
    def path(self) -> str | None:
        """The key of the reply's pack where it is a blob, else None."""
        if self.content.pack is None or self.content.inline is not None:
            return None
        return reply_key(self.run, self.client, self.id)

    def to_bytes(self) -> bytes:
        """Write the message."""
        return dumps(
            {
                "v": VERSION,
                "client": self.client,
                "id": self.id,
                "method": self.method,
                "run": self.run,
                "epoch": self.epoch,
                "digest": self.content.digest,
                "worked_s": self.worked_s,
            }
            | present(
                {
                    "path": self.path,
                    "content": self.content.to_json() if self.failure is None else None,
                    "error": _failure_json(self.failure),
                }
            )
            | self._as_the_original()
        ).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> "Reply":
        """Read the message; raises MalformedMessage."""
        value = loads(data)
        fields = Fields(value, what="reply")
        has_content = "content" in value
        fields.take("v", check_version)
        digest = fields.take("digest", text(64))
        path = fields.take_or("path", text(512), None)
        reply = cls(
            client=fields.take("client", check_device),
            id=fields.take("id", check_command),
            method=fields.take("method", check_method),
            run=fields.take("run", lambda v: check_identifier(v, what="run")),
            epoch=fields.take("epoch", integer(0, COUNT)),
            content=fields.take_or("content", Content.from_json, NOTHING),
            failure=fields.take_or("error", _failure, None),
            worked_s=fields.take_or("worked_s", number(0, SECONDS), 0.0),
        )
        if has_content is (reply.failure is not None):
            raise MalformedMessage("a reply has either content or an error")
        for readable in ("train_len", "dict", "loss", "accuracy"):
            fields.take_or(readable, ignored, None)
        fields.take_or("ext", ignored, None)
        fields.done()
        if digest != reply.content.digest:
            raise MalformedMessage("a reply is not what its digest names")
        if path != reply.path:
            raise MalformedMessage("a reply's path is not its own")
        return reply

    def metrics(self) -> dict[str, float]:
        """Return the numbers of all inline metric records, for events and for rules."""
        return {
            name: float(value)
            for _, record in self.content.records
            if record is not None and record.kind == "metrics"
            for name, value in record.items
            if isinstance(value, int | float) and _is_json_number(value)
        }

    def not_finite(self) -> tuple[str, ...]:
        """Return the names of inline metrics that are NaN or infinite."""
        return tuple(
            name
            for _, record in self.content.records
            if record is not None and record.kind == "metrics"
            for name, value in record.items
            if isinstance(value, float) and not math.isfinite(value)
        )

    def _as_the_original(self) -> dict[str, object]:
        """The original's field names, for rules that were written for it; nobody here reads them.

        Source: federated-learning-greengrass-ecs, lambda/flower.py.
        """
        metrics = self.metrics()
        examples = metrics.pop("num-examples", None)
        if examples is not None and examples.is_integer() and abs(examples) < COUNT:
            examples = int(examples)
        result: dict[str, object] = present({"train_len": examples})
        if self.method == "fit" and metrics:
            result["dict"] = metrics
        if self.method == "evaluate":
            result |= present({"loss": metrics.pop("loss", None)})
            if "accuracy" in metrics:
                result["accuracy"] = {"accuracy": metrics["accuracy"]}
        return result


def _failure(value: object) -> Failure:
    fields = Fields(value, what="error")
    failure = Failure(
        fields.take("code", integer(0, _MAX_CODE)), fields.take("reason", text(REASON_CHARS))
    )
    fields.done()
    return failure


def _failure_json(failure: Failure | None) -> dict[str, object] | None:
    return {"code": failure.code, "reason": failure.reason} if failure else None


def _without_surrogates(reason: str) -> str:
    return reason.encode("utf-8", "replace").decode()


def _without_middle(reason: str) -> str:
    """Cut the middle out of a long reason: the first and last lines say the most."""
    if len(reason) <= REASON_CHARS and len(dumps(reason)) <= REASON_BYTES:
        return reason
    chars, size = REASON_CHARS // 2 - 10, REASON_BYTES // 2 - 20
    head = reason[: _fitting(reason[:chars], size)]
    tail = reason[len(reason) - _fitting(reason[: -chars - 1 : -1], size) :]
    return f"{head}\n[ ... ]\n{tail}"


def _fitting(characters: str, size_bytes: int) -> int:
    """Return how many characters, from the first on, fit into so much JSON."""
    left = size_bytes
    for count, character in enumerate(characters):
        left -= len(dumps(character)) - 2
        if left < 0:
            return count
    return len(characters)


def _is_json_number(value: float) -> bool:
    return abs(value) < 1e300  # noqa: PLR2004 - also refuses NaN
