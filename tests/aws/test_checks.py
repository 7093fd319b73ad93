"""The template is right, and each of many faults in it is noticed by the check that is for it."""

import pytest
from aws.checks import CHECKS, POLICY_CHARS
from aws.faults import FAULTS, Fault
from cfnlint.api import ManualArgs, lint

from windflower.adapters.aws.template import Stack, Template
from windflower.errors import ConfigError

TEMPLATE = Template.load()
WHOLE = {"ComponentKey": "windflower/greengrass/0123abcd/agent.zip"}
CASES = {
    "defaults": {},
    "whole": WHOLE,
    "own-bucket": {**WHOLE, "BucketName": "mine", "UniqueKey": "acme", "ImageUri": "here/it:is"},
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("check", CHECKS)
def test_the_template_is_right(check: str, case: str) -> None:
    assert [] == list(CHECKS[check](TEMPLATE.resolve(CASES[case])))


def test_the_device_policy_fits_with_the_longest_names() -> None:
    stack = TEMPLATE.resolve({"UniqueKey": "a" * 16}, region="ap-southeast-2")

    assert [] == list(CHECKS["device_policy"](stack))
    assert 1000 < POLICY_CHARS


@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_a_planted_fault_is_noticed(fault: Fault) -> None:
    stack = fault.planted_in(TEMPLATE).resolve(WHOLE)

    assert [] != list(CHECKS[fault.check](stack))


def test_a_name_that_is_nowhere_is_noticed_when_the_template_is_read() -> None:
    fault = Fault("", "Schedule.Properties.Target.Arn", {"Ref": "StateMachine"})

    with pytest.raises(ConfigError, match="there is no StateMachine"):
        fault.planted_in(TEMPLATE).resolve()


def linted(text: str) -> list[str]:
    return [one.rule.id for one in lint(text, config=ManualArgs(regions=["eu-west-1"]))]


def test_cfn_lint_finds_nothing() -> None:
    assert [] == linted(TEMPLATE.text)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("BillingMode: PAY_PER_REQUEST", "BillingMode: PAY_PER_READ"),
        ("AttributeType: S", "AttributeType: STRING"),
        ("Type: AWS::IoT::TopicRule", "Type: AWS::IoT::Rule"),
        ("RuleName:", "Name:"),
        ('Cpu: "1024"', 'Cpu: "1000"'),
        ("SSEAlgorithm: AES256", "SSEAlgorithm: AES128"),
    ],
)
def test_cfn_lint_notices_what_it_is_for(old: str, new: str) -> None:
    assert [] != linted(TEMPLATE.text.replace(old, new))


def test_the_checks_are_all_used_by_a_fault() -> None:
    assert set(CHECKS) == {fault.check for fault in FAULTS}


def test_resolving_again_gives_the_same() -> None:
    assert isinstance(TEMPLATE.resolve(WHOLE), Stack)
    assert TEMPLATE.resolve(WHOLE) == TEMPLATE.resolve(WHOLE)
