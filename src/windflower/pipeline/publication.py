"""What a person does with published models: publish, look, go back, fetch."""

import asyncio
import hashlib
import secrets
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from windflower.adapters.local.files import digest_of
from windflower.adapters.local.model_shelf import write_arrays
from windflower.core.ledger import RunRecord
from windflower.core.own_command import own_command
from windflower.core.policy import RoundPolicy
from windflower.errors import ConfigError, MalformedMessage, RunFailed
from windflower.gateway.line import SocketLine
from windflower.gateway.models import holders
from windflower.gateway.request import RunRequest
from windflower.wire.content import blob_ref
from windflower.wire.identifiers import check_device
from windflower.wire.messages import NO_CONFIG, NOTHING

GET: Final = "get_parameters"

FETCH_S: Final = 600.0


@dataclass(frozen=True, slots=True)
class Shelf:
    """Which models a fleet was given, and who has which.

    Attributes:
        publications: the latest first; that is the one to have.
        holders: by device, the publication that it has, "another" or "none".
    """

    publications: list[RunRecord]
    holders: dict[str, str]


async def publish(line: SocketLine, state: Path, run: str) -> RunRecord:
    """Make a run's model the one that the fleet is to have.

    Raises:
        ConfigError: there is no such run, or it has no model, or its file is gone.
    """
    record = await asyncio.to_thread(line.run, run)
    digest = record.result.get("model-hash")
    if record.publishes:
        raise ConfigError(f"{run} is a publication: windflower models rollback {run}", key="run")
    if digest is None:
        raise ConfigError(f"run {run} has no model: it is {record.state}", key="run")
    source = Path(str(record.result["model-file"]))
    copy = state / f"model-{secrets.token_hex(8)}.part"
    try:
        shutil.copyfile(source, copy)
        ref = digest_of(copy)
        if ref.digest != digest:
            raise ConfigError(f"{source} is not the model of run {run} any more", key="run")
        return await asyncio.to_thread(line.publish, run, copy, ref)
    except FileNotFoundError as error:
        raise ConfigError(f"the model of run {run} is gone: {source}", key="run") from error
    finally:
        copy.unlink(missing_ok=True)


async def shelf(line: SocketLine) -> Shelf:
    """Return which models the fleet was given, and who has which."""
    publications = await asyncio.to_thread(line.publications)
    devices = await asyncio.to_thread(line.devices)
    models = {device["device"]: device["model"] for device in devices}
    return Shelf(publications, holders(publications, models))


async def fetch(line: SocketLine, device: str, target: Path) -> str:
    """Ask a device for the model that it uses, and write it as an `.npz`; return its digest.

    Raises:
        ConfigError: no device can have this name, or the file nowhere to be.
        RunFailed: it is offline, or has none, or does not answer in time.
    """
    try:
        check_device(device)
    except MalformedMessage as error:
        raise ConfigError(f"{device!r}: {error}", key="device") from error
    if not target.absolute().parent.is_dir():
        raise ConfigError(f"there is no folder {target.parent}", key="out")
    request = RunRequest(
        app=f"model of {device}",
        folder="",
        bundle=blob_ref(b""),  # it asks no app
        config=NO_CONFIG,
        seed=0,
        policy=RoundPolicy(min_replies=0),
        request=secrets.token_hex(16),
    )
    record = await asyncio.to_thread(line.open_run, request)
    reason, is_there = "nobody waited for it", False
    try:
        digest = await asyncio.to_thread(_fetch, line, record, device, target)
    except RunFailed as error:
        reason = str(error)
        raise
    else:
        reason, is_there = f"{device} uses the model {digest[:12]}", True
        return digest
    finally:
        end = line.end_run
        await asyncio.to_thread(end, record.run, success=is_there, reason=reason, result={})


def _fetch(line: SocketLine, record: RunRecord, device: str, target: Path) -> str:
    command = own_command(record, device, GET, NOTHING, ttl_s=FETCH_S, at=time.time())
    phase = hashlib.sha256(command.id.encode()).hexdigest()
    (settlement,) = line.ask(record.run, phase, [command], timeout_s=FETCH_S)
    reply = settlement.reply
    failure = settlement.failure or (reply.failure if reply is not None else None)
    if failure is not None or reply is None or reply.path is None or reply.content.pack is None:
        raise RunFailed(failure.reason if failure is not None else f"{device} sent no model")
    (pack,) = line.locate(record.run, [reply.path])
    write_arrays(pack, target)
    return reply.content.pack.digest
