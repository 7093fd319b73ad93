"""What `windflower aws` does: one fleet, by its stack."""

import asyncio
import hashlib
import io
import json
import secrets
import zipfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import boto3

from windflower.adapters.aws.account import Account, Service
from windflower.adapters.aws.clean_up import CleanUp
from windflower.adapters.aws.component import ZIP_NAME
from windflower.adapters.aws.registry import Registry
from windflower.adapters.aws.stack import CloudStack, Tell, listed
from windflower.adapters.aws.template import Template
from windflower.errors import ConfigError, TransportError
from windflower.wire.identifiers import check_device

Answer = dict[str, Any]
_INTERVAL_S: Final = 2.0
_EPOCH: Final = (1980, 1, 1, 0, 0, 0)
_SKIPPED: Final = frozenset({"__pycache__", ".git", ".venv", "devices", "node_modules"})
LOG_LINES: Final = 10_000


class CloudFleet:
    """One fleet on AWS.

    Args:
        account: where.
        region: where in it.
        key: its UniqueKey.
        interval_s: between two looks at an execution.
    """

    def __init__(
        self, account: Account, region: str, key: str, *, interval_s: float = _INTERVAL_S
    ) -> None:
        self._account = account
        self._region = region
        self._key = key
        self._interval_s = interval_s
        self._stack = CloudStack(self._service("cloudformation"), key)

    async def deploy(
        self, parameters: Mapping[str, str], tell: Tell, *, component: bytes | None = None
    ) -> Answer:
        """Make or change the stack, with a component for Greengrass cores where one is given."""
        template = Template.load()
        given = {**parameters, "UniqueKey": self._key}
        template.resolve(given)  # what it would refuse, it refuses now
        has_bucket = await self._stack.status() not in {None, "ROLLBACK_COMPLETE"}
        if component is None or not has_bucket:
            await self._stack.apply(template.uploaded(), given, tell)
        if component is not None:
            # In one step with another recipe: a version of a component cannot be changed.
            await self._give(component, template, given, tell)
        return {"success": True, **await self._stack.outputs()}

    async def _give(
        self, component: bytes, template: Template, given: Mapping[str, str], tell: Tell
    ) -> None:
        """Change the stack, which has a bucket, to one with this component."""
        bucket = (await self._stack.outputs())["BucketName"]
        now = await self._stack.parameters()
        folder = f"{self._key}/greengrass/"
        name = f"{folder}{hashlib.sha256(component).hexdigest()}/{ZIP_NAME}"
        old = now["ComponentKey"]
        if old == name:
            await self._stack.apply(template.uploaded(), given, tell)
            return
        storage = self._service("s3")
        await storage.call("put_object", Bucket=bucket, Key=name, Body=component)
        version = _next_patch(now["ComponentVersion"])
        tell(f"component {version}: {len(component)} bytes in {bucket}/{name}")
        more = {"ComponentKey": name, "ComponentVersion": version}
        await self._stack.apply(template.uploaded(), {**given, **more}, tell)
        if old.startswith(folder):  # no version is made from it any more
            await storage.call("delete_object", Bucket=bucket, Key=old)

    async def status(self) -> Answer:
        """Return how the stack is, who was heard, and how the last runs ended."""
        outputs = await self._stack.outputs()
        tables, steps = self._service("dynamodb"), self._service("stepfunctions")
        heard = await tables.call("scan", TableName=outputs["FleetTable"], Select="COUNT")
        executions = await steps.call(
            "list_executions", stateMachineArn=outputs["PipelineArn"], maxResults=5
        )
        return {
            "success": True,
            "stack": await self._stack.status(),
            "devices-heard": heard["Count"],
            "executions": {one["name"]: one["status"] for one in executions["executions"]},
            "dashboard": outputs["DashboardUrl"],
        }

    async def request(
        self, app: Path, arguments: Sequence[str], *, simulated: int | None
    ) -> Answer:
        """Upload an app; return what the pipeline is to be given."""
        outputs = await self._stack.outputs()
        bundle = _zipped(app)
        name = f"{self._key}/apps/{hashlib.sha256(bundle).hexdigest()}.zip"
        storage = self._service("s3")
        await storage.call("put_object", Bucket=outputs["BucketName"], Key=name, Body=bundle)
        wanted = {} if simulated is None else {"simulated": simulated}
        return {"success": True, "app": name, "arguments": list(arguments), **wanted}

    async def run(self, request: Answer, tell: Tell) -> Answer:
        """Execute the pipeline; return its report, or why there is none."""
        outputs = await self._stack.outputs()
        steps = self._service("stepfunctions")
        name = f"run-{secrets.token_hex(6)}"
        given = {key: value for key, value in request.items() if key != "success"}
        started = await steps.call(
            "start_execution",
            stateMachineArn=outputs["PipelineArn"],
            name=name,
            input=json.dumps(given),
        )
        tell(f"execution {name}")
        while True:
            found = await steps.call("describe_execution", executionArn=started["executionArn"])
            if found["status"] != "RUNNING":
                break
            await asyncio.sleep(self._interval_s)
        if found["status"] == "SUCCEEDED":
            return {"success": True, "execution": name, **json.loads(found["output"])}
        reason = found.get("cause") or found["status"]
        return {"success": False, "execution": name, "error-message": reason}

    async def logs(self, write: Tell, *, of_devices: bool) -> Answer:
        """Write the last lines of the run's tasks, or of the simulated devices'."""
        outputs = await self._stack.outputs()
        group = outputs["DevicesLogs" if of_devices else "RunLogs"]
        count = 0
        lines = listed(self._service("logs"), "filter_log_events", "events", logGroupName=group)
        async for event in lines:
            write(event["message"])
            count += 1
            if count == LOG_LINES:
                break
        return {"success": True, "lines": count}

    async def add_device(self, device: str, folder: Path) -> Answer:
        """Make a device known; write what it needs."""
        check_device(device)
        registry = await self._registry()
        certificate, key = folder / f"{device}.pem", folder / f"{device}.key"
        if key.exists():
            raise ConfigError(f"{key} is there already: it would be lost", key="out")
        folder.mkdir(parents=True, exist_ok=True)
        identity = await registry.add(device)
        certificate.write_bytes(identity.certificate)
        key.touch(mode=0o600)
        key.write_bytes(identity.key)
        return {
            "success": True,
            "device": device,
            "start": f"windflower agent --broker mqtts://{identity.endpoint}:443"
            f" --alpn x-amzn-mqtt-ca --device-id {device} --certificate {certificate} --key {key}"
            f" --reply-rule {self._key}_response --heartbeat-rule {self._key}_heartbeat",
        }

    async def add_core(self, thing: str) -> Answer:
        """Let a Greengrass core in, by the thing and the certificates that it has."""
        check_device(thing)
        registry = await self._registry()
        return {"success": True, "device": thing, "certificates": await registry.adopt(thing)}

    async def destroy(self, tell: Tell, *, is_rehearsal: bool, takes_objects: bool) -> Answer:
        """Remove all that is ours; return what is left."""
        cleaning = CleanUp(
            *(self._account, self._key),
            is_rehearsal=is_rehearsal,
            takes_objects=takes_objects,
            tell=tell,
        )
        left = await cleaning.run()
        return {"success": not left, "left": left}

    async def _registry(self) -> Registry:
        outputs = await self._stack.outputs()
        return Registry(
            self._service("iot"),
            fleet=self._key,
            group=outputs["DeviceGroup"],
            policy=outputs["DevicePolicy"],
        )

    def _service(self, name: str) -> Service:
        return self._account.service(name, unavailable=TransportError)


@asynccontextmanager
async def open_fleet(key: str, region: str | None) -> AsyncIterator[CloudFleet]:
    """Reach a fleet; raises ConfigError where no region is said."""
    where = region or boto3.Session().region_name
    if where is None:
        raise ConfigError("no region: give --region, or set AWS_REGION", key="aws-region")
    account = Account(where)
    try:
        yield CloudFleet(account, where, key)
    finally:
        account.close()


def _next_patch(version: str) -> str:
    major, minor, patch = version.split(".")
    return f"{major}.{minor}.{int(patch) + 1}"


def _zipped(folder: Path) -> bytes:
    """Return an app's folder as a zip; the same files give the same bytes."""
    if not (folder / "pyproject.toml").is_file():
        raise ConfigError(f"{folder} holds no Flower app: it has no pyproject.toml", key="folder")
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as bundle:
        for path in sorted(folder.rglob("*")):
            name = path.relative_to(folder)
            if path.is_file() and not _SKIPPED & set(name.parts):
                bundle.writestr(zipfile.ZipInfo(str(name), _EPOCH), path.read_bytes())
    return buffer.getvalue()
