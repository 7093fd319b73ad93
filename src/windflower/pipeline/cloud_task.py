"""What the two tasks of the stack do: a run with its gateway, and a crew of simulated devices.

Each starts the same program that a person would, tells it what the stack told the task, and passes
on the signal by which Fargate ends a task.
"""

import asyncio
import io
import json
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from windflower.adapters.aws.account import Account, Service
from windflower.adapters.aws.registry import Registry
from windflower.errors import BlobNotFound, BlobsUnavailable, ConfigError, TransportError
from windflower.flower.app_folder import AppFolder
from windflower.pipeline.simulated import prepare

PORT: Final = 443
ALPN: Final = "x-amzn-mqtt-ca"
"""AWS IoT Core: MQTT with certificates beside HTTPS. A task may go out to no other port."""

BEAT_S: Final = 20.0


async def run_task(told: Mapping[str, str]) -> int:
    """Run the app that was asked for, and leave result and model where the pipeline looks.

    Every event goes to the log, where the metric filters are.

    Returns:
        The run's exit code.
    """
    request: dict[str, Any] = json.loads(_needed(told, "WINDFLOWER_AWS_REQUEST"))
    bucket, results = (
        _needed(told, "WINDFLOWER_AWS_BUCKET"),
        _needed(told, "WINDFLOWER_AWS_RESULTS"),
    )
    account = Account(_needed(told, "WINDFLOWER_AWS_REGION"))
    storage = account.service("s3", unavailable=BlobsUnavailable)
    try:
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            await _fetch(storage, bucket, request["app"], folder)
            code, answer = await _run(folder, request.get("arguments", []))
            if answer.get("model-file"):
                model = Path(answer["model-file"]).read_bytes()
                await storage.call("put_object", Bucket=bucket, Key=f"{results}/model", Body=model)
            body = json.dumps({"error-type": "", "error-message": "", **answer}).encode()
            await storage.call("put_object", Bucket=bucket, Key=f"{results}/result.json", Body=body)
            return code
    finally:
        account.close()


async def devices_task(told: Mapping[str, str]) -> int:
    """Serve simulated devices until we are told to end, under a certificate made for that.

    An app that prepares a folder of data for each simulated device does it here too.
    """
    key = _needed(told, "WINDFLOWER_AWS_FLEET")
    account = Account(_needed(told, "WINDFLOWER_AWS_REGION"))
    registry = Registry(
        account.service("iot", unavailable=TransportError),
        fleet=key,
        group=_needed(told, "WINDFLOWER_AWS_DEVICE_GROUP"),
        policy=_needed(told, "WINDFLOWER_AWS_DEVICE_POLICY"),
    )
    count = int(_needed(told, "WINDFLOWER_AWS_SIMULATED_DEVICES"))
    name = f"{key}-simulated"
    devices = [f"{name}-{number:04}" for number in range(count)]
    storage = account.service("s3", unavailable=BlobsUnavailable)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        data = await _data(storage, told, folder, count)
        identity = await registry.add(*devices)
        try:
            (folder / "device.pem").write_bytes(identity.certificate)
            (folder / "device.key").touch(mode=0o600)
            (folder / "device.key").write_bytes(identity.key)
            broker = told.get("WINDFLOWER_AWS_BROKER") or f"mqtts://{identity.endpoint}:{PORT}"
            return await _served(
                *("agent", "--broker", broker, "--alpn", ALPN, "--device-id", name),
                *("--crew", str(count), "--interval", str(BEAT_S), "--node-config", data),
                *("--state", str(folder / "state")),
                *("--certificate", str(folder / "device.pem"), "--key", str(folder / "device.key")),
                *("--reply-rule", f"{key}_response", "--heartbeat-rule", f"{key}_heartbeat"),
            )
        finally:
            await registry.withdraw(identity, *devices)
            account.close()


async def _data(storage: Service, told: Mapping[str, str], folder: Path, count: int) -> str:
    """Prepare what simulated devices have learned of; return where, for each one's node config."""
    if not told.get("WINDFLOWER_AWS_APP"):
        return ""
    bucket = _needed(told, "WINDFLOWER_AWS_BUCKET")
    await _fetch(storage, bucket, told["WINDFLOWER_AWS_APP"], folder / "app")
    data = await prepare(AppFolder.read(folder / "app"), folder, count)
    return "" if data is None else f"data-dir='{data}/{{number}}'"


async def _fetch(storage: Service, bucket: str, key: str, folder: Path) -> None:
    """Unpack an app."""
    try:
        found = await storage.call("get_object", Bucket=bucket, Key=key)
        data = await asyncio.to_thread(found["Body"].read)
        with zipfile.ZipFile(io.BytesIO(data)) as bundle:
            bundle.extractall(folder)  # it removes what would lead out of the folder
    except zipfile.BadZipFile as error:
        raise BlobNotFound(f"{key} is no app: {error}") from error


async def _run(folder: Path, arguments: list[str]) -> tuple[int, dict[str, Any]]:
    """Run an app; return the exit code and the answer."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "windflower.cli.main", "run", str(folder)),
        *("--devices", "0", "--events", "--format", "json", *arguments),
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await _finished(process)
    lines = out.decode().splitlines()
    answer = json.loads(lines[-1]) if lines else {"success": False, "error-message": "it died"}
    return process.returncode or 0, answer


async def _served(*arguments: str) -> int:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "windflower.cli.main", *arguments
    )
    await _finished(process)
    return process.returncode or 0


async def _finished(process: asyncio.subprocess.Process) -> tuple[bytes, bytes]:
    """Wait for a program; whoever ends us ends it first, and lets it finish what it keeps."""
    waiting = asyncio.ensure_future(process.communicate())
    try:
        return await asyncio.shield(waiting)
    except asyncio.CancelledError:
        process.terminate()
        return await waiting


def _needed(told: Mapping[str, str], name: str) -> str:
    if name not in told:
        raise ConfigError(f"{name} is not set: this is for the tasks of the stack", key=name)
    return told[name]
