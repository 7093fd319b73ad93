"""Signatures: what a gateway says is signed, and a device obeys one key.

Ed25519 (RFC 8032) over the exact bytes of a message's body, so that nobody has to agree on how JSON
is written twice, and a plain line for each grant.
"""

from base64 import b64decode, b64encode
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from windflower.errors import MalformedMessage

_CONTEXT: Final = b"windflower wire 1\n"
"""So that a signature made for anything else never opens a command."""

KEY_BYTES: Final = 32


class Signer:
    """Signs texts with one private key.

    Args:
        seed: the private key's 32 bytes (RFC 8032, section 5.1.5).
    """

    def __init__(self, seed: bytes) -> None:
        self._private = Ed25519PrivateKey.from_private_bytes(seed)
        self.public_key = b64encode(self._private.public_key().public_bytes_raw()).decode()
        """The key that devices pin, 32 bytes in base64."""

    def sign(self, signed: str) -> str:
        """Return the signature of a text, 64 bytes in base64."""
        return b64encode(self._private.sign(_CONTEXT + signed.encode())).decode()


def verify(signed: str, *, signature: str, key: str) -> None:
    """Raise MalformedMessage unless `signature` was made over `signed` by the holder of `key`."""
    try:
        public = Ed25519PublicKey.from_public_bytes(b64decode(key, validate=True))
        public.verify(b64decode(signature, validate=True), _CONTEXT + signed.encode())
    except (InvalidSignature, ValueError) as error:
        raise MalformedMessage("the signature does not fit") from error
