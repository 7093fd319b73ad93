"""Planted faults: one change of the template each, and the check that has to notice it."""

import copy
from dataclasses import dataclass
from typing import Any, Final

from windflower.adapters.aws.template import Template

GONE: Final = object()


@dataclass(frozen=True)
class Swap:
    """A text within a text that is replaced."""

    old: str
    new: str


@dataclass(frozen=True)
class Fault:
    """One change.

    Attributes:
        check: who has to notice.
        where: the way to what is changed, from the resources on, names and numbers with dots.
        change: the new value, a Swap within a text, or GONE.
    """

    check: str
    where: str
    change: object

    def __str__(self) -> str:
        what = f"{self.change.old}-{self.change.new}" if isinstance(self.change, Swap) else "other"
        return f"{self.check}:{self.where}:{'gone' if self.change is GONE else what}"[:110]

    def planted_in(self, template: Template) -> Template:
        """Return a copy of a template with this fault."""
        body = copy.deepcopy(template.body)
        *way, last = self.where.split(".")
        node: Any = body["Resources"]
        for step in way:
            node = node[_step(step)]
        key = _step(last)
        if self.change is GONE:
            del node[key]
        elif isinstance(self.change, Swap):
            assert self.change.old in _text(node[key]), f"nothing to change at {self.where}"
            node[key] = _swapped(node[key], self.change)
        else:
            node[key] = self.change
        return Template(body)


def _step(text: str) -> str | int:
    return int(text) if text.isdecimal() else text.replace("::", ".")


def _text(node: object) -> str:
    """Return the text of a string, of a Fn::Sub, or of a Fn::Sub with variables."""
    if isinstance(node, dict):
        node = node["Fn::Sub"]
    return str(node[0] if isinstance(node, list) else node)


def _swapped(node: Any, swap: Swap) -> Any:  # noqa: ANN401 - of the kind that it was
    text = _text(node).replace(swap.old, swap.new)
    if isinstance(node, str):
        return text
    inner = node["Fn::Sub"]
    return {"Fn::Sub": [text, inner[1]] if isinstance(inner, list) else text}


_DEFINITION: Final = "Pipeline.Properties.DefinitionString"
_RESPONSES: Final = "ResponseRule.Properties.TopicRulePayload"
_HEARTBEATS: Final = "HeartbeatRule.Properties.TopicRulePayload"
_THING: Final = "${!iot:Connection.Thing.ThingName}"
_DEVICE: Final = "DevicePolicy.Properties.PolicyDocument.Statement"
_TASK: Final = "TaskPolicy.Properties.PolicyDocument.Statement"
_PIPELINE: Final = "PipelinePolicy.Properties.PolicyDocument.Statement"
_RECIPE: Final = "GreengrassComponent.Properties.InlineRecipe"
_PANELS: Final = "Dashboard.Properties.DashboardBody"


def _definition(old: str, new: str) -> Fault:
    return Fault("pipeline", _DEFINITION, Swap(old, new))


def _recipe(old: str, new: str) -> Fault:
    return Fault("recipe", _RECIPE, Swap(old, new))


def _sql(where: str, old: str, new: str) -> Fault:
    return Fault("rules", f"{where}.Sql", Swap(old, new))


