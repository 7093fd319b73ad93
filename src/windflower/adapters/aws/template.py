"""Reads the CloudFormation template: the one place where the names on AWS are spelled.

Nothing else repeats a table, a topic rule, a policy or a filter: who needs one asks for it here.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import yaml

from windflower.adapters.aws.deploy_folder import deploy_text
from windflower.errors import ConfigError

_PLACEHOLDER: Final = re.compile(r"\$\{(!?)([^}]+)\}")


def _wrong(message: str) -> ConfigError:
    """Return the error for what this reader, or CloudFormation, does not understand."""
    return ConfigError(f"the template: {message}", key="template")


# Where a resource's name stands, by type, and what `Ref` and `GetAtt Arn` give: `{name}` is its
# name, `{here}` region and account. A type without a property for its name gets one that is made
# of the stack's name and the logical id.
_NAMES: Final = {
    "AWS::S3::Bucket": "BucketName",
    "AWS::DynamoDB::Table": "TableName",
    "AWS::IoT::TopicRule": "RuleName",
    "AWS::IoT::ThingGroup": "ThingGroupName",
    "AWS::IoT::Policy": "PolicyName",
    "AWS::IoT::ProvisioningTemplate": "TemplateName",
    "AWS::Logs::LogGroup": "LogGroupName",
    "AWS::ECR::Repository": "RepositoryName",
    "AWS::ECS::Cluster": "ClusterName",
    "AWS::ECS::TaskDefinition": "Family",
    "AWS::StepFunctions::StateMachine": "StateMachineName",
    "AWS::Scheduler::Schedule": "Name",
    "AWS::CloudWatch::Dashboard": "DashboardName",
    "AWS::Logs::MetricFilter": "FilterName",
}
_ARNS: Final = {
    "AWS::S3::Bucket": "s3:::{name}",
    "AWS::DynamoDB::Table": "dynamodb:{here}:table/{name}",
    "AWS::IoT::TopicRule": "iot:{here}:rule/{name}",
    "AWS::IoT::ThingGroup": "iot:{here}:thinggroup/{name}",
    "AWS::IoT::Policy": "iot:{here}:policy/{name}",
    "AWS::Logs::LogGroup": "logs:{here}:log-group:{name}:*",
    "AWS::ECR::Repository": "ecr:{here}:repository/{name}",
    "AWS::ECS::Cluster": "ecs:{here}:cluster/{name}",
    "AWS::ECS::TaskDefinition": "ecs:{here}:task-definition/{name}:1",
    "AWS::StepFunctions::StateMachine": "states:{here}:stateMachine:{name}",
    "AWS::IAM::Role": "iam::{account}:role/{name}",
}
_REF_IS_ARN: Final = frozenset({"AWS::ECS::TaskDefinition", "AWS::StepFunctions::StateMachine"})


@dataclass(frozen=True, slots=True)
class Stack:
    """A template with its parameters filled in.

    Attributes:
        parameters: what was given, and the defaults of the rest.
        resources: by logical id, `Type` and `Properties` with every intrinsic resolved; what a
            condition leaves out is not there.
        outputs: by name.
    """

    parameters: dict[str, str]
    resources: dict[str, dict[str, Any]]
    outputs: dict[str, str]

    def properties(self, logical_id: str) -> dict[str, Any]:
        """Return a resource's properties; raises ConfigError where there is none."""
        try:
            return dict(self.resources[logical_id]["Properties"])
        except KeyError:
            raise _wrong(f"there is no {logical_id}") from None

    def of_type(self, kind: str) -> dict[str, dict[str, Any]]:
        """Return the properties of all resources of a type, by logical id."""
        found = self.resources.items()
        return {name: dict(one["Properties"]) for name, one in found if one["Type"] == kind}


