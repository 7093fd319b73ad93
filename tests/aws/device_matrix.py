"""Who may publish and subscribe where: one list, held against IoT Core's policy and a broker's."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from aws.permissions import allows

from windflower.adapters.aws.template import Stack
from windflower.wire.topics import TABLE

Deed = Literal["publish", "subscribe", "receive"]
OTHER = "pi-08"


@dataclass(frozen=True, slots=True)
class Asked:
    """Something that a device might want.

    Attributes:
        deed: what.
        topic: where, as the protocol spells it.
        rule: the rule whose Basic Ingest topic it uses instead; empty for the plain topic.
        is_allowed: what the answer has to be.
    """

    deed: Deed
    topic: str
    is_allowed: bool
    rule: Literal["response", "heartbeat", ""] = ""

    def __str__(self) -> str:
        return f"{self.deed} {self.topic}{f' by {self.rule}' if self.rule else ''}"


def asked_of(device: str) -> Iterator[Asked]:
    """Yield what one device may do, and the same for another's topics, which it may not."""
    for topic in TABLE:
        for client in (device, OTHER):
            own = client == device
            name = topic.pattern.replace("{client}", client)
            is_ours = own and topic.publisher == "device"
            match topic.kind:
                case "reply":
                    yield Asked("publish", name, is_ours, "response")
                    yield Asked("publish", name, False, "heartbeat")
                case "heartbeat":
                    yield Asked("publish", name, is_ours, "heartbeat")
                    yield Asked("publish", name, is_ours)
                    yield Asked("publish", name, False, "response")
                case "command":
                    yield Asked("publish", name, False)
            for deed in ("subscribe", "receive"):
                yield Asked(deed, name, own and topic.kind == "command")
    for wide in ("#", "+/client/+/sent", "commands/client/+/update", "commands/client/#"):
        yield Asked("subscribe", wide, False)
    # A star in a policy takes slashes too, and the rule reads the third level.
    smuggled = f"fit/client/{OTHER}/sent/client/{device}/sent"
    yield Asked("publish", smuggled, False, "response")
    yield Asked("publish", f"model/client/{device}/sent", False, "response")


class IotDevice:
    """A device under the template's policy.

    Args:
        stack: the template, resolved.
        thing: its thing's name.
        is_attached: whether its certificate is attached to that thing.
    """

    def __init__(self, stack: Stack, thing: str, *, is_attached: bool = True) -> None:
        self._document = stack.properties("DevicePolicy")["PolicyDocument"]
        self._key = stack.parameters["UniqueKey"]
        arn = stack.resources["PipelineRole"]["Properties"]["AssumeRolePolicyDocument"]
        account = arn["Statement"][0]["Condition"]["StringEquals"]["aws:SourceAccount"]
        region = str(stack.outputs["PipelineArn"]).split(":")[3]
        self._arn = f"arn:aws:iot:{region}:{account}"
        self._context = {
            "iot:Connection.Thing.ThingName": thing,
            "iot:Connection.Thing.IsAttached": "true" if is_attached else "false",
            "iot:ConnectAttributes": ["LastWill"],
        }

    def may_connect(self, client: str) -> bool:
        """Return whether it may connect under a client id."""
        return self._allows("iot:Connect", f"client/{client}")

    def may(self, asked: Asked) -> bool:
        """Return whether the policy allows what it might want."""
        topic = f"$aws/rules/{self._key}_{asked.rule}/{asked.topic}" if asked.rule else asked.topic
        match asked.deed:
            case "publish":
                return self._allows("iot:Publish", f"topic/{topic}")
            case "receive":
                return self._allows("iot:Receive", f"topic/{topic}")
            case "subscribe":
                return self._allows("iot:Subscribe", f"topicfilter/{topic}")

    def _allows(self, action: str, resource: str) -> bool:
        return allows(self._document, action, f"{self._arn}:{resource}", self._context)
