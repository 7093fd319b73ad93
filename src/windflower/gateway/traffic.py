"""Counts what a gateway sends and hears, for people who ask what a round costs."""

from dataclasses import asdict, dataclass, fields
from typing import Final, Self

from windflower.wire.messages import Command, Reply

METERED_BYTES: Final = 5 * 1024
"""A message counts once for each part of this size. Source: AWS IoT Core, metering."""


@dataclass(slots=True)
class Traffic:
    """What passed between a gateway and its fleet, in numbers that only grow.

    Attributes:
        commands: commands that were sent, repeated ones too.
        controls: controls that were sent: acknowledgements, grants, roll calls, cancellations.
        replies: replies that came, repeated ones too.
        heartbeats: heartbeats that came.
        sent_bytes: bytes of all messages that were sent, without MQTT's own.
        heard_bytes: bytes of all messages that came.
        sent_units: messages that were sent, each counted once for each begun 5 KiB.
        downloads: blobs that commands named; a device that holds one does not fetch it.
        download_bytes: their size.
        uploads: blobs that replies named.
        upload_bytes: their size.
    """

    commands: int = 0
    controls: int = 0
    replies: int = 0
    heartbeats: int = 0
    sent_bytes: int = 0
    heard_bytes: int = 0
    sent_units: int = 0
    downloads: int = 0
    download_bytes: int = 0
    uploads: int = 0
    upload_bytes: int = 0

    def command(self, command: Command, message: bytes) -> None:
        """Count a command that was sent."""
        self.commands += 1
        self._sent(message)
        pack = command.content.pack
        if pack is not None and command.content.inline is None:
            self.downloads += 1
            self.download_bytes += pack.size_bytes

    def control(self, message: bytes) -> None:
        """Count a control that was sent."""
        self.controls += 1
        self._sent(message)

    def reply(self, reply: Reply, message: bytes) -> None:
        """Count a reply that came."""
        self.replies += 1
        self.heard_bytes += len(message)
        if reply.path is not None and reply.content.pack is not None:
            self.uploads += 1
            self.upload_bytes += reply.content.pack.size_bytes

    def heartbeat(self, message: bytes) -> None:
        """Count a heartbeat that came."""
        self.heartbeats += 1
        self.heard_bytes += len(message)

    def _sent(self, message: bytes) -> None:
        self.sent_bytes += len(message)
        self.sent_units += -(-len(message) // METERED_BYTES)

    def copy(self) -> Self:
        """Return what was counted until now."""
        return type(self)(**asdict(self))

    def since(self, before: Self) -> dict[str, int]:
        """Return what was counted since a copy was made."""
        return {f.name: getattr(self, f.name) - getattr(before, f.name) for f in fields(self)}
