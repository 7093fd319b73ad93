"""`destroy` takes what is ours and nothing else, as often as one likes; a rehearsal nothing."""

from collections.abc import Iterator
from typing import Any

import pytest
from aws.fargate import played_fargate
from aws.played_account import ACCOUNT, REGION, PlayedAccount, network_of, played_account

from windflower.adapters.aws.account import Account
from windflower.adapters.aws.clean_up import CleanUp
from windflower.adapters.aws.registry import Registry
from windflower.adapters.aws.stack import BODY_BYTES, CloudStack
from windflower.adapters.aws.template import Template
from windflower.errors import ConfigError, TransportError

MINE = "the-users-own"
POLICY = '{"Version":"2012-10-17","Statement":[]}'

# A stack of what the clean-up asks it for: moto leaves half of the real one out, and cannot
# delete the other half.
STANDS_FOR_OURS = """
Parameters: {{BucketName: {{Type: String}}}}
Resources: {{Group: {{Type: AWS::Logs::LogGroup, Properties: {{LogGroupName: /windflower/run}}}}}}
Outputs:
  UniqueKey: {{Value: windflower}}
  Cluster: {{Value: windflower}}
  PipelineArn: {{Value: "{pipeline}"}}
  BucketName: {{Value: "{bucket}"}}
"""


class Seeded:
    """An account with a fleet of ours, and with what is somebody else's."""

    def __init__(self, played: PlayedAccount, *, bucket: str) -> None:
        self.played = played
        self.account = Account(REGION)
        self.bucket = bucket or played.stack.outputs["BucketName"]
        stack = STANDS_FOR_OURS.format(
            pipeline=played.stack.outputs["PipelineArn"], bucket=self.bucket
        )
        played.client("cloudformation").create_stack(
            StackName="windflower",
            TemplateBody=stack,
            Parameters=[{"ParameterKey": "BucketName", "ParameterValue": bucket}],
        )
        played.client("stepfunctions").create_state_machine(
            name="windflower-pipeline",
            definition='{"StartAt":"A","States":{"A":{"Type":"Wait","Seconds":9999,"End":true}}}',
            roleArn=f"arn:aws:iam::{ACCOUNT}:role/pipeline",
        )
        self._seed_storage()
        self._seed_registry()

    def _seed_storage(self) -> None:
        storage = self.played.client("s3")
        for bucket in {self.bucket, MINE} - {self.played.stack.outputs["BucketName"]}:
            storage.create_bucket(
                Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": REGION}
            )
        storage.put_bucket_versioning(
            Bucket=self.bucket, VersioningConfiguration={"Status": "Enabled"}
        )
        for _ in range(3):
            storage.put_object(Bucket=self.bucket, Key="windflower/models/latest", Body=b"model")
        storage.delete_object(Bucket=self.bucket, Key="windflower/models/latest")
        storage.create_multipart_upload(Bucket=self.bucket, Key="windflower/out/half")
        storage.put_object(Bucket=MINE, Key="holiday.jpg", Body=b"the user's")
        storage.put_object(Bucket=MINE, Key="windflowers/photo.jpg", Body=b"the user's")

    def _seed_registry(self) -> None:
        iot = self.played.client("iot")
        for name in ("windflower-device", "factory-device", "core"):
            iot.create_policy(policyName=name, policyDocument=POLICY)
        for name in ("windflower-devices", "factory", "cores"):
            iot.create_thing_group(thingGroupName=name)
        self.arns = {}
        ours = {"attributes": {"windflower": "windflower"}}
        for thing, group, policy, attributes in (
            ("pi-07", "windflower-devices", "windflower-device", ours),
            ("pi-08", "windflower-devices", "windflower-device", ours),
            ("robot", "factory", "factory-device", {}),
            ("core-1", "cores", "core", {"attributes": {"windflower": "another-fleet"}}),
        ):
            iot.create_thing(thingName=thing, attributePayload=attributes)
            iot.add_thing_to_thing_group(thingName=thing, thingGroupName=group)
            self.arns[thing] = iot.create_keys_and_certificate(setAsActive=True)["certificateArn"]
            iot.attach_policy(policyName=policy, target=self.arns[thing])
            iot.attach_thing_principal(thingName=thing, principal=self.arns[thing])
        # The robot's certificate is one of ours too: it must survive.
        iot.attach_thing_principal(thingName="pi-08", principal=self.arns["robot"])

    def registry(self) -> Registry:
        iot = self.account.service("iot", unavailable=TransportError)
        names = {"group": "windflower-devices", "policy": "windflower-device"}
        return Registry(iot, fleet="windflower", **names)

    async def destroyed(self, **how: bool) -> tuple[list[str], list[str]]:
        """Destroy; return what was told, and what is left."""
        told: list[str] = []
        given = {"is_rehearsal": False, "takes_objects": False, **how}
        cleaning = CleanUp(self.account, "windflower", tell=told.append, **given)
        return told, await cleaning.run()

    def everything(self) -> dict[str, Any]:
        """Return what is in the account, as far as anybody could have touched it."""
        iot, storage = self.played.client("iot"), self.played.client("s3")
        buckets = [one["Name"] for one in storage.list_buckets()["Buckets"]]
        stacks = self.played.client("cloudformation").describe_stacks()["Stacks"]
        return {
            "things": {one["thingName"] for one in iot.list_things()["things"]},
            "certificates": {
                one["certificateArn"] for one in iot.list_certificates()["certificates"]
            },
            "buckets": set(buckets),
            "objects": {
                (bucket, one["Key"])
                for bucket in buckets
                for kind in ("Versions", "DeleteMarkers")
                for one in storage.list_object_versions(Bucket=bucket).get(kind, [])
            },
            "stacks": {one["StackName"] for one in stacks},
        }