FAULTS: Final = (
    Fault("retired", "Schedule.Type", "AWS::IoTAnalytics::Channel"),
    Fault("retired", "MetricRunTime.Type", "AWS::Greengrass::Group"),
    Fault("tags", "FleetTable.Properties.Tags", GONE),
    Fault("tags", "DeviceGroup.Properties.Tags.0.Value", "another"),
    Fault("names", "JournalTable.Properties.TableName", "journal"),
    Fault("names", "RunLogs.Properties.LogGroupName", "/ecs/run"),
    # The bucket and the tables
    Fault("bucket", "Bucket.DeletionPolicy", "Delete"),
    Fault("bucket", "Bucket.Properties.VersioningConfiguration", GONE),
    Fault("bucket", "Bucket.Properties.BucketEncryption", GONE),
    Fault("bucket", "Bucket.Properties.PublicAccessBlockConfiguration.BlockPublicPolicy", False),
    Fault("bucket", "Bucket.Properties.LifecycleConfiguration.Rules.0.Status", "Disabled"),
    Fault("bucket", "BucketPolicy.Properties.PolicyDocument.Statement.0.Effect", "Allow"),
    Fault("tables", "ResponsesTable.Properties.KeySchema.1.AttributeName", "id"),
    Fault("tables", "FleetTable.Properties.TimeToLiveSpecification.AttributeName", "time"),
    Fault("tables", "JournalTable.Properties.BillingMode", "PROVISIONED"),
    # The rules
    _sql(_RESPONSES, "SELECT", "SELEKT"),
    _sql(_RESPONSES, "'+/client/+/sent'", "'+/client/+/send'"),
    _sql(_RESPONSES, "'+/client/+/sent'", "'#'"),
    _sql(_RESPONSES, "topic(3)", "topic(2)"),
    _sql(_RESPONSES, "topic(3)", "client"),
    _sql(_RESPONSES, "concat(topic(1), '#', id)", "topic(1)"),
    _sql(_RESPONSES, "concat", "konkat"),
    _sql(_RESPONSES, "encode(*, 'base64')", "*"),
    _sql(_RESPONSES, "AS path", "AS payload"),
    _sql(_RESPONSES, "AS ttl", "AS expires"),
    _sql(_RESPONSES, "floor(timestamp() / 1000)", "floor(timestamp() / 1000"),
    _sql(_HEARTBEATS, "'flower/clients/+'", "'flower/client/+'"),
    _sql(_HEARTBEATS, "encode(*, 'base64') AS path,", ""),
    Fault("rules", f"{_RESPONSES}.Actions.0.DynamoDBv2.PutItem.TableName", "responses"),
    Fault("rules", f"{_RESPONSES}.ErrorAction", GONE),
    Fault("rules", f"{_HEARTBEATS}.RuleDisabled", True),
    # What a device may do
    Fault("device_policy", f"{_DEVICE}.1.Resource.3", Swap("_response/", "_answer/")),
    Fault("device_policy", f"{_DEVICE}.1.Sid", "x" * 700),
    Fault("devices_stay_apart", f"{_DEVICE}.0.Resource", Swap(_THING, "*")),
    Fault("devices_stay_apart", f"{_DEVICE}.0.Condition.Bool", GONE),
    Fault("devices_stay_apart", f"{_DEVICE}.1.Resource.4", Swap(_THING, "*")),
    Fault("devices_stay_apart", f"{_DEVICE}.1.Resource.4", Swap("/fit/", "/*/")),
    Fault("devices_stay_apart", f"{_DEVICE}.1.Resource.6", GONE),
    Fault("devices_stay_apart", f"{_DEVICE}.2.Resource", Swap("topicfilter/", "topic/")),
    Fault("devices_stay_apart", f"{_DEVICE}.2.Resource", Swap(f"{_THING}/update", "*")),
    Fault("devices_stay_apart", f"{_DEVICE}.3.Action", "iot:Publish"),
    Fault("devices_stay_apart", f"{_DEVICE}.3.Resource", Swap("topic/commands/", "topic/command/")),
    Fault(
        "provisioning", "ClaimTemplate.Properties.TemplateBody", Swap("${DevicePolicy}", "other")
    ),
    Fault(
        "provisioning",
        "ClaimTemplate.Properties.TemplateBody",
        Swap('"Ref": "DeviceId"', '"Ref": "Id"'),
    ),
    Fault("provisioning", "ClaimTemplate.Properties.TemplateName", "another"),
    *(
        Fault("provisioning", "ClaimTemplate.Properties.TemplateBody", Swap(old, new))
        for old, new in (
            ('{"windflower": "${UniqueKey}"}', '{"fleet": "${UniqueKey}"}'),
            ('"AttributePayload": "DO_NOTHING"', '"AttributePayload": "REPLACE"'),
        )
    ),
    # What roles may do
    Fault("roles", f"{_TASK}.0.Action", "iot:*"),
    Fault("roles", f"{_TASK}.0.Resource", "*"),
    Fault("roles", f"{_TASK}.4.Resource", "*"),
    Fault("roles", f"{_PIPELINE}.6.Condition", GONE),
    Fault("roles", f"{_PIPELINE}.5.Condition", GONE),
    Fault("roles", "ExecutionRole.Properties.Policies.0.PolicyDocument.Statement.1.Resource", "*"),
    Fault(
        "trust",
        "TaskRole.Properties.ManagedPolicyArns",
        ["arn:aws:iam::aws:policy/AdministratorAccess"],
    ),
    Fault(
        "trust",
        "TransferRole.Properties.AssumeRolePolicyDocument.Statement.0.Principal",
        {"AWS": "*"},
    ),
    # Tasks and their network
    Fault(
        "network",
        "TaskSecurityGroup.Properties.SecurityGroupIngress",
        [{"IpProtocol": "tcp", "FromPort": 8080, "ToPort": 8080, "CidrIp": "0.0.0.0/0"}],
    ),
    Fault("network", "TaskSecurityGroup.Properties.SecurityGroupEgress.0.ToPort", 65535),
    Fault(
        "network",
        "RunTask.Properties.ContainerDefinitions.0.PortMappings",
        [{"ContainerPort": 8080}],
    ),
    Fault(
        "tasks",
        "RunTask.Properties.ContainerDefinitions.0.LogConfiguration.Options.awslogs-group",
        "/run",
    ),
    Fault("tasks", "RunTask.Properties.ContainerDefinitions.0.Environment.5.Value", "responses"),
    Fault("tasks", "DevicesTask.Properties.TaskRoleArn", {"Fn::GetAtt": "ExecutionRole.Arn"}),
    # The state machine
    _definition('"StartAt": "Defaults",', '"StartAt": "Defaults"'),
    _definition('"Next": "Discover"', '"Next": "Discovery"'),
    _definition('"Next": "TookTooLong"', '"Next": "Failed"'),
    _definition('"Default": "Report"', '"Default": "Nowhere"'),
    _definition('"Next": "Publish"', '"Next": "Report"'),
    _definition(
        '"Resource": "arn:${AWS::Partition}:states:::ecs:runTask.sync"',
        '"Resource": "arn:${AWS::Partition}:states:::ecs:runTask"',
    ),
    _definition('"TimeoutSeconds": ${RunTimeoutSeconds},', ""),
    _definition("aws-sdk:ecs:stopTask", "aws-sdk:ecs:endTask"),
    _definition('"Select": "COUNT"', '"Selection": "COUNT"'),
    _definition('"Group.$": "$.name",\n', ""),
    _definition('"Group.$": "$.name",', '"Group.$": "$.name", "StartedBy.$": "$.name",'),
    _definition('"TaskDefinition": "${RunTask}"', '"TaskDefinition": "${DevicesTask}"'),
    _definition('"Name": "run",', '"Name": "coordinator",'),
    _definition('"Type": "Wait"', '"Type": "Sleep"'),
    Fault("schedule", "Schedule.Properties.State", "ENABLED"),
    Fault("schedule", "Schedule.Properties.ScheduleExpression", "every day"),
    # The numbers
    Fault("filters", "MetricRunTime.Properties.FilterPattern", "{ $.seconds > }"),
    Fault("filters", "MetricRunTime.Properties.FilterPattern", Swap("run-ended", "run_end")),
    Fault("filters", "MetricClientCount.Properties.FilterPattern", Swap("$.devices", "$.selected")),
    Fault("filters", "MetricClientLoss.Properties.LogGroupName", {"Ref": "DevicesLogs"}),
    Fault(
        "filters", "MetricClientLoss.Properties.MetricTransformations.0.MetricName", "ClientLoss"
    ),
    Fault("filters", "MetricFailureCount.Properties.MetricTransformations.0.MetricValue", "$.late"),
    Fault("dashboard", _PANELS, Swap('"widgets": [', '"widgets": ')),
    Fault("dashboard", _PANELS, Swap("Maximum failed clients", "Failures")),
    Fault("dashboard", _PANELS, Swap('"stat": "Minimum"', '"stat": "Average"')),
    Fault("dashboard", _PANELS, Swap('"${UniqueKey}", "RunTime"', '"Coordinator", "RunTime"')),
    # Greengrass
    _recipe('"RecipeFormatVersion"', '"recipeFormatVersion"'),
    _recipe('"install":', '"Install":'),
    _recipe('"run":', '"startup":'),
    _recipe('"Timeout": 3600', '"timeout": 3600'),
    _recipe('"Timeout": 3600', '"Timeout": 60'),
    _recipe("{artifacts:decompressedPath}/agent/run.sh", "{artifacts:decompressedPath}/run.sh"),
    _recipe("${ComponentKey}", "${UniqueKey}/component.zip"),
    _recipe('"os": "linux"', '"os": "windows"'),
    _recipe('"runtime": "*"', '"architecture": "amd64"'),
    _recipe("{work:path} {iot:thingName}", "{work:path} {configuration:/id}"),
    _recipe('"Unarchive": "ZIP"', '"Unarchive": "NONE"'),
    _recipe("aws.greengrass.generic", "aws.greengrass.lambda"),
    _recipe('["commands/client/+/update"]', '["#"]'),
    _recipe("aws.greengrass#SubscribeToIoTCore", "aws.greengrass#Subscribe"),
    _recipe('"${ComponentVersion}"', '"latest"'),
    Fault("device_policy", _RECIPE, Swap("_response/+", "_replies/+")),
)
