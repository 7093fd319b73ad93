"""Names that may travel: devices, runs, commands. None of them ever becomes a file path."""

import re
from typing import Final

from windflower.errors import MalformedMessage

GATEWAY: Final = "gateway"
"""Reserved: no device may carry this id."""

_IDENTIFIER = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9:_-]{0,127}")
_COMMAND = re.compile(r"[0-9a-f]{32}")
_DIGEST = re.compile(r"[0-9a-f]{64}")


def check_identifier(text: object, *, what: str) -> str:
    """Return `text` if it may name a device, run or group, else raise MalformedMessage."""
    if not isinstance(text, str) or not _IDENTIFIER.fullmatch(text):
        raise MalformedMessage(f"{what} is not an identifier")
    return text


def check_device(text: object) -> str:
    """Return `text` if it may name a device, else raise MalformedMessage."""
    device = check_identifier(text, what="client")
    if device == GATEWAY:
        raise MalformedMessage("client 'gateway' is reserved")
    return device


def check_command(text: object) -> str:
    """Return `text` if it is 128 bits in lower-case hex, else raise MalformedMessage."""
    if not isinstance(text, str) or not _COMMAND.fullmatch(text):
        raise MalformedMessage("id is not 32 hex digits")
    return text


def check_digest(text: object) -> str:
    """Return `text` if it is a SHA-256 in lower-case hex, else raise MalformedMessage."""
    if not isinstance(text, str) or not _DIGEST.fullmatch(text):
        raise MalformedMessage("digest is not 64 hex digits")
    return text