@pytest.fixture
def played() -> Iterator[PlayedAccount]:
    with played_account(Template.load().resolve(region=REGION, account=ACCOUNT)) as account:
        yield account


async def test_what_is_ours_goes_and_nothing_else(played: PlayedAccount) -> None:
    seeded = Seeded(played, bucket="")
    told, left = await seeded.destroyed()
    after = seeded.everything()

    assert {"robot", "core-1"} == after["things"]
    assert {seeded.arns["robot"], seeded.arns["core-1"]} == after["certificates"]
    assert {MINE} == after["buckets"]
    assert {(MINE, "holiday.jpg"), (MINE, "windflowers/photo.jpg")} == after["objects"]
    assert set() == after["stacks"]
    assert "4 versions of objects in windflower-bucket/" in told
    assert [] == left


async def test_a_second_time_there_is_nothing_to_do(played: PlayedAccount) -> None:
    seeded = Seeded(played, bucket="")
    await seeded.destroyed()

    assert ([], []) == await seeded.destroyed()


async def test_a_rehearsal_says_all_and_touches_nothing(played: PlayedAccount) -> None:
    seeded = Seeded(played, bucket="")
    before = seeded.everything()
    told, _ = await seeded.destroyed(is_rehearsal=True)

    assert before == seeded.everything()
    assert {"thing pi-07", "thing pi-08", "stack windflower", "bucket windflower-bucket"} <= set(
        told
    )


@pytest.mark.parametrize("takes_objects", [False, True])
async def test_a_bucket_of_the_users_own_stays(
    played: PlayedAccount, *, takes_objects: bool
) -> None:
    seeded = Seeded(played, bucket=MINE)
    await seeded.destroyed(takes_objects=takes_objects)
    keys = {key for bucket, key in seeded.everything()["objects"] if bucket == MINE}
    ours = set() if takes_objects else {"windflower/models/latest"}

    assert {"holiday.jpg", "windflowers/photo.jpg"} | ours == keys


async def test_what_runs_is_stopped(played: PlayedAccount) -> None:
    seeded = Seeded(played, bucket="")
    steps, tasks = played.client("stepfunctions"), played.client("ecs")
    machine = played.stack.outputs["PipelineArn"]
    network = {"subnets": [next(iter(network_of(played).values()))], "securityGroups": []}
    with played_fargate({"devices": ["sleep", "999"]}, played.environment):
        execution = steps.start_execution(stateMachineArn=machine, name="one")["executionArn"]
        task = tasks.run_task(
            cluster="windflower",
            taskDefinition="windflower-devices",
            launchType="FARGATE",
            networkConfiguration={"awsvpcConfiguration": network},
            overrides={"containerOverrides": [{"name": "devices", "environment": []}]},
        )["tasks"][0]["taskArn"]
        told, _ = await seeded.destroyed()
        found = tasks.describe_tasks(cluster="windflower", tasks=[task])["tasks"][0]

    assert "ABORTED" == steps.describe_execution(executionArn=execution)["status"]
    assert "STOPPED" == found["desiredStatus"]
    assert {"execution one", f"task {task.rpartition('/')[2]}"} <= set(told)


