"""Looks whether an account and a fleet's stack in it are ready for a run."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final

import boto3
from botocore.exceptions import ClientError

from windflower.adapters.aws.account import Account, Service
from windflower.adapters.aws.stack import CloudStack
from windflower.core.finding import Finding
from windflower.errors import ConfigError, RefusedError, TransportError

ECS_ROLE: Final = "AWSServiceRoleForECS"
FARGATE_VCPUS: Final = "L-3032A538"
"""AWS's name for the quota "Fargate On-Demand vCPU resource count"."""

TASKS_VCPUS: Final = 2
"""A run's task and the one of its simulated devices."""

RECENT_S: Final = 15 * 60


class CheckUp:
    """The checks of one fleet.

    Args:
        account: where it is.
        region: where in it.
        key: its UniqueKey.
    """

    def __init__(self, account: Account, region: str, key: str) -> None:
        self._account = account
        self._region = region
        self._key = key
        self._stack = CloudStack(self._service("cloudformation"), key)

    async def findings(self) -> AsyncIterator[Finding]:
        """Yield what is found, one check after the other; what needs the stack comes after it."""
        credentials = await self._looked("credentials", self._credentials)
        yield credentials
        if not credentials.is_well:
            return
        yield await self._looked("service-linked role", self._role)
        yield await self._looked("quota", self._quota)
        stack = await self._looked("stack", self._stack_there)
        yield stack
        if not stack.is_well:
            return
        for subject, look in (
            ("bucket", self._bucket),
            ("image", self._image),
            ("fleet", self._fleet),
        ):
            yield await self._looked(subject, look)

    async def _looked(self, subject: str, look: Callable[[], Awaitable[Finding]]) -> Finding:
        try:
            return await look()
        except ConfigError as error:
            return Finding(subject, is_well=False, says=str(error))
        except RefusedError as error:
            return Finding(subject, is_well=False, says=f"we may not look: {error}")
        except TransportError as error:
            return Finding(subject, is_well=False, says=f"AWS does not answer: {error}")

    async def _credentials(self) -> Finding:
        identity = await self._service("sts").call("get_caller_identity")
        says = f"{identity['Arn']} in {self._region}"
        return Finding("credentials", is_well=True, says=says)

    async def _role(self) -> Finding:
        try:
            await self._service("iam").call(
                "get_role", expected=["NoSuchEntity", "NoSuchEntityException"], RoleName=ECS_ROLE
            )
        except ClientError:
            fix = "aws iam create-service-linked-role --aws-service-name ecs.amazonaws.com"
            return Finding(
                "service-linked role", is_well=False, says=f"there is no {ECS_ROLE}", fix=fix
            )
        return Finding("service-linked role", is_well=True, says=f"{ECS_ROLE} is there")

    async def _quota(self) -> Finding:
        missing = ["NoSuchResourceException"]
        try:
            found = await self._service("service-quotas").call(
                "get_service_quota",
                expected=missing,
                ServiceCode="fargate",
                QuotaCode=FARGATE_VCPUS,
            )
        except ClientError:
            return Finding("quota", is_well=True, says="Fargate's default, which nobody changed")
        vcpus = float(found["Quota"]["Value"])
        fix = "ask for more in Service Quotas: Fargate On-Demand vCPU resource count"
        return Finding(
            *("quota", vcpus >= TASKS_VCPUS, f"{vcpus:.0f} vCPUs of Fargate"),
            fix="" if vcpus >= TASKS_VCPUS else fix,
        )

    async def _stack_there(self) -> Finding:
        status = await self._stack.status()
        if status is None:
            fix = "windflower aws deploy"
            return Finding("stack", is_well=False, says=f"there is no stack {self._key}", fix=fix)
        is_well = status.endswith("_COMPLETE") and "ROLLBACK" not in status
        fix = "" if is_well else "windflower aws deploy says what failed"
        return Finding("stack", is_well=is_well, says=f"{self._key}: {status}", fix=fix)

    async def _bucket(self) -> Finding:
        bucket = (await self._stack.outputs())["BucketName"]
        storage = self._service("s3")
        versioning = await storage.call("get_bucket_versioning", Bucket=bucket)
        lacks = [] if versioning.get("Status") == "Enabled" else ["versioned"]
        try:
            await storage.call(
                "get_bucket_encryption",
                expected=["ServerSideEncryptionConfigurationNotFoundError"],
                Bucket=bucket,
            )
        except ClientError:
            lacks.append("encrypted")
        if lacks:
            says, fix = f"{bucket} is not {' and not '.join(lacks)}", "turn it on for the bucket"
            return Finding("bucket", is_well=False, says=says, fix=fix)
        return Finding("bucket", is_well=True, says=f"{bucket} is versioned and encrypted")

    async def _image(self) -> Finding:
        repository = (await self._stack.outputs())["RepositoryUri"].partition("/")[2]
        try:
            await self._service("ecr").call(
                "describe_images",
                expected=["ImageNotFoundException", "RepositoryNotFoundException"],
                repositoryName=repository,
                imageIds=[{"imageTag": "latest"}],
            )
        except ClientError:
            says, fix = f"{repository} has no image latest", "build and push it: docs/aws.md"
            return Finding("image", is_well=False, says=says, fix=fix)
        return Finding("image", is_well=True, says=f"{repository}:latest")

    async def _fleet(self) -> Finding:
        table = (await self._stack.outputs())["FleetTable"]
        page: dict[str, Any] = await self._service("dynamodb").call(
            "scan",
            TableName=table,
            ProjectionExpression="#time",
            ExpressionAttributeNames={"#time": "time"},
        )
        now = time.time()
        heard = [now - float(item["time"]["N"]) / 1000 for item in page["Items"] if "time" in item]
        recent = sum(age < RECENT_S for age in heard)
        says = f"{recent} devices were heard within {RECENT_S // 60} minutes, {len(heard)} ever"
        # None is no fault: a run can simulate its devices.
        return Finding("fleet", is_well=True, says=says)

    def _service(self, name: str) -> Service:
        return self._account.service(name, unavailable=TransportError)


async def check_up(key: str, region: str | None) -> AsyncIterator[Finding]:
    """Yield what is found of a fleet on AWS; raises ConfigError where no region is said."""
    where = region or boto3.Session().region_name
    if where is None:
        raise ConfigError("no region: give --region, or set AWS_REGION", key="aws-region")
    account = Account(where)
    try:
        async for finding in CheckUp(account, where, key).findings():
            yield finding
    finally:
        account.close()
