"""The MQTT topics: the only place that knows how they are spelled.

They are the original sample's, so that rules, policies and habits built on it keep working.
Access lists and IoT policies are derived from `TABLE`.
"""

from dataclasses import dataclass
from typing import Final, Literal

from windflower.errors import LocalProtocolError, MalformedMessage
from windflower.wire.identifiers import check_device

Side = Literal["device", "gateway"]
Kind = Literal["heartbeat", "command", "reply"]


@dataclass(frozen=True, slots=True)
class Topic:
    """One line of the table.

    Attributes:
        kind: what travels there.
        pattern: its spelling; `{client}` stands for the device's id.
        publisher: who may publish; the other side may subscribe.
    """

    kind: Kind
    pattern: str
    publisher: Side


REPLY_FAMILY: Final = {
    "get_parameters": "parameters",
    "set_parameters": "set",
    "fit": "fit",
    "evaluate": "evaluate",
    "query": "query",
}
"""The first segment of the topic on which each method is answered."""

TABLE: Final = (
    Topic("heartbeat", "flower/clients/{client}", "device"),
    Topic("command", "commands/client/{client}/update", "gateway"),
    *(Topic("reply", f"{family}/client/{{client}}/sent", "device")
      for family in REPLY_FAMILY.values()),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Ingest:
    """Rules of AWS IoT that take what devices say, past the broker (Basic Ingest).

    A rule sees our topic behind the prefix, so that one rule serves both ways.

    Attributes:
        heartbeat: the rule for heartbeats.
        reply: the rule for replies.
    """

    heartbeat: str
    reply: str

    def to_rule(self, kind: Literal["heartbeat", "reply"], topic: str) -> str:
        """Return where to publish what would go to a topic of ours."""
        return f"$aws/rules/{self.heartbeat if kind == 'heartbeat' else self.reply}/{topic}"


class Topics:
    """Spells and reads topics under an optional prefix.

    Args:
        prefix: put before every topic, for example "site-4/"; empty by default.
    """

    def __init__(self, prefix: str = "") -> None:
        if any(c in "+#\0" for c in prefix) or prefix.startswith("$"):
            raise LocalProtocolError(f"{prefix!r} cannot begin a topic: no '+', '#' or leading '$'")
        self._prefix = prefix if not prefix or prefix.endswith("/") else prefix + "/"

    def heartbeat(self, device: str) -> str:
        """Where a device says that it lives."""
        return f"{self._prefix}flower/clients/{device}"

    def command(self, device: str) -> str:
        """Where a device is told what to do: its only subscription."""
        return f"{self._prefix}commands/client/{device}/update"

    def reply(self, method: str, device: str) -> str:
        """Where a device answers a method."""
        return f"{self._prefix}{REPLY_FAMILY[method]}/client/{device}/sent"

    def from_devices(self) -> tuple[str, ...]:
        """The filters to which a gateway subscribes."""
        return tuple(
            self._prefix + topic.pattern.replace("{client}", "+")
            for topic in TABLE
            if topic.publisher == "device"
        )

    def read(self, topic: str) -> tuple[Kind, str]:
        """Return what travels on a topic, and the device's id; raises MalformedMessage."""
        for line in TABLE:
            before, after = line.pattern.split("{client}")
            before = self._prefix + before
            middle = topic.removeprefix(before).removesuffix(after)
            if topic == before + middle + after and "/" not in middle:
                return line.kind, check_device(middle)
        raise MalformedMessage("a topic that is not ours")
