"""Whether devices can run an app: each is asked once, before the app is told of it.

Nobody is asked about an app that needs nothing but what every device has.
"""

import hashlib
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from flwr.app import RecordDict

from windflower.core.events import DeviceUnfit
from windflower.core.ledger import RunRecord, Settlement
from windflower.core.own_command import own_command
from windflower.errors import MalformedMessage, RunFailed
from windflower.flower.records import from_content, to_packing
from windflower.flower.requirements import CHECK, NOTE, OBSTACLE, READINESS
from windflower.gateway.line import RunLine
from windflower.wire.content import Content, pack_inline
from windflower.wire.messages import Command, method_of

CHECK_S: Final = 600.0
"""So long a device may take to say it; whoever has not said it by then is taken to be able."""


class Readiness:
    """Which devices can run an app.

    Args:
        line: the gateway.
        run: the run.
        requires: what the app needs that a device may lack; where it is empty nobody is asked.

    Attributes:
        asked: who was asked.
        unfit: who cannot, and why.
    """

    def __init__(self, line: RunLine, run: RunRecord, requires: Sequence[str]) -> None:
        self._line = line
        self._record = run
        self._requires = requires
        self.asked: set[str] = set()
        self.unfit: dict[str, str] = {}

    def of(self, devices: Sequence[str]) -> list[str]:
        """Return those of the devices that can run the app; asks those that were not asked yet.

        Raises:
            RunFailed: none of them can.
        """
        new = [device for device in devices if device not in self.asked]
        if self._requires and new:
            self._ask(new)
        fit = [device for device in devices if device not in self.unfit]
        if devices and not fit:
            raise RunFailed(f"no device can run {self._record.app}: {self.first_reason}")
        return fit

    @property
    def first_reason(self) -> str:
        """Why one of the devices that cannot run the app cannot; empty where all can."""
        return next((f"{device}: {reason}" for device, reason in self.unfit.items()), "")

    def _ask(self, devices: Sequence[str]) -> None:
        self.asked |= set(devices)
        nothing = pack_inline(to_packing(RecordDict()))
        commands = [self._command(device, nothing) for device in devices]
        phase = hashlib.sha256("\n".join(c.id for c in commands).encode()).hexdigest()
        settled = self._line.ask(self._record.run, phase, commands, timeout_s=CHECK_S)
        for settlement in settled:
            problem, note = _said(settlement)
            if problem:
                self.unfit[settlement.device] = problem
            if problem or note:
                self._report(settlement.device, problem or note, is_left_out=bool(problem))

    def _report(self, device: str, reason: str, *, is_left_out: bool) -> None:
        run = self._record.run
        event = DeviceUnfit(run=run, device=device, reason=reason, is_left_out=is_left_out)
        self._line.report(event.to_json())

    def _command(self, device: str, content: Content) -> Command:
        run = self._record
        asked = own_command(
            *(run, device, method_of(CHECK), content),
            ttl_s=CHECK_S,
            at=time.time(),
            type_=CHECK,
        )
        return replace(asked, bundle=run.bundle, config=run.config)


def _said(settlement: Settlement) -> tuple[str, str]:
    """Return why a device cannot run the app, and what may be wrong though it loads."""
    reply = settlement.reply
    if reply is None:
        return "", ""  # it did not answer: whoever asks it for more will see
    if reply.failure is not None:
        return reply.failure.reason, ""
    try:
        said = from_content(reply.content, None).config_records[READINESS]
        return str(said[OBSTACLE]), str(said[NOTE])
    except (MalformedMessage, KeyError):
        return "", ""  # its agent is older, and asked the app
