"""Calls to AWS: boto3 in threads, its errors cut as ours are.

boto3 finds credentials itself (a task's role, the environment, a profile), and endpoints that are
not Amazon's in `AWS_ENDPOINT_URL_DYNAMODB` and so on.
"""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import boto3
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    NoCredentialsError,
    PartialCredentialsError,
    TokenRetrievalError,
)

from windflower.errors import ConfigError, RefusedError, TransportError

CONNECTIONS: Final = 64
"""So many calls are under way at once: at 50 ms each, more than a thousand commands a second."""

ATTEMPTS: Final = 8
"""With botocore's growing pauses, this outlasts half a minute of throttling."""

_REFUSALS: Final = frozenset({
    "AccessDenied", "AccessDeniedException", "ForbiddenException", "UnauthorizedException",
    "UnrecognizedClientException", "InvalidClientTokenId", "InvalidAccessKeyId",
    "SignatureDoesNotMatch", "ExpiredToken", "ExpiredTokenException",
})  # fmt: skip
_MISSING: Final = frozenset({"ResourceNotFoundException", "NoSuchBucket"})


class Account:
    """One region of an AWS account.

    Args:
        region: which.
    """

    def __init__(self, region: str) -> None:
        self._session = boto3.Session(region_name=region)
        self._pool = ThreadPoolExecutor(CONNECTIONS, thread_name_prefix="aws")

    def service(
        self,
        name: str,
        *,
        unavailable: type[TransportError],
        refused: type[RefusedError] = RefusedError,
    ) -> "Service":
        """Return a service of this account.

        Args:
            name: as boto3 spells it.
            unavailable: raised where it does not answer.
            refused: raised where it says no.
        """
        config = Config(
            max_pool_connections=CONNECTIONS,
            connect_timeout=10,
            read_timeout=30,
            # Adaptive: where IoT Core throttles, all threads of a client slow down together.
            retries={"mode": "adaptive", "total_max_attempts": ATTEMPTS},
        )
        client = self._session.client(name, config=config)
        return Service(client, self._pool, unavailable=unavailable, refused=refused)

    def close(self) -> None:
        """Let go of the threads; what is under way ends by itself."""
        self._pool.shutdown(wait=False, cancel_futures=True)


class Service:
    """One service, called by the names of its operations in boto3."""

    def __init__(
        self,
        client: Any,  # noqa: ANN401 - boto3 makes its clients' classes when it runs
        pool: ThreadPoolExecutor,
        *,
        unavailable: type[TransportError],
        refused: type[RefusedError],
    ) -> None:
        self.client = client
        self._pool = pool
        self._unavailable = unavailable
        self._refused = refused

    async def call(self, operation: str, *, expected: Sequence[str] = (), **arguments: Any) -> Any:  # noqa: ANN401 - what AWS answers
        """Call an operation; throttling and broken connections are tried again.

        Args:
            operation: its name, as a method of boto3's client.
            expected: error codes that the caller deals with, as a ClientError.
            arguments: its parameters.

        Raises:
            ConfigError: there are no credentials, or what is named does not exist.
            RefusedError, TransportError: of the kinds that the service was made with.
        """
        method = getattr(self.client, operation)
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._pool, lambda: method(**arguments))
        except ClientError as error:
            if code_of(error) in expected:
                raise
            raise self._translated(operation, error) from error
        except (NoCredentialsError, PartialCredentialsError, TokenRetrievalError) as error:
            raise ConfigError(
                f"no AWS credentials: {error}. Log in (aws sso login), or set AWS_PROFILE",
                key="aws-credentials",
            ) from error
        except BotoCoreError as error:
            raise self._unavailable(f"{operation}: {error}") from error

    def _translated(self, operation: str, error: ClientError) -> Exception:
        code = code_of(error)
        text = f"{operation}: {error.response.get('Error', {}).get('Message') or code}"
        if code in _MISSING:
            return ConfigError(f"{text} (is the stack deployed in this region?)", key="aws-region")
        if code in _REFUSALS:
            return self._refused(text)
        return self._unavailable(text)


def code_of(error: ClientError) -> str:
    """Return the code by which AWS tells its errors apart."""
    return str(error.response.get("Error", {}).get("Code", ""))
