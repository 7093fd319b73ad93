from base64 import b64decode, b64encode

import pytest

from windflower.errors import MalformedMessage
from windflower.wire.sealing import KEY_BYTES, Signer, verify

SIGNER = Signer(bytes(KEY_BYTES))


def test_a_signature_and_a_key_have_their_fixed_lengths() -> None:
    assert 32 == len(b64decode(SIGNER.public_key))
    assert 64 == len(b64decode(SIGNER.sign("")))


def test_the_same_body_is_signed_alike() -> None:
    assert SIGNER.sign("body") == Signer(bytes(KEY_BYTES)).sign("body")


def test_what_was_signed_is_accepted() -> None:
    for body in ("", "{}", "ü 🌬"):
        verify(body, signature=SIGNER.sign(body), key=SIGNER.public_key)


@pytest.mark.parametrize(
    "signature",
    ["", "!", "AAAA", "é", b64encode(bytes(64)).decode(), b64encode(b"\xff" * 64).decode()],
)
def test_what_is_no_signature_is_refused(signature: str) -> None:
    with pytest.raises(MalformedMessage):
        verify("body", signature=signature, key=SIGNER.public_key)


@pytest.mark.parametrize("key", ["", "!", "AAAA", "é", b64encode(bytes(31)).decode()])
def test_what_is_no_key_is_refused(key: str) -> None:
    with pytest.raises(MalformedMessage):
        verify("body", signature=SIGNER.sign("body"), key=key)


def test_a_body_that_is_no_text_is_refused() -> None:
    with pytest.raises(MalformedMessage):
        verify("\ud800", signature=SIGNER.sign("body"), key=SIGNER.public_key)
