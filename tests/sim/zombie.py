"""A gateway that was paused, not killed: it wakes up late and knows nothing of its successor.

Its journal is closed to it, so that it ends at the first thing that it would have to record. What
it says until then must do no harm.
"""

from collections.abc import Iterable

from sim.codec import Parcel
from sim.journal import KeepPresence
from sim.place import Place
from sim.process import Commit
from windflower.core.exchange import Exchanges
from windflower.core.gateway_effects import RECORDS, Effect, Send, Tell
from windflower.wire.blobs import Grant
from windflower.wire.messages import Command, Control

Step = Effect | KeepPresence | Commit[Effect | KeepPresence]


class Zombie:
    """Says late what it was about to say, then answers what it hears.

    Args:
        place: where it is.
        exchanges: all that it knows.
        leftover: the effects that it had not carried out when it was paused.
    """

    def __init__(self, place: Place, exchanges: Exchanges, leftover: Iterable[Step]) -> None:
        self._place = place
        self._exchanges = exchanges
        self._leftover = list(leftover)

    def wake(self, awake_s: float) -> None:
        """Go on for a while as if nothing had happened."""
        network = self._place.network
        network.eavesdroppers.append(self.receive)
        self._say(self._leftover)
        self._place.world.after(awake_s, self._end)

    def receive(self, kind: str, parcel: Parcel) -> None:
        """Answer a message as a gateway does that believes to be the only one."""
        now, codec = self._place.world.now, self._place.codec
        if kind == "reply":
            self._say(self._exchanges.replied(codec.reply(parcel), now))
        elif kind == "heartbeat":
            self._say(self._exchanges.heard(codec.heartbeat(parcel), now))

    def _say(self, effects: Iterable[Step]) -> None:
        for effect in effects:
            if isinstance(effect, (*RECORDS, Commit)):
                self._end()
                return
            if isinstance(effect, Send):
                self._publish("command", effect.command, self._grants(effect.command))
            elif isinstance(effect, Tell) and effect.method in ("ack", "cancel"):
                control = Control(
                    effect.device,
                    effect.method,
                    effect.ids,
                    epoch=effect.epoch,
                    floor=effect.floor,
                )
                self._publish("control", control, ())

    def _publish(self, kind: str, message: Command | Control, grants: tuple[Grant, ...]) -> None:
        self._place.world.note("zombie", "says", message.method, "to", message.client)
        parcel = self._place.codec.close(message, grants)
        self._place.network.troubles += 1
        self._place.network.publish("zombie", message.client, kind, parcel)

    def _grants(self, command: Command) -> tuple[Grant, ...]:
        blobs = self._place.blobs
        gets = (blobs.grant_get(ref) for ref in command.blobs)
        return (*gets, blobs.grant_put(command.reply_key))

    def _end(self) -> None:
        eavesdroppers = self._place.network.eavesdroppers
        if self.receive in eavesdroppers:
            eavesdroppers.remove(self.receive)
