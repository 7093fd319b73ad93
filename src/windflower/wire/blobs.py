"""References to bytes that travel beside the messages, and the grants to fetch or put them."""

import re
from dataclasses import dataclass
from typing import Any, Final, Literal
from urllib.parse import urlsplit

from windflower.errors import MalformedMessage
from windflower.wire.identifiers import check_digest
from windflower.wire.strict_json import Fields, integer, number, text

BLOB_BYTES: Final = 1 << 40
"""A sanity bound on sizes that messages claim, not a promise."""

_KEY_CHARS: Final = 512
_URL_CHARS: Final = 4096
_PLAIN = re.compile(r"https?://[!#-\[\]-~]+")
_KEY = re.compile(r"[!-~]+")


@dataclass(frozen=True, slots=True)
class BlobRef:
    """Names bytes by what they are.

    Attributes:
        digest: SHA-256 of the bytes, 64 lower-case hex digits.
        size_bytes: their number.
    """

    digest: str
    size_bytes: int

    @property
    def key(self) -> str:
        """Where a blob that is named by its digest stands in any blob store."""
        return f"blobs/{self.digest}"

    def to_json(self) -> dict[str, object]:
        """Return the JSON form."""
        return {"digest": self.digest, "size": self.size_bytes}

    @classmethod
    def from_json(cls, value: Any) -> "BlobRef":  # noqa: ANN401 - JSON is any
        """Read the JSON form; raises MalformedMessage."""
        fields = Fields(value, what="blob")
        ref = cls(fields.take("digest", check_digest), fields.take("size", integer(0, BLOB_BYTES)))
        fields.done()
        return ref


def reply_key(run: str, device: str, command: str) -> str:
    """Return where a device puts the pack of one reply: written once, never changed."""
    return f"out/{run}/{device}/{command}"


@dataclass(frozen=True, slots=True)
class Grant:
    """A capability: whoever holds `url` may do `method` to `key` until it expires.

    Attributes:
        method: GET or PUT.
        key: the blob's key, as in the command that the grant belongs to.
        url: http or https.
        size_bytes: a PUT of more is refused; a GET answers exactly this much.
        ttl_s: seconds for which the URL lives, from when the message was sent.
    """

    method: Literal["GET", "PUT"]
    key: str
    url: str
    size_bytes: int
    ttl_s: float

    def to_json(self) -> dict[str, object]:
        """Return the JSON form."""
        return {
            "method": self.method,
            "key": self.key,
            "url": self.url,
            "size": self.size_bytes,
            "ttl_s": self.ttl_s,
        }

    @classmethod
    def from_json(cls, value: Any) -> "Grant":  # noqa: ANN401 - JSON is any
        """Read the JSON form; raises MalformedMessage."""
        fields = Fields(value, what="grant")
        grant = cls(
            fields.take("method", _method),
            fields.take("key", _blob_key),
            fields.take("url", _http_url),
            fields.take("size", integer(0, BLOB_BYTES)),
            fields.take("ttl_s", number(0, 1e9)),
        )
        fields.done()
        return grant


def _method(value: object) -> Literal["GET", "PUT"]:
    if value == "GET":
        return "GET"
    if value == "PUT":
        return "PUT"
    raise MalformedMessage("a grant is for GET or PUT")


def _blob_key(value: object) -> str:
    key = text(_KEY_CHARS)(value)
    if not _KEY.fullmatch(key):
        raise MalformedMessage("a blob's key is not plain")
    return key


def _http_url(value: object) -> str:
    url = text(_URL_CHARS)(value)
    if not _PLAIN.fullmatch(url):
        raise MalformedMessage("a grant's url is not plain http or https")
    try:
        parts = urlsplit(url)
        is_whole = bool(parts.hostname) and parts.port != 0
    except ValueError as error:
        raise MalformedMessage("a grant's url has no host") from error
    if not is_whole:
        raise MalformedMessage("a grant's url has no host")
    return url
