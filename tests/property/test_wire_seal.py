"""A device obeys one key, and nothing that the key did not sign."""

from base64 import b64decode, b64encode
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st
from vectors.values import BOUNDED, controls, grants, orders

from windflower.errors import MalformedMessage
from windflower.wire.blobs import Grant
from windflower.wire.messages import Command, Control, Envelope, seal
from windflower.wire.sealing import Signer, verify

OURS = Signer(bytes(range(32)))
THEIRS = Signer(bytes(range(1, 33)))
BODY = Control("pi-07", "rollcall").to_body()


def _is_refused(envelope: Envelope, key: str = OURS.public_key) -> bool:
    try:
        envelope.open(pinned_key=key)
    except MalformedMessage:
        return True
    return False


@BOUNDED
@given(orders | controls, st.data())
def test_no_character_of_a_signed_body_can_be_changed(
    message: Command | Control, data: st.DataObject
) -> None:
    envelope = seal(message, OURS)
    at = data.draw(st.integers(0, len(envelope.body) - 1))
    other = data.draw(st.characters().filter(lambda c: c != envelope.body[at]))

    changed = envelope.body[:at] + other + envelope.body[at + 1 :]

    assert _is_refused(replace(envelope, body=changed))
    assert _is_refused(replace(envelope, body=envelope.body[:at]))
    assert _is_refused(replace(envelope, body=envelope.body + other))


@BOUNDED
@given(st.integers(0, 511))
def test_no_bit_of_a_signature_can_be_changed(bit: int) -> None:
    envelope = seal(Control("pi-07", "rollcall"), OURS)
    signature = bytearray(b64decode(envelope.signature))
    signature[bit // 8] ^= 1 << bit % 8

    assert _is_refused(replace(envelope, signature=b64encode(signature).decode()))


@BOUNDED
@given(st.text(max_size=100) | st.binary(max_size=100).map(lambda raw: b64encode(raw).decode()))
def test_what_is_no_signature_is_refused(signature: str) -> None:
    assert _is_refused(replace(seal(Control("pi-07", "rollcall"), OURS), signature=signature))


@BOUNDED
@given(st.text(max_size=50) | st.binary(max_size=40).map(lambda raw: b64encode(raw).decode()))
def test_what_is_no_key_opens_nothing(key: str) -> None:
    envelope = replace(seal(Control("pi-07", "rollcall"), OURS), key=key)

    assert _is_refused(envelope, key=key)


@BOUNDED
@given(orders | controls)
def test_another_key_than_the_pinned_one_is_refused(message: Command | Control) -> None:
    theirs = seal(message, THEIRS)

    assert _is_refused(theirs)
    assert _is_refused(replace(theirs, key=OURS.public_key))
    assert _is_refused(seal(message, OURS), key=THEIRS.public_key)


@BOUNDED
@given(orders | controls)
def test_an_envelope_that_names_another_device_or_method_is_refused(
    message: Command | Control,
) -> None:
    envelope = seal(message, OURS)

    assert _is_refused(replace(envelope, client=f"x{message.client}"[:128]))
    for method in ("fit", "query", "ack", "cancel", "unheard-of"):
        assert (method != message.method) == _is_refused(replace(envelope, method=method))


@BOUNDED
@given(orders, st.lists(grants, max_size=3).map(tuple), st.lists(grants, max_size=3).map(tuple))
def test_nobody_else_says_where_to_fetch_and_where_to_put(
    command: Command, first: tuple[Grant, ...], second: tuple[Grant, ...]
) -> None:
    envelope = seal(command, OURS, first)
    places = [[(g.method, g.key, g.url) for g in some] for some in (first, second)]

    assert repr(command) == repr(envelope.open(pinned_key=OURS.public_key))
    assert (places[0] != places[1]) == _is_refused(replace(envelope, grants=second))


@BOUNDED
@given(orders, grants)
def test_no_line_of_a_grant_passes_for_a_part_of_the_body(command: Command, grant: Grant) -> None:
    envelope = seal(command, OURS, (grant,))
    moved = f"{envelope.body}\n{grant.method} {grant.key} {grant.url}"

    assert _is_refused(replace(envelope, body=moved, grants=()))


@pytest.mark.parametrize("context", [b"", b"windflower wire 1", b"windflower wire 2\n"])
def test_a_signature_made_in_another_context_is_refused(context: bytes) -> None:
    private = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
    signature = b64encode(private.sign(context + BODY.encode())).decode()

    with pytest.raises(MalformedMessage):
        verify(BODY, signature=signature, key=OURS.public_key)


def test_the_signature_is_over_the_context_and_the_body() -> None:
    private = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
    signature = b64encode(private.sign(b"windflower wire 1\n" + BODY.encode())).decode()

    assert signature == OURS.sign(BODY)
