"""The reader of the template understands what it says, and nothing that it does not say."""

import json

import pytest

from windflower.adapters.aws.template import Template
from windflower.errors import ConfigError


@pytest.fixture(scope="module")
def template() -> Template:
    return Template.load()


def test_every_name_begins_with_the_unique_key(template: Template) -> None:
    stack = template.resolve({"UniqueKey": "acme"}, region="eu-north-1", account="000011112222")

    assert "acme-responses" == stack.properties("ResponsesTable")["TableName"]
    assert "acme_response" == stack.properties("ResponseRule")["RuleName"]
    assert "acme-fleet" == stack.outputs["FleetTable"]
    assert (
        "arn:aws:iam::000011112222:role/windflower-TransferRole"
        == (stack.outputs["TransferRoleArn"])
    )


def test_a_bucket_of_ones_own_takes_the_place_of_the_stacks(template: Template) -> None:
    ours, theirs = template.resolve(), template.resolve({"BucketName": "mine"})

    assert ("windflower-bucket", True) == (ours.outputs["BucketName"], "Bucket" in ours.resources)
    assert ("mine", False) == (theirs.outputs["BucketName"], "Bucket" in theirs.resources)
    assert "windflower-bucket" not in json.dumps(theirs.resources)


def test_greengrass_comes_with_its_zip(template: Template) -> None:
    with_it = template.resolve({"ComponentKey": "windflower/greengrass/agent.zip"})

    assert {"GreengrassComponent", "GreengrassDeployment"} == (
        with_it.resources.keys() - template.resolve().resources.keys()
    )


def test_a_variable_of_iot_is_left_as_it_is(template: Template) -> None:
    policy = json.dumps(template.resolve().properties("DevicePolicy"))

    assert "client/${iot:Connection.Thing.ThingName}" in policy
    assert "${!" not in policy


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Resources: {A: {Type: X, Properties: {B: !Ref C}}}", "there is no C"),
        ("Resources: {A: {Type: X, Properties: {B: !Sub '${C.Arn}'}}}", "there is no C"),
        ("Resources: {A: {Type: X, Properties: {B: !GetAtt A.Arn}}}", "A is a X, whose ARN"),
        ("Resources: {A: {Type: X, Properties: {B: !GetAtt A.C}}}", "A.C is an attribute"),
        ("Resources: {A: {Type: X, Properties: {B: !Base64 C}}}", "Fn::Base64 is an intrinsic"),
        ("Resources: {A: {Type: X, Condition: C}}", "there is no condition C"),
        ("Resources: {A: {Type: X, DependsOn: C}}", "A depends on C"),
        ("Resources: {A: {Type: X}, A: {Type: Y}}", "A stands twice"),
        ("Resources: [", "it is not YAML"),
        ("Parameters: {P: {Type: String}}", "the parameter P was not given"),
        ("Parameters: {P: {Type: Number, Default: x}}", "P cannot be 'x'"),
    ],
)
def test_what_is_not_understood_is_refused(text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Template.parse(text).resolve()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("UniqueKey", "Windflower"),
        ("UniqueKey", "a" * 17),
        ("SimulatedDevices", "41"),
        ("SimulatedDevices", "many"),
        ("CpuArchitecture", "RISCV"),
        ("NoSuchParameter", "x"),
    ],
)
def test_a_parameter_that_cloudformation_would_refuse_is_refused(
    template: Template, name: str, value: str
) -> None:
    with pytest.raises(ConfigError, match=name):
        template.resolve({name: value})