class Template:
    """A CloudFormation template.

    Args:
        body: as it was read, intrinsics in their long form: `{"Fn::Sub": ...}`, `{"Ref": ...}`.
        text: as it is uploaded.
    """

    def __init__(self, body: dict[str, Any], text: str = "") -> None:
        self.body = body
        self.text = text

    @classmethod
    def load(cls, path: Path | None = None) -> Self:
        """Read a template: by default the checkout's, and in a wheel the one that came with it.

        Raises:
            ConfigError: it is not YAML.
        """
        return cls.parse(path.read_text() if path else deploy_text("aws", "template.yaml"))

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a template's text; raises ConfigError where it is not YAML."""
        try:
            body = yaml.load(text, Loader=_Loader)  # noqa: S506 - a SafeLoader that knows the intrinsics
        except yaml.YAMLError as error:
            raise _wrong(f"it is not YAML: {error}") from error
        return cls(body, text)

    def uploaded(self) -> str:
        """Return the template as CloudFormation is given it: as JSON, which is shorter."""
        return json.dumps(_unindented(self.body), separators=(",", ":"))

    def resolve(
        self,
        parameters: Mapping[str, str] | None = None,
        *,
        region: str = "eu-west-1",
        account: str = "123456789012",
        stack: str = "windflower",
    ) -> Stack:
        """Fill in parameters and resolve every intrinsic, as CloudFormation would.

        Names that CloudFormation draws are made of the stack's name and the logical id.

        Raises:
            ConfigError: it refers to what is not there, or uses what this reader does not know.
        """
        values = self._parameters(parameters or {})
        pseudo = {
            "AWS::Region": region,
            "AWS::AccountId": account,
            "AWS::Partition": "aws",
            "AWS::URLSuffix": "amazonaws.com",
            "AWS::StackName": stack,
        }
        return _Resolution(self.body, values, pseudo).stack()

    def _parameters(self, given: Mapping[str, str]) -> dict[str, str]:
        declared: dict[str, dict[str, Any]] = self.body.get("Parameters", {})
        if unknown := given.keys() - declared.keys():
            raise _wrong(f"there is no parameter {min(unknown)}")
        values = {}
        for name, one in declared.items():
            if name not in given and "Default" not in one:
                raise _wrong(f"the parameter {name} was not given")
            value = str(given.get(name, one.get("Default")))
            _check(name, value, one)
            values[name] = value
        return values


def _unindented(node: Any) -> Any:  # noqa: ANN401 - YAML is any
    """Return a node without the indentation of the JSON texts in it."""
    if isinstance(node, str):
        return re.sub(r"\n +", "\n", node)
    if isinstance(node, list):
        return [_unindented(one) for one in node]
    if isinstance(node, dict):
        return {key: _unindented(one) for key, one in node.items()}
    return node


def _check(name: str, value: str, declared: Mapping[str, Any]) -> None:
    """Refuse a parameter's value as CloudFormation would; raises ConfigError."""
    pattern = declared.get("AllowedPattern")
    allowed = declared.get("AllowedValues")
    is_fine = pattern is None or re.fullmatch(pattern, value) is not None
    is_fine = is_fine and (allowed is None or value in map(str, allowed))
    if is_fine and declared["Type"] == "Number":
        number = float(value) if re.fullmatch(r"-?[0-9]+(\.[0-9]+)?", value) else None
        low = float(declared.get("MinValue", "-inf"))
        high = float(declared.get("MaxValue", "inf"))
        is_fine = number is not None and low <= number <= high
    if not is_fine:
        raise _wrong(f"{name} cannot be {value!r}: {declared.get('Description', '')}")


