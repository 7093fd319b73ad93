"""AWS played on this machine, for tests: DynamoDB by moto, S3 and STS by SeaweedFS."""

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final
from urllib.request import Request, urlopen

import pytest
from moto.server import ThreadedMotoServer

from windflower.adapters.aws.account import Account, Service
from windflower.adapters.aws.blobs import S3Blobs
from windflower.adapters.aws.commit_log import CommitLog
from windflower.adapters.aws.names import AwsNames
from windflower.adapters.aws.template import Stack, Template
from windflower.adapters.aws.transfer_role import TransferRole
from windflower.errors import BlobsUnavailable, StoreUnavailable
from windflower.offline.object_store import ObjectStore, Role
from windflower.offline.tables import make_bucket, make_tables, played

REGION: Final = "eu-west-1"


def stack() -> Stack:
    """Return the template as it is deployed by default."""
    return Template.load().resolve(region=REGION)


@dataclass
class Cloud:
    """An account with the tables and the bucket of the template, all empty."""

    account: Account
    names: AwsNames

    def tables(self) -> Service:
        return self.account.service("dynamodb", unavailable=StoreUnavailable)

    def log(self) -> CommitLog:
        return CommitLog(self.tables(), self.names.journal, self.names.fleet)

    def role(self, *, life_s: int = 3600) -> TransferRole:
        sts = self.account.service("sts", unavailable=BlobsUnavailable)
        return TransferRole(sts, self.names, life_s=life_s)

    def blobs(self, folder: Path, *, role: TransferRole | None = None) -> S3Blobs:
        s3 = self.account.service("s3", unavailable=BlobsUnavailable)
        return S3Blobs(s3, self.names, role or self.role(), folder)


@pytest.fixture(scope="session")
def moto_url() -> Iterator[str]:
    """A server of moto."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(scope="session")
def object_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    """SeaweedFS with the role of the template, and its bucket."""
    made = stack()
    role = Role(
        made.outputs["TransferRoleArn"],
        tuple(p["PolicyDocument"] for p in made.properties("TransferRole")["Policies"]),
    )
    store = ObjectStore(tmp_path_factory.mktemp("object-store"), role)
    # A thread of its own: whoever asks for this first may be inside of another loop.
    with ThreadPoolExecutor(1) as thread, asyncio.Runner() as runner:
        thread.submit(runner.run, store.start()).result()
        make_bucket(_client("s3", store.url, store), made)
        yield store
        thread.submit(runner.run, store.stop()).result()


@pytest.fixture
def tables(moto_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    """A cloud without S3."""
    urlopen(Request(f"{moto_url}/moto-api/reset", method="POST")).close()  # noqa: S310 - our own
    _use(monkeypatch, moto_url)
    make_tables(_client("dynamodb", moto_url), stack())
    cloud = _cloud()
    yield cloud
    cloud.account.close()


@pytest.fixture
def objects(object_store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    """A cloud without tables."""
    _use(monkeypatch, object_store.url, object_store)
    cloud = _cloud()
    yield cloud
    cloud.account.close()


def in_region(cloud: Cloud, region: str) -> Cloud:
    """Return the same, where nothing is deployed."""
    return replace(cloud, names=replace(cloud.names, region=region))


def _cloud() -> Cloud:
    return Cloud(Account(REGION), AwsNames.of_stack(stack().outputs, region=REGION))


def _use(monkeypatch: pytest.MonkeyPatch, url: str, store: ObjectStore | None = None) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", store.access_key if store else "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", store.secret_key if store else "test")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


def _client(name: str, url: str, store: ObjectStore | None = None) -> Any:  # noqa: ANN401
    return played(
        name,
        url,
        region=REGION,
        access_key=store.access_key if store else "test",
        secret_key=store.secret_key if store else "test",
    )
