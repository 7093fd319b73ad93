"""The stack: made, changed and removed by CloudFormation, with a line for each step."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, Final

from botocore.exceptions import ClientError

from windflower.adapters.aws.account import Service
from windflower.errors import ConfigError, RefusedError

Tell = Callable[[str], None]
BODY_BYTES: Final = 51_200
"""CloudFormation: a template that is longer has to stand in a bucket, and there is none yet."""

_INTERVAL_S: Final = 3.0
_NOTHING_TO_DO: Final = "No updates are to be performed"


class CloudStack:
    """One stack.

    Args:
        service: CloudFormation.
        name: the stack's.
        interval_s: between two looks at a stack that changes.
    """

    def __init__(self, service: Service, name: str, *, interval_s: float = _INTERVAL_S) -> None:
        self._service = service
        self._name = name
        self._interval_s = interval_s

    async def status(self) -> str | None:
        """Return its status in CloudFormation's words, None where there is no such stack."""
        found = await self._described()
        return None if found is None else str(found["StackStatus"])

    async def outputs(self) -> dict[str, str]:
        """Return its outputs; raises ConfigError where there is no such stack."""
        found = await self._described()
        if found is None:
            raise ConfigError(
                f"there is no stack {self._name} in this region: windflower aws deploy makes it",
                key="aws-region",
            )
        return {one["OutputKey"]: one["OutputValue"] for one in found.get("Outputs", [])}

    async def parameters(self) -> dict[str, str]:
        """Return what it was made with; nothing where there is no such stack."""
        found = await self._described() or {}
        return {one["ParameterKey"]: one["ParameterValue"] for one in found.get("Parameters", [])}

    async def apply(self, body: str, parameters: Mapping[str, str], tell: Tell) -> None:
        """Make or change the stack; what is not given stays as it was. Idempotent.

        Raises:
            RefusedError: CloudFormation rolled it back; says which resource failed first, and why.
        """
        status = await self.status()
        if status == "ROLLBACK_COMPLETE":  # a first try that failed: nothing of it can be changed
            await self.delete(tell)
            status = None
        given = [{"ParameterKey": key, "ParameterValue": one} for key, one in parameters.items()]
        kept = [
            {"ParameterKey": key, "UsePreviousValue": True}
            for key in await self.parameters()
            if status is not None and key not in parameters
        ]
        operation = "create_stack" if status is None else "update_stack"
        try:
            await self._service.call(
                operation,
                expected=["ValidationError"],
                StackName=self._name,
                TemplateBody=body,
                Parameters=[*given, *kept],
                Capabilities=["CAPABILITY_IAM"],
                Tags=[{"Key": "Project", "Value": "windflower"}],
            )
        except ClientError as error:
            if _NOTHING_TO_DO in str(error):
                tell(f"stack {self._name}: as it should be")
                return
            raise ConfigError(f"stack {self._name}: {error}", key="template") from error
        ended = await self._settled(tell)
        if ended not in {"CREATE_COMPLETE", "UPDATE_COMPLETE"}:
            raise RefusedError(f"stack {self._name}: {ended}. {await self._first_failure()}")

    async def delete(self, tell: Tell) -> None:
        """Remove the stack, with what it made. Idempotent."""
        if await self.status() is None:
            return
        await self._service.call("delete_stack", StackName=self._name)
        ended = await self._settled(tell)
        if ended not in {None, "DELETE_COMPLETE"}:
            raise RefusedError(f"stack {self._name}: {ended}. {await self._first_failure()}")

    async def _described(self) -> dict[str, Any] | None:
        try:
            found = await self._service.call(
                "describe_stacks", expected=["ValidationError"], StackName=self._name
            )
        except ClientError:
            return None
        stack: dict[str, Any] = found["Stacks"][0]
        return None if stack["StackStatus"] == "DELETE_COMPLETE" else stack

    async def _settled(self, tell: Tell) -> str | None:
        """Wait until it changes no more; return its status."""
        told = ""
        while (status := await self.status()) is not None and status.endswith("IN_PROGRESS"):
            if status != told:
                tell(f"stack {self._name}: {status.lower().replace('_', ' ')}")
            told = status
            await asyncio.sleep(self._interval_s)
        tell(f"stack {self._name}: {(status or 'gone').lower().replace('_', ' ')}")
        return status

    async def _first_failure(self) -> str:
        found = await self._service.call("describe_stack_events", StackName=self._name)
        for event in reversed(found["StackEvents"]):
            if str(event.get("ResourceStatus")).endswith("FAILED"):
                return f"{event['LogicalResourceId']}: {event.get('ResourceStatusReason', '')}"
        return ""


async def listed(service: Service, operation: str, field: str, **given: Any) -> AsyncIterator[Any]:  # noqa: ANN401 - what AWS answers
    """Yield all that a paged operation lists."""
    token: dict[str, str] = {}
    while True:
        page = await service.call(operation, **given, **token)
        for one in page.get(field, []):
            yield one
        if not page.get("nextToken"):
            return
        token = {"nextToken": page["nextToken"]}
