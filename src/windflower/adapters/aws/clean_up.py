"""Takes a fleet off AWS: what the stack made, what was put into it, and nothing that is not ours.

In this order: whatever runs, the fleet's things with their certificates, what is in the bucket,
the stack. Each step finds out what is there, so a second call goes on where the first one stopped.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Final

from windflower.adapters.aws.account import Account, Service
from windflower.adapters.aws.registry import Registry
from windflower.adapters.aws.stack import CloudStack, Tell, listed
from windflower.errors import ConfigError, TransportError

_AT_ONCE: Final = 1000
"""S3 deletes at most so many objects a call."""


@dataclass(frozen=True, slots=True)
class Leftovers:
    """What a fleet is made of besides its stack.

    Attributes:
        cluster: where its tasks run.
        pipeline: the ARN of its state machine.
        bucket: where its objects are.
        prefix: begins their names.
        is_own_bucket: whether the stack made the bucket.
    """

    cluster: str
    pipeline: str
    bucket: str
    prefix: str
    is_own_bucket: bool


class CleanUp:
    """The end of one fleet.

    Args:
        account: where it is.
        key: its UniqueKey.
        is_rehearsal: whether to say what would go, and to leave it.
        takes_objects: whether objects of ours go from a bucket that is the user's own.
        tell: told each thing that goes.
    """

    def __init__(
        self, account: Account, key: str, *, is_rehearsal: bool, takes_objects: bool, tell: Tell
    ) -> None:
        self._key = key
        self._is_rehearsal = is_rehearsal
        self._takes_objects = takes_objects
        self._tell = tell

        def service(name: str) -> Service:
            return account.service(name, unavailable=TransportError)

        self._tasks = service("ecs")
        self._steps = service("stepfunctions")
        self._storage = service("s3")
        self._tags = service("resourcegroupstaggingapi")
        self._stack = CloudStack(service("cloudformation"), key)
        self._registry = Registry(
            service("iot"), fleet=key, group=f"{key}-devices", policy=f"{key}-device"
        )

    async def run(self) -> list[str]:
        """Remove all that is ours; return what is left, by its ARN."""
        made = await self._made()
        if made is not None:
            await self._stop(made)
        await self._remove_things()
        if made is not None and (made.is_own_bucket or self._takes_objects):
            await self._empty(made)
        if not self._is_rehearsal:
            await self._stack.delete(self._tell)
        elif await self._stack.status() is not None:
            self._tell(f"stack {self._key}")
        if made is not None and made.is_own_bucket:
            await self._remove_bucket(made.bucket)
        return [] if self._is_rehearsal else await self.left()

    async def left(self) -> list[str]:
        """Return the ARNs of whatever still bears the fleet's tag."""
        found: list[str] = []
        token = ""
        while True:
            page = await self._tags.call(
                "get_resources",
                TagFilters=[{"Key": "windflower", "Values": [self._key]}],
                PaginationToken=token,
            )
            found += [one["ResourceARN"] for one in page["ResourceTagMappingList"]]
            token = page.get("PaginationToken") or ""
            if not token:
                return sorted(found)

    async def _made(self) -> Leftovers | None:
        try:
            outputs = await self._stack.outputs()
        except ConfigError:
            return None
        parameters = await self._stack.parameters()
        return Leftovers(
            cluster=outputs["Cluster"],
            pipeline=outputs["PipelineArn"],
            bucket=outputs["BucketName"],
            prefix=f"{self._key}/",
            is_own_bucket=not parameters.get("BucketName"),
        )

    async def _stop(self, made: Leftovers) -> None:
        running = listed(
            self._steps,
            "list_executions",
            "executions",
            stateMachineArn=made.pipeline,
            statusFilter="RUNNING",
        )
        async for one in running:
            arn = one["executionArn"]
            await self._do(
                f"execution {one['name']}", self._steps, "stop_execution", executionArn=arn
            )
        async for task in listed(self._tasks, "list_tasks", "taskArns", cluster=made.cluster):
            name = task.rpartition("/")[2]
            await self._do(
                f"task {name}", self._tasks, "stop_task", cluster=made.cluster, task=task
            )

    async def _remove_things(self) -> None:
        for thing in await self._registry.things():
            if self._is_rehearsal:
                self._tell(await self._registry.what_goes(thing))
                continue
            async for gone in self._registry.remove(thing):
                self._tell(gone)

    async def _empty(self, made: Leftovers) -> None:
        """Remove every version of every object; in another's bucket only those under our prefix."""
        prefix = "" if made.is_own_bucket else made.prefix
        count = 0
        async for versions in self._versions(made.bucket, prefix):
            count += len(versions)
            if not self._is_rehearsal:
                await self._storage.call(
                    "delete_objects", Bucket=made.bucket, Delete={"Objects": versions}
                )
        uploads = await self._storage.call(
            "list_multipart_uploads", Bucket=made.bucket, Prefix=prefix
        )
        for one in uploads.get("Uploads", []):
            await self._do(
                f"upload {one['Key']}",
                self._storage,
                "abort_multipart_upload",
                Bucket=made.bucket,
                Key=one["Key"],
                UploadId=one["UploadId"],
            )
        if count:
            self._tell(f"{count} versions of objects in {made.bucket}/{prefix}")

    async def _versions(self, bucket: str, prefix: str) -> AsyncIterator[list[dict[str, str]]]:
        markers: dict[str, str] = {}
        while True:
            page: dict[str, Any] = await self._storage.call(
                "list_object_versions", Bucket=bucket, Prefix=prefix, MaxKeys=_AT_ONCE, **markers
            )
            found = [*page.get("Versions", []), *page.get("DeleteMarkers", [])]
            if found:
                yield [{"Key": one["Key"], "VersionId": one["VersionId"]} for one in found]
            if not page.get("IsTruncated"):
                return
            markers = {
                "KeyMarker": page["NextKeyMarker"],
                "VersionIdMarker": page["NextVersionIdMarker"],
            }

    async def _remove_bucket(self, bucket: str) -> None:
        """The stack leaves it, so that nobody loses a model by deleting a stack."""
        await self._do(f"bucket {bucket}", self._storage, "delete_bucket", Bucket=bucket)

    async def _do(self, what: str, service: Service, operation: str, **given: Any) -> None:  # noqa: ANN401 - its parameters
        self._tell(what)
        if not self._is_rehearsal:
            await service.call(operation, **given)