async def test_a_device_gets_a_certificate_of_its_own(played: PlayedAccount) -> None:
    seeded = Seeded(played, bucket="")
    registry = seeded.registry()
    identity = await registry.add("pi-09")
    (arn,) = played.client("iot").list_thing_principals(thingName="pi-09")["principals"]
    policies = played.client("iot").list_attached_policies(target=arn)["policies"]

    assert "pi-09" in await registry.things()
    assert b"BEGIN CERTIFICATE" in identity.certificate
    assert b"PRIVATE KEY" in identity.key
    assert ["windflower-device"] == [one["policyName"] for one in policies]


def access_of(played: PlayedAccount, seeded: Seeded, thing: str) -> dict[str, list[str]]:
    """Return the groups of a thing, and the policies of its certificate."""
    iot = played.client("iot")
    groups = iot.list_thing_groups_for_thing(thingName=thing)["thingGroups"]
    policies = iot.list_attached_policies(target=seeded.arns[thing])["policies"]
    return {
        "groups": sorted(one["groupName"] for one in groups),
        "policies": sorted(one["policyName"] for one in policies),
    }


async def test_a_core_is_let_in_as_it_is_and_survives_the_fleet(played: PlayedAccount) -> None:
    seeded = Seeded(played, bucket="")
    alone = access_of(played, seeded, "core-1")
    before = seeded.everything()
    counts = [await seeded.registry().adopt("core-1") for _ in range(2)]
    let_in = access_of(played, seeded, "core-1")
    made = seeded.everything()
    rehearsed, _ = await seeded.destroyed(is_rehearsal=True)
    told, left = await seeded.destroyed()

    assert [1, 1] == counts
    assert {"groups": ["cores"], "policies": ["core"]} == alone
    assert ["cores", "windflower-devices"] == let_in["groups"]
    assert ["core", "windflower-device"] == let_in["policies"]
    assert before == made
    assert "core-1" in seeded.everything()["things"]
    assert seeded.arns["core-1"] in seeded.everything()["certificates"]
    assert alone == access_of(played, seeded, "core-1")
    assert "thing core-1: out of the fleet, it stays" in rehearsed
    assert "thing core-1: out of the fleet, it stays" in told
    assert [] == left


async def test_a_thing_of_somebody_else_is_not_taken_over(played: PlayedAccount) -> None:
    seeded = Seeded(played, bucket="")
    before = seeded.everything()
    with pytest.raises(ConfigError, match="add-device core-1 --core"):
        await seeded.registry().add("pi-10", "core-1")
    with pytest.raises(ConfigError, match="there is no thing core-2"):
        await seeded.registry().adopt("core-2")
    played.client("iot").detach_thing_principal(thingName="core-1", principal=seeded.arns["core-1"])
    with pytest.raises(ConfigError, match="has no certificate"):
        await seeded.registry().adopt("core-1")

    assert before == seeded.everything()


def test_the_template_is_short_enough_to_be_uploaded_without_a_bucket() -> None:
    assert len(Template.load().uploaded().encode()) <= BODY_BYTES
    assert Template.parse(Template.load().uploaded()).resolve().outputs == (
        Template.load().resolve().outputs
    )


@pytest.mark.usefixtures("played")
async def test_deploying_again_changes_nothing() -> None:
    told: list[str] = []
    service = Account(REGION).service("cloudformation", unavailable=TransportError)
    stack = CloudStack(service, "windflower")
    body = '{"Resources":{"A":{"Type":"AWS::Logs::LogGroup"}}}'
    assert await stack.status() is None
    await stack.apply(body, {}, told.append)
    await stack.apply(body, {}, told.append)

    assert "CREATE_COMPLETE" in str(await stack.status()) or "UPDATE" in str(await stack.status())
    await stack.delete(told.append)
    assert await stack.status() is None
