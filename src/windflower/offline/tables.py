"""DynamoDB played by moto, with the tables of the template."""

import asyncio
import importlib.util
import sys
from asyncio.subprocess import DEVNULL, Process
from pathlib import Path
from typing import Any, Final

import boto3
from botocore.config import Config

from windflower.adapters.aws.template import Stack
from windflower.adapters.local.files import open_log
from windflower.adapters.local.process import end, start
from windflower.adapters.local.tcp_ports import listens
from windflower.errors import ConfigError, StoreUnavailable
from windflower.offline.quiet_ports import quiet_ports

START_S: Final = 60.0

_OF_CREATE_TABLE: Final = ("TableName", "BillingMode", "AttributeDefinitions", "KeySchema")


class Tables:
    """A server of DynamoDB on 127.0.0.1.

    Args:
        folder: where its log goes; what it holds is in its memory.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: Process | None = None
        self.url = ""

    async def start(self) -> None:
        """Start it; return when it answers.

        Raises:
            ConfigError: moto is not installed.
            StoreUnavailable: it does not start; its log says why.
        """
        if importlib.util.find_spec("moto") is None:
            raise ConfigError(
                "moto is not installed: pip install 'windflower[aws-offline]'", key="place"
            )
        (port,) = quiet_ports(1)
        self.url = f"http://127.0.0.1:{port}"
        log = self._folder / "moto.log"
        with open_log(log) as output:
            self._process = await start(
                *(sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)),
                stdin=DEVNULL,
                stdout=output,
                stderr=output,
            )
        try:
            async with asyncio.timeout(START_S):
                while not listens(port):
                    if self._process.returncode is not None:
                        raise StoreUnavailable(f"moto did not start: see {log}")
                    await asyncio.sleep(0.05)
        except TimeoutError:
            await self.stop()
            raise StoreUnavailable(f"moto did not start within {START_S:.0f} s: {log}") from None

    async def stop(self) -> None:
        """End it."""
        if self._process is not None:
            await end(self._process)


def played(name: str, url: str, *, region: str, access_key: str, secret_key: str) -> Any:  # noqa: ANN401 - boto3's client
    """Return a client of something that is played, and may still be starting."""
    return boto3.client(
        name,
        endpoint_url=url,
        region_name=region,
        aws_access_key_id=access_key,
        aws_secret_access_key=secret_key,
        config=Config(retries={"mode": "standard", "total_max_attempts": 8}),
    )


def make_tables(client: Any, stack: Stack) -> None:  # noqa: ANN401 - boto3's DynamoDB client
    """Make the tables of a stack, as far as moto knows what a table can have."""
    for properties in stack.of_type("AWS::DynamoDB::Table").values():
        client.create_table(**{name: properties[name] for name in _OF_CREATE_TABLE})


def make_bucket(client: Any, stack: Stack) -> None:  # noqa: ANN401 - boto3's S3 client
    """Make the bucket of a stack, versioned as the template says."""
    name = stack.outputs["BucketName"]
    client.create_bucket(Bucket=name)
    versioning = stack.properties("Bucket")["VersioningConfiguration"]
    client.put_bucket_versioning(Bucket=name, VersioningConfiguration=versioning)
