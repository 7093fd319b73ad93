"""An account that moto plays, with what the template says is in it.

moto's own CloudFormation is no help: it says that all is well and leaves out half of the types.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import boto3
from certificates import sign
from cryptography import x509
from moto.core.config import default_user_config
from moto.iot.models import IoTBackend
from moto.moto_api import state_manager
from moto.moto_api._internal.models import moto_api_backend
from moto.server import ThreadedMotoServer

from windflower.adapters.aws.template import Stack

REGION = "eu-west-1"
ACCOUNT = "123456789012"  # moto's
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "played",
    "AWS_SECRET_ACCESS_KEY": "played",
    "AWS_DEFAULT_REGION": REGION,
}


@dataclass(frozen=True)
class PlayedAccount:
    """An account at a local address.

    Attributes:
        url: where every service answers.
        stack: what is in it.
        environment: what a process needs to reach it.
    """

    url: str
    stack: Stack
    environment: dict[str, str]

    def client(self, service: str) -> Any:  # noqa: ANN401 - boto3 makes its classes when it runs
        """Return a client of a service."""
        return boto3.client(service, region_name=REGION, endpoint_url=self.url)


@contextmanager
def played_account(stack: Stack) -> Iterator[PlayedAccount]:
    """Serve an account on loopback, with the bucket, tables, tasks and network of a stack."""
    server = ThreadedMotoServer("127.0.0.1", port=0)
    server.start()
    _, port = server.get_host_and_port()
    url = f"http://127.0.0.1:{port}"
    environment = {**CREDENTIALS, "AWS_ENDPOINT_URL": url, "MOTO_PORT": str(port)}
    state_manager.set_transition("ecs::task", {"progression": "manual", "times": 10**6})
    try:
        with (
            patch.dict("os.environ", environment),
            patch.dict(default_user_config["stepfunctions"], {"execute_state_machine": True}),
            patch.object(IoTBackend, "create_certificate_from_csr", _signed),
        ):
            moto_api_backend.reset()
            account = PlayedAccount(url, stack, environment)
            _make(account)
            yield account
    finally:
        state_manager.unset_transition("ecs::task")
        server.stop()


def _signed(self: Any, csr: str, set_as_active: bool) -> Any:  # noqa: ANN401, FBT001 - moto's
    """Sign what was asked to be signed; moto signs a key of its own."""
    pem = sign(x509.load_pem_x509_csr(csr.encode()))
    return self.register_certificate(
        pem, ca_certificate_pem=None, set_as_active=set_as_active, status="INACTIVE"
    )


def _make(account: PlayedAccount) -> None:
    """Make what our pipeline touches."""
    stack = account.stack
    account.client("s3").create_bucket(
        Bucket=stack.outputs["BucketName"],
        CreateBucketConfiguration={"LocationConstraint": REGION},
    )
    tables = account.client("dynamodb")
    for one in stack.of_type("AWS::DynamoDB::Table").values():
        tables.create_table(
            TableName=one["TableName"],
            KeySchema=one["KeySchema"],
            AttributeDefinitions=one["AttributeDefinitions"],
            BillingMode=one["BillingMode"],
        )
    tasks = account.client("ecs")
    tasks.create_cluster(clusterName=stack.outputs["Cluster"])
    for one in stack.of_type("AWS::ECS::TaskDefinition").values():
        tasks.register_task_definition(**_lowered({**one, "Tags": []}))


def network_of(account: PlayedAccount) -> dict[str, str]:
    """Make a network; return what stands for it in the template, with what moto calls it."""
    network = account.client("ec2")
    vpc = network.create_vpc(CidrBlock="10.20.0.0/16")["Vpc"]["VpcId"]
    network.modify_vpc_attribute(VpcId=vpc, EnableDnsHostnames={"Value": True})
    name = account.stack.parameters["UniqueKey"]
    found = {}
    for logical_id, cidr in (("SubnetA", "10.20.1.0/24"), ("SubnetB", "10.20.2.0/24")):
        subnet = network.create_subnet(VpcId=vpc, CidrBlock=cidr)["Subnet"]["SubnetId"]
        found[f"{name}-{logical_id}"] = subnet
    group = network.create_security_group(GroupName="task", Description="task", VpcId=vpc)
    found[f"{name}-TaskSecurityGroup"] = group["GroupId"]
    return found


def _lowered(node: Any) -> Any:  # noqa: ANN401 - JSON is any
    """Spell a template's keys as the service's own API does."""
    if isinstance(node, list):
        return [_lowered(one) for one in node]
    if isinstance(node, dict):
        return {key[0].lower() + key[1:]: _lowered(one) for key, one in node.items()}
    return node
