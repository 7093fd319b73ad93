"""What a gateway calls the things that it uses on AWS."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class AwsNames:
    """The names of one stack, as far as its gateway needs them.

    Attributes:
        region: where everything is.
        fleet: the fleet's name, under which its journal is kept.
        bucket: where blobs are.
        prefix: begins the name of every object that is ours, for example "windflower/".
        responses: the table into which a rule writes replies.
        presences: the table into which a rule writes each device's last heartbeat.
        journal: the table that holds the journal.
        transfer_role: the ARN of the role whose credentials sign the URLs of devices.
    """

    region: str
    fleet: str
    bucket: str
    prefix: str
    responses: str
    presences: str
    journal: str
    transfer_role: str

    @classmethod
    def of_stack(cls, outputs: Mapping[str, str], *, region: str) -> "AwsNames":
        """Read them from the outputs of a stack that was deployed, or of the template."""
        key = outputs["UniqueKey"]
        return cls(
            region=region,
            fleet=key,
            bucket=outputs["BucketName"],
            prefix=f"{key}/",
            responses=outputs["ResponsesTable"],
            presences=outputs["FleetTable"],
            journal=outputs["JournalTable"],
            transfer_role=outputs["TransferRoleArn"],
        )
