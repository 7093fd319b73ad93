"""The gateway of a case: the real one, and the scripted app as its only caller."""

import asyncio
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from crash import runs
from crash.place import Place
from crash.script import BUDGET_BYTES, BUNDLE, Phase, content_of, digest, script
from windflower.compose import open_gateway, serve_until
from windflower.core.identity import command_id
from windflower.core.ledger import RunRecord, Settlement
from windflower.gateway.desk import Desk
from windflower.settings import Settings
from windflower.wire.content import Content, blob_ref
from windflower.wire.messages import Command, method_of

DIGEST_BYTES: Final = 32
_TTL_S: Final = 300.0


async def serve(place: Place, stop: asyncio.Event) -> None:
    """Serve until told to stop; say the last model as soon as there is one."""
    settings = Settings(
        state=place.gateway_state,
        broker=f"{place.broker}/{place.name}",
        blobs=f"127.0.0.1:{place.blobs_port}",
        resume_gb=BUDGET_BYTES / (1 << 30),
    )
    async with open_gateway(settings) as gateway:
        playing = asyncio.create_task(_play(gateway.desk, place))
        serving = asyncio.create_task(serve_until(gateway, stop))
        await asyncio.wait([playing, serving], return_when=asyncio.FIRST_COMPLETED)
        if playing.done():
            os.write(place.voice, json.dumps({"model": playing.result()}).encode() + b"\n")
        await serving
        playing.cancel()


async def _play(desk: Desk, place: Place) -> str:
    """Execute the app from the top, whatever was done of it before; return the last model."""
    place.scratch.mkdir(exist_ok=True)
    await _adopt(desk, BUNDLE, place.scratch / "bundle")
    record = await runs.the_run(desk)
    if (model := runs.model_of(record)) is not None:
        return model
    await desk.wait_for_devices(len(place.devices), timeout_s=_TTL_S)
    assert place.devices == await desk.roster(record.run, 0)
    app = _App(desk, record, place)
    model = await app.execute()
    await runs.end(desk, record, model)
    return model


async def _adopt(desk: Desk, data: bytes, path: Path) -> None:
    _write(data, path)
    await desk.adopt(path, blob_ref(data))


def _write(data: bytes, path: Path) -> None:
    part = path.with_name(path.name + ".part")
    with part.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


@dataclass(frozen=True, slots=True)
class _App:
    desk: Desk
    record: RunRecord
    place: Place

    async def execute(self) -> str:
        running = script()
        phase = next(running)
        while True:
            answers = await self._ask(phase)
            try:
                phase = running.send(answers)
            except StopIteration as ended:
                return str(ended.value)

    async def _ask(self, phase: Phase) -> list[bytes]:
        content = content_of(phase.pack)
        if content.inline is None:
            await _adopt(self.desk, phase.pack, self.place.scratch / f"{phase.name}.pack")
        commands = [self._command(device, phase, content) for device in self.place.devices]
        settlements = await self.desk.ask(self.record.run, phase.name, commands, timeout_s=None)
        if any(settlement.header is not None for settlement in settlements):
            return await self._recall(phase)
        answers = [digest(await self._answer(settlement)) for settlement in settlements]
        if any(s.reply is not None and s.reply.path is not None for s in settlements):
            await self._keep(phase, answers, [settlement.id for settlement in settlements])
        return answers

    async def _keep(self, phase: Phase, answers: list[bytes], ids: list[str]) -> None:
        """Keep what is made of the answers of a phase, as strategies do: they can go."""
        run, made = self.record.run, b"".join(answers)
        path = self.place.scratch / f"{phase.name}.made"
        _write(made, path)
        await self.desk.keep_aggregate(run, phase.name, path, blob_ref(made))
        path.unlink(missing_ok=True)
        await self.desk.spare(run, ids, b"what they began with")

    async def _recall(self, phase: Phase) -> list[bytes]:
        run = self.record.run
        kept = await self.desk.aggregate(run, phase.name)
        assert kept is not None, f"the answers of {phase.name} are gone, and what was made of them"
        (path,) = await self.desk.locate(run, [kept.key])
        made = path.read_bytes()
        return [made[at : at + DIGEST_BYTES] for at in range(0, len(made), DIGEST_BYTES)]

    def _command(self, device: str, phase: Phase, content: Content) -> Command:
        run = self.record
        return Command(
            id=command_id(
                run=run.run,
                device=device,
                message_type=phase.type,
                group=phase.group,
                content_digest=content.digest,
                occurrence=1,
            ),
            client=device,
            method=method_of(phase.type),
            type=phase.type,
            group=phase.group,
            run=run.run,
            number=run.number,
            epoch=run.epoch,
            floor=0,  # the gateway knows
            ttl_s=_TTL_S,
            created_at=time.time(),
            content=content,
            bundle=run.bundle,
        )

    async def _answer(self, settlement: Settlement) -> bytes:
        reply = settlement.reply
        assert reply is not None, settlement.failure
        assert reply.failure is None, reply.failure
        if reply.path is None:
            assert reply.content.inline is not None
            return reply.content.inline
        (path,) = await self.desk.locate(reply.run, [reply.path])
        return path.read_bytes()
