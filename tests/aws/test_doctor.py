"""`windflower doctor --place aws` says what is not ready, and what to do about it."""

import json
from typing import Any

import pytest
from aws.played_account import REGION, PlayedAccount
from aws.test_cloud_fleet import STACK, played
from typer.testing import CliRunner

from windflower.adapters.aws.check_up import ECS_ROLE
from windflower.cli.main import app

__all__ = ["played"]  # a fixture

BUCKET = STACK.outputs["BucketName"]


def findings() -> tuple[int, dict[str, dict[str, Any]]]:
    given = ["doctor", "--place", "aws", "--region", REGION, "--format", "json"]
    done = CliRunner().invoke(app, given)
    assert done.stdout, done.exception
    found = json.loads(done.stdout.splitlines()[-1])["findings"]
    return done.exit_code, {finding["subject"]: finding for finding in found}


def mend(played: PlayedAccount) -> None:
    # By its real name: moto calls what it links otherwise.
    played.client("iam").create_role(RoleName=ECS_ROLE, AssumeRolePolicyDocument="{}")
    storage = played.client("s3")
    storage.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
    rules = [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}]
    storage.put_bucket_encryption(Bucket=BUCKET, ServerSideEncryptionConfiguration={"Rules": rules})
    images = played.client("ecr")
    images.create_repository(repositoryName="windflower")
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"digest": f"sha256:{'0' * 64}", "size": 1},
        "layers": [],
    }
    images.put_image(
        repositoryName="windflower", imageManifest=json.dumps(manifest), imageTag="latest"
    )


def test_an_account_that_is_ready_passes(played: PlayedAccount) -> None:
    mend(played)
    row = {"client": {"S": "pi-07"}, "time": {"N": "1000"}}
    played.client("dynamodb").put_item(TableName=STACK.outputs["FleetTable"], Item=row)
    code, found = findings()

    assert [] == [finding for finding in found.values() if not finding["is-well"]]
    assert 0 == code
    assert "0 devices were heard within 15 minutes, 1 ever" == found["fleet"]["says"]
    assert {"credentials", "service-linked role", "quota", "stack", "bucket", "image"} < set(found)


@pytest.mark.parametrize(
    ("fault", "subject", "fix"),
    [
        ("no role", "service-linked role", "aws iam create-service-linked-role"),
        ("not versioned", "bucket", "turn it on"),
        ("no image", "image", "build and push it"),
        ("no stack", "stack", "windflower aws deploy"),
    ],
)
def test_what_is_missing_is_named_with_its_fix(
    played: PlayedAccount, fault: str, subject: str, fix: str
) -> None:
    mend(played)
    match fault:
        case "no role":
            played.client("iam").delete_role(RoleName=ECS_ROLE)
        case "not versioned":
            suspended = {"Status": "Suspended"}
            played.client("s3").put_bucket_versioning(
                Bucket=BUCKET, VersioningConfiguration=suspended
            )
        case "no image":
            played.client("ecr").batch_delete_image(
                repositoryName="windflower", imageIds=[{"imageTag": "latest"}]
            )
        case _:
            played.client("cloudformation").delete_stack(StackName="windflower")
    code, found = findings()

    assert 1 == code
    assert [subject] == [name for name, finding in found.items() if not finding["is-well"]]
    assert fix in found[subject]["fix"]