class _Resolution:
    """One resolution of one template."""

    def __init__(
        self, body: dict[str, Any], parameters: dict[str, str], pseudo: dict[str, str]
    ) -> None:
        self._parameters = parameters
        self._values = {**parameters, **pseudo}
        self._conditions: dict[str, Any] = body.get("Conditions", {})
        self._declared: dict[str, dict[str, Any]] = body.get("Resources", {})
        self._outputs: dict[str, dict[str, Any]] = body.get("Outputs", {})

    def stack(self) -> Stack:
        made = {
            name: {**one, "Properties": self.value(one.get("Properties", {}))}
            for name, one in self._declared.items()
            if self._is_made(name)
        }
        for name, one in made.items():
            self._check_depends(name, one)
        outputs = {name: str(self.value(one["Value"])) for name, one in self._outputs.items()}
        return Stack(self._parameters, made, outputs)

    def _check_depends(self, name: str, one: Mapping[str, Any]) -> None:
        after = one.get("DependsOn", [])
        for other in [after] if isinstance(after, str) else after:
            if other not in self._declared:
                raise _wrong(f"{name} depends on {other}, which is not there")

    def _is_made(self, name: str) -> bool:
        condition = self._declared[name].get("Condition")
        return condition is None or self._holds(condition)

    def _holds(self, condition: str) -> bool:
        if condition not in self._conditions:
            raise _wrong(f"there is no condition {condition}")
        return bool(self.value(self._conditions[condition]))

    def value(self, node: Any) -> Any:  # noqa: ANN401 - YAML is any
        """Return a node with everything in it resolved."""
        if isinstance(node, list):
            resolved = [self.value(one) for one in node]
            return [one for one in resolved if one is not _NOTHING]
        if not isinstance(node, dict):
            return node
        if len(node) == 1:
            ((key, argument),) = node.items()
            if key == "Ref" or key.startswith("Fn::"):
                return self._intrinsic(key, argument)
        resolved_items = {key: self.value(one) for key, one in node.items()}
        return {key: one for key, one in resolved_items.items() if one is not _NOTHING}

    def _intrinsic(self, name: str, argument: Any) -> Any:  # noqa: ANN401, C901, PLR0911 - one line each
        match name:
            case "Ref":
                return _NOTHING if argument == "AWS::NoValue" else self._reference(argument)
            case "Fn::Sub":
                return self._substitute(argument)
            case "Fn::GetAtt":
                return self._attribute(argument)
            case "Fn::If":
                condition, yes, no = argument
                return self.value(yes if self._holds(condition) else no)
            case "Fn::Equals":
                left, right = map(self.value, argument)
                return str(left) == str(right)
            case "Fn::Not":
                return not self.value(argument[0])
            case "Fn::Select":
                index, options = argument
                return self.value(options)[int(index)]
            case "Fn::GetAZs":
                region = self.value(argument) or self._values["AWS::Region"]
                return [f"{region}{letter}" for letter in "abc"]
            case _:
                raise _wrong(f"{name} is an intrinsic that this reader does not know")

    def _substitute(self, argument: Any) -> str:  # noqa: ANN401 - a text, or a text and variables
        text, variables = (argument, {}) if isinstance(argument, str) else argument
        own = {key: self.value(one) for key, one in variables.items()}

        def filled(found: re.Match[str]) -> str:
            is_literal, name = found.groups()
            if is_literal:
                return f"${{{name}}}"
            if name in own:
                return str(own[name])
            if "." in name:
                return str(self._attribute(name))
            return str(self._reference(name))

        return _PLACEHOLDER.sub(filled, text)

    def _reference(self, name: str) -> str:
        if name in self._values:
            return self._values[name]
        kind = self._kind(name)
        return self._arn(name) if kind in _REF_IS_ARN else self._name(name)

    def _attribute(self, argument: Any) -> str:  # noqa: ANN401 - "Name.Attribute" or both in a list
        name, attribute = (
            argument if isinstance(argument, list) else str(argument).split(".", maxsplit=1)
        )
        if attribute == "Arn":
            return self._arn(name)
        if (self._kind(name), attribute) == ("AWS::ECR::Repository", "RepositoryUri"):
            account, region = self._values["AWS::AccountId"], self._values["AWS::Region"]
            return f"{account}.dkr.ecr.{region}.amazonaws.com/{self._name(name)}"
        raise _wrong(f"{name}.{attribute} is an attribute that this reader does not know")

    def _kind(self, name: str) -> str:
        if name not in self._declared:
            raise _wrong(f"there is no {name}")
        if not self._is_made(name):
            raise _wrong(f"{name} is referred to where its condition leaves it out")
        return str(self._declared[name]["Type"])

    def _name(self, name: str) -> str:
        kind = self._kind(name)
        own = self._declared[name].get("Properties", {}).get(_NAMES.get(kind, ""))
        if own is not None:
            return str(self.value(own))
        drawn = f"{self._values['AWS::StackName']}-{name}"
        return drawn.lower() if kind == "AWS::S3::Bucket" else drawn

    def _arn(self, name: str) -> str:
        kind = self._kind(name)
        if kind not in _ARNS:
            raise _wrong(f"{name} is a {kind}, whose ARN this reader does not know")
        account = self._values["AWS::AccountId"]
        here = f"{self._values['AWS::Region']}:{account}"
        rest = _ARNS[kind].format(here=here, account=account, name=self._name(name))
        return f"arn:{self._values['AWS::Partition']}:{rest}"


_NOTHING: Final = object()
"""What `AWS::NoValue` leaves: nothing, not even its key."""


class _Loader(yaml.SafeLoader):
    """Plain YAML, and CloudFormation's short forms; a key that stands twice is refused."""


def _short_form(loader: yaml.SafeLoader, suffix: str, node: yaml.Node) -> dict[str, Any]:
    name = suffix if suffix in {"Ref", "Condition"} else f"Fn::{suffix}"
    if isinstance(node, yaml.ScalarNode):
        return {name: loader.construct_scalar(node)}
    if isinstance(node, yaml.SequenceNode):
        return {name: loader.construct_sequence(node, deep=True)}
    raise _wrong(f"!{suffix} of a mapping")


def _mapping(loader: yaml.SafeLoader, node: yaml.MappingNode) -> dict[Any, Any]:
    keys = [loader.construct_object(key, deep=True) for key, _ in node.value]
    for key in keys:
        if keys.count(key) > 1:
            raise _wrong(f"{key} stands twice, line {node.start_mark.line + 1}")
    return {
        key: loader.construct_object(value, deep=True)
        for key, (_, value) in zip(keys, node.value, strict=True)
    }


_Loader.add_multi_constructor("!", _short_form)
_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)
