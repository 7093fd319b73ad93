"""`windflower models`: the model that the fleet is to have."""

import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from windflower.cli.patience import patience
from windflower.cli.run import say
from windflower.core.ledger import RunRecord
from windflower.pipeline import publication
from windflower.pipeline.gateways import gateway_for


async def publish(state: Path, run: str, *, is_json: bool) -> dict[str, Any]:
    """Publish a run's model."""
    async with gateway_for(state, None, say) as gateway:
        record = await publication.publish(gateway.line, state, run)
    return _published(record, is_json=is_json)


async def rollback(state: Path, to: str | None, *, is_json: bool) -> dict[str, Any]:
    """Publish an earlier model again."""
    async with gateway_for(state, None, say) as gateway:
        record = gateway.line.rollback(to)
    return _published(record, is_json=is_json)


async def show_models(state: Path, *, is_json: bool) -> dict[str, Any]:
    """List publications, and who has which."""
    async with gateway_for(state, None, say) as gateway:
        shelf = await publication.shelf(gateway.line)
    if not is_json:
        sys.stdout.write("".join(f"{line}\n" for line in _lines(shelf)))
    return {
        "success": True,
        "models": [_fields(record) for record in shelf.publications],
        "devices": shelf.holders,
    }


async def fetch(state: Path, device: str, out: Path | None, *, is_json: bool) -> dict[str, Any]:
    """Fetch the model that a device uses."""
    target = out or Path(f"{device.replace(':', '-')}.npz")
    async with gateway_for(state, None, say) as gateway:
        with patience(f"waiting for {device}, which uploads its model"):
            digest = await publication.fetch(gateway.line, device, target)
    if not is_json:
        sys.stdout.write(f"{target}: the model {digest[:12]} of {device}\n")
    return {"success": True, "device": device, "model-hash": digest, "file": str(target)}


def _published(record: RunRecord, *, is_json: bool) -> dict[str, Any]:
    if not is_json:
        sys.stdout.write(
            f"{record.run}: the model of run {record.publishes}. Devices are sent it when they are"
            " heard; see windflower models ls.\n"
        )
    return {"success": True, **_fields(record)}


def _fields(record: RunRecord) -> dict[str, Any]:
    return {
        "publication": record.run,
        "run-id": record.publishes,
        "model-hash": record.bundle.digest,
        "size-bytes": record.bundle.size_bytes,
        "published-at": record.created_at,
    }


def _lines(shelf: publication.Shelf) -> list[str]:
    if not shelf.publications:
        return ["No model was published yet: windflower models publish RUN_ID"]
    have = Counter(shelf.holders.values())
    lines = []
    for record in shelf.publications:
        at = time.strftime("%Y-%m-%d %H:%M", time.localtime(record.created_at))
        lines.append(
            f"{record.run:<16} {at}  {record.bundle.digest[:12]}  of run {record.publishes:<16}"
            f" {have[record.run]} devices"
        )
    latest = shelf.publications[0].run
    behind = {device: held for device, held in shelf.holders.items() if held != latest}
    lines += [f"  {device} has {held}" for device, held in sorted(behind.items())]
    return lines
