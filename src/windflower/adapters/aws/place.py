"""Everything that a gateway needs of AWS, opened and closed together."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from windflower.adapters.aws.account import Account
from windflower.adapters.aws.blobs import S3Blobs
from windflower.adapters.aws.commands import HttpsCommands
from windflower.adapters.aws.commit_log import CommitLog
from windflower.adapters.aws.intake import PresenceIntake, ReplyIntake
from windflower.adapters.aws.journal import TableJournal
from windflower.adapters.aws.names import AwsNames
from windflower.adapters.aws.shared_secret import shared_secret
from windflower.adapters.aws.transfer_role import TransferRole
from windflower.errors import BlobsUnavailable, BrokerRefused, BrokerUnavailable, StoreUnavailable
from windflower.ports import Journal
from windflower.wire.topics import Topics

INLINE_BYTES: Final = 2048
"""IoT Core charges a command by each 5 KB, and a URL of an assumed role has 1.4 KB."""


@dataclass(frozen=True, slots=True)
class AwsPlace:
    """A fleet's ports on AWS.

    Attributes:
        commands: by HTTPS.
        replies: from the table into which a rule writes them.
        presence: likewise.
        blobs: in S3.
        journal: in a table first, then on the disk.
        signing_secret: signs what devices are told.
    """

    commands: HttpsCommands
    replies: ReplyIntake
    presence: PresenceIntake
    blobs: S3Blobs
    journal: TableJournal
    signing_secret: bytes


@asynccontextmanager
async def open_place(names: AwsNames, *, copies: Path, disk: Journal) -> AsyncIterator[AwsPlace]:
    """Reach a fleet on AWS.

    Args:
        names: of the stack.
        copies: a folder for copies of blobs.
        disk: the journal's copy; whoever uses the journal closes it.

    Raises:
        ConfigError: there are no credentials, or the stack is not there.
        RefusedError, TransportError: AWS says no, or nothing.
    """
    account = Account(names.region)
    tables = account.service("dynamodb", unavailable=StoreUnavailable)
    publisher = account.service("iot-data", unavailable=BrokerUnavailable, refused=BrokerRefused)
    role = TransferRole(account.service("sts", unavailable=BlobsUnavailable), names)
    objects = account.service("s3", unavailable=BlobsUnavailable)
    replies = ReplyIntake(tables, names.responses)
    blobs = S3Blobs(objects, names, role, copies)
    try:
        await blobs.open()
        yield AwsPlace(
            commands=HttpsCommands(publisher, Topics()),
            replies=replies,
            presence=PresenceIntake(tables, names.presences),
            blobs=blobs,
            journal=TableJournal(CommitLog(tables, names.journal, names.fleet), disk),
            signing_secret=await shared_secret(tables, names, "signing"),
        )
    finally:
        await replies.close()
        await blobs.close()
        account.close()
