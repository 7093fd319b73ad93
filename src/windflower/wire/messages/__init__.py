"""The messages of wire version 1: heartbeat, command, control, reply.

A gateway's messages are sealed: the body is JSON text inside the envelope, signed as it stands.
Grants stand outside the body, so that a URL can be renewed without a new command. A device's
messages are plain JSON, with the original sample's field names where it had them, so that an IoT
rule can read them.
"""

from windflower.wire.messages.command import NO_CONFIG, Command, Control
from windflower.wire.messages.envelope import Envelope, seal
from windflower.wire.messages.heartbeat import (
    STAGES,
    TIMED,
    Heartbeat,
    Stage,
    TaskProgress,
    check_labels,
)
from windflower.wire.messages.reply import NOTHING, Failure, Reply
from windflower.wire.messages.vocabulary import (
    CAUSES,
    CONTROLS,
    METHODS,
    RESERVED,
    VERSION,
    Cause,
    ControlMethod,
    Method,
    method_of,
)

__all__ = [
    "CAUSES",
    "CONTROLS",
    "METHODS",
    "NOTHING",
    "NO_CONFIG",
    "RESERVED",
    "STAGES",
    "TIMED",
    "VERSION",
    "Cause",
    "Command",
    "Control",
    "ControlMethod",
    "Envelope",
    "Failure",
    "Heartbeat",
    "Method",
    "Reply",
    "Stage",
    "TaskProgress",
    "check_labels",
    "method_of",
    "seal",
]
