"""Credentials for the URLs that devices are given: of a role that can do nothing else.

A URL dies with the credentials that signed it, and those of a task may have minutes left. So a role
is assumed freshly, for as long as AWS lets one role assume another, and again at half of that.
"""

import asyncio
import json
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from botocore.auth import S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from windflower.adapters.aws.account import Service
from windflower.adapters.aws.names import AwsNames
from windflower.core.backoff import wait_s
from windflower.errors import RefusedError, TransportError

LIFE_S: Final = 3600
"""Source: role chaining, one hour at most (IAM User Guide)."""


@dataclass(frozen=True, slots=True)
class _Session:
    credentials: Credentials
    began_at: float
    ends_at: float


class TransferRole:
    """Signs URLs with credentials of a role that was assumed not long ago.

    Args:
        service: STS.
        names: the role, and what it may reach.
        life_s: for how long it is assumed each time.
    """

    def __init__(self, service: Service, names: AwsNames, *, life_s: int = LIFE_S) -> None:
        self._service = service
        self._names = names
        self._life_s = life_s
        self._session: _Session | None = None
        self._renewing: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Assume the role, and go on renewing it.

        Raises:
            RefusedError: we may not.
            TransportError: nobody answers.
        """
        await self._assume()
        self._renewing = asyncio.create_task(self._renew())

    async def close(self) -> None:
        """Renew no more."""
        if self._renewing is not None:
            self._renewing.cancel()
            await asyncio.gather(self._renewing, return_exceptions=True)

    def sign(
        self, method: str, url: str, *, ttl_s: float, headers: dict[str, str]
    ) -> tuple[str, float]:
        """Return a URL that lives for so long at most, and for how long it does live."""
        assert self._session is not None  # noqa: S101 - opened before
        left_s = min(ttl_s, self._session.ends_at - time.time())
        request = AWSRequest(method=method, url=url, headers=headers)
        auth = S3SigV4QueryAuth(
            self._session.credentials, "s3", self._names.region, expires=int(left_s)
        )
        auth.add_auth(request)
        return str(request.url), max(left_s, 0.0)

    async def _renew(self) -> None:
        failures = 0
        while True:
            assert self._session is not None  # noqa: S101 - opened before
            half = (self._session.began_at + self._session.ends_at) / 2
            await asyncio.sleep(max(half - time.time(), 0) if not failures else wait_s(failures))
            with suppress(TransportError, RefusedError):
                failures += 1
                await self._assume()
                failures = 0

    async def _assume(self) -> None:
        began_at = time.time()
        answer = await self._service.call(
            "assume_role",
            RoleArn=self._names.transfer_role,
            RoleSessionName=f"{self._names.fleet}-gateway",
            DurationSeconds=self._life_s,
            Policy=json.dumps(_policy(self._names)),
        )
        given = answer["Credentials"]
        credentials = Credentials(
            given["AccessKeyId"], given["SecretAccessKey"], given["SessionToken"]
        )
        self._session = _Session(credentials, began_at, given["Expiration"].timestamp())


def _policy(names: AwsNames) -> dict[str, Any]:
    """Return what URLs can be for, whatever else the role may do."""
    objects = f"arn:aws:s3:::{names.bucket}/{names.prefix}"
    return {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Action": "s3:GetObject", "Resource": f"{objects}blobs/*"},
            {"Effect": "Allow", "Action": "s3:PutObject", "Resource": f"{objects}out/*"},
        ],
    }
