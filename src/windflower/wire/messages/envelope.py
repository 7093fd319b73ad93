"""How a gateway's messages travel: a body and its grants under one seal."""

from dataclasses import dataclass, replace

from windflower.errors import MalformedMessage
from windflower.wire.blobs import Grant
from windflower.wire.identifiers import check_device
from windflower.wire.limits import IDS
from windflower.wire.messages.command import Command, Control
from windflower.wire.messages.vocabulary import CONTROLS, VERSION, check_version
from windflower.wire.sealing import Signer, verify
from windflower.wire.strict_json import Fields, array, dumps, loads, present, text


@dataclass(frozen=True, slots=True)
class Envelope:
    """What a gateway publishes: a body and grants, sealed together.

    Attributes:
        client: the device that it is for.
        method: what the body's method says.
        body: JSON text, signed as it stands.
        signature: base64.
        key: the signer's public key, base64; a device pins the first, or the one it was given.
        grants: where to fetch what the body names, and where to put the answer.
    """

    client: str
    method: str
    body: str
    signature: str
    key: str
    grants: tuple[Grant, ...] = ()

    def to_bytes(self) -> bytes:
        """Write the message."""
        return dumps(
            {
                "v": VERSION,
                "client": self.client,
                "method": self.method,
                "body": self.body,
                "sig": self.signature,
                "key": self.key,
            }
            | present({"grants": [grant.to_json() for grant in self.grants]})
        ).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> "Envelope":
        """Read the message without trusting it; raises MalformedMessage."""
        fields = Fields(loads(data), what="envelope")
        fields.take("v", check_version)
        envelope = cls(
            client=fields.take("client", check_device),
            method=fields.take("method", text(32)),
            body=fields.take("body", text(len(data))),
            signature=fields.take("sig", text(128)),
            key=fields.take("key", text(64)),
            grants=fields.take_or("grants", array(Grant.from_json, at_most=IDS), ()),
        )
        fields.done()
        return envelope

    @property
    def signed(self) -> str:
        """What is signed: a line for each grant too, so that nobody else says where answers go."""
        return "\n".join([self.body, *(f"{g.method} {g.key} {g.url}" for g in self.grants)])

    def open(self, *, pinned_key: str) -> Command | Control:
        """Check the seal and read the body; raises MalformedMessage."""
        if self.key != pinned_key:
            raise MalformedMessage("signed with another key than the pinned one")
        verify(self.signed, signature=self.signature, key=pinned_key)
        opened: Command | Control
        if self.method in CONTROLS:
            opened = Control.from_body(self.body)
        else:
            opened = Command.from_body(self.body)
        if opened.client != self.client or opened.method != self.method:
            raise MalformedMessage("an envelope says other things than its body")
        return opened


def seal(message: Command | Control, signer: Signer, grants: tuple[Grant, ...] = ()) -> Envelope:
    """Sign a message for its device."""
    body = message.to_body()
    envelope = Envelope(message.client, message.method, body, "", signer.public_key, grants)
    return replace(envelope, signature=signer.sign(envelope.signed))
