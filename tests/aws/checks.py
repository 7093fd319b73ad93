"""What is wrong with the template: what cfn-lint does not see, one check a subject.

Each check takes a resolved stack and yields problems, none where all is well.
"""

import base64
import dataclasses
import json
import re
from collections.abc import Callable, Iterator
from typing import Any

from aws import metric_filters, state_machine_check
from aws.device_matrix import IotDevice, asked_of
from aws.permissions import listed

from windflower.adapters.aws.template import Stack
from windflower.core import events
from windflower.core.events import Event
from windflower.offline import iot_sql
from windflower.wire.topics import TABLE

Problems = Iterator[str]
RETIRED = ("AWS::IoTAnalytics::", "AWS::Greengrass::", "AWS::IoTEvents::", "AWS::IoT1Click::")
POLICY_CHARS = 2048
"""AWS IoT Core: a policy's size without white space."""

UNTAGGED = {
    "AWS::S3::BucketPolicy", "AWS::IAM::Policy", "AWS::EC2::Route", "AWS::Scheduler::Schedule",
    "AWS::EC2::VPCGatewayAttachment", "AWS::EC2::SubnetRouteTableAssociation",
    "AWS::Logs::MetricFilter", "AWS::CloudWatch::Dashboard",
}  # fmt: skip
"""Types that take no tags."""

ANYWHERE = {
    "iot:DescribeEndpoint", "iot:CreateCertificateFromCsr", "ecr:GetAuthorizationToken",
    "ecs:ListTasks", "iot:Connect", "iot:ListAttachedPolicies",
}  # fmt: skip
"""Actions that IAM cannot bind to a resource, and the claim's connection under any client id."""

PANELS = {
    "Total number of clients": ("ClientCount", "Average"),
    "Minimum successful clients": ("SuccessCount", "Minimum"),
    "Maximum failed clients": ("FailureCount", "Maximum"),
    "Run time in seconds": ("RunTime", "Maximum"),
    "Accuracy (clients)": ("Accuracy", "Average"),
    "Loss": ("Loss", "Average"),
}


def retired(stack: Stack) -> Problems:
    """No service that has ended."""
    for name, one in stack.resources.items():
        if one["Type"].startswith(RETIRED):
            yield f"{name} is of a service that has ended"


def tags(stack: Stack) -> Problems:
    """Every resource that takes tags names the project and the fleet."""
    wanted = {"Project": "windflower", "windflower": stack.parameters["UniqueKey"]}
    for name, one in stack.resources.items():
        given = one["Properties"].get("Tags", {})
        if isinstance(given, list):
            given = {tag["Key"]: tag["Value"] for tag in given}
        if one["Type"] not in UNTAGGED and wanted.items() - given.items():
            yield f"{name} has not the tags of the project"


def names(stack: Stack) -> Problems:
    """Names begin with the unique key, so that one account can hold several fleets."""
    key = stack.parameters["UniqueKey"]
    for kind, field in (
        ("AWS::DynamoDB::Table", "TableName"), ("AWS::IoT::TopicRule", "RuleName"),
        ("AWS::IoT::Policy", "PolicyName"), ("AWS::IoT::ThingGroup", "ThingGroupName"),
        ("AWS::Logs::LogGroup", "LogGroupName"), ("AWS::ECS::TaskDefinition", "Family"),
    ):  # fmt: skip
        for name, one in stack.of_type(kind).items():
            if not one[field].lstrip("/").startswith(key):
                yield f"{name} is called {one[field]}"


def bucket(stack: Stack) -> Problems:
    """Versioned, encrypted, private, TLS only, and nothing in it grows for ever."""
    if "Bucket" not in stack.resources:
        return
    if stack.resources["Bucket"].get("DeletionPolicy") != "RetainExceptOnCreate":
        yield "the bucket with its models goes with the stack"
    one = stack.properties("Bucket")
    if one.get("VersioningConfiguration", {}).get("Status") != "Enabled":
        yield "the bucket is not versioned"
    if "BucketEncryption" not in one:
        yield "the bucket is not encrypted"
    if set(one.get("PublicAccessBlockConfiguration", {}).values()) != {True}:
        yield "the bucket may become public"
    rules = one.get("LifecycleConfiguration", {}).get("Rules", [])
    kept = {key for rule in rules if rule["Status"] == "Enabled" for key in rule}
    if not {"NoncurrentVersionExpiration", "AbortIncompleteMultipartUpload"} <= kept:
        yield "old versions or broken uploads stay in the bucket"
    statements = stack.properties("BucketPolicy")["PolicyDocument"]["Statement"]
    if not any(
        (each["Effect"], each.get("Condition"))
        == ("Deny", {"Bool": {"aws:SecureTransport": "false"}})
        for each in statements
    ):
        yield "the bucket answers without TLS"


def tables(stack: Stack) -> Problems:
    """Keys as the gateway and the rules use them; what expires names when."""
    wanted = {
        "ResponsesTable": ({"client": "HASH", "type": "RANGE"}, "ttl"),
        "FleetTable": ({"client": "HASH"}, "ttl"),
        "JournalTable": ({"fleet": "HASH", "sequence": "RANGE"}, None),
    }
    for name, (keys, ttl) in wanted.items():
        one = stack.properties(name)
        if {each["AttributeName"]: each["KeyType"] for each in one["KeySchema"]} != keys:
            yield f"{name} has other keys"
        if one.get("TimeToLiveSpecification", {}).get("AttributeName") != ttl:
            yield f"{name}: what expires is not {ttl}"
        if one.get("BillingMode") != "PAY_PER_REQUEST":
            yield f"{name} costs money while nothing runs"


PAYLOAD = b'{"id": "m1", "loss": 1e300, "v": 1.0}'
NOW_MS = 1_766_000_000_500


def rules(stack: Stack) -> Problems:
    """The SQL is SQL, takes our topics and no others, and makes rows that fit their table."""
    made = {one["TableName"]: one for one in stack.of_type("AWS::DynamoDB::Table").values()}
    for name, kind in (("ResponseRule", "reply"), ("HeartbeatRule", "heartbeat")):
        payload = stack.properties(name)["TopicRulePayload"]
        table = payload["Actions"][0].get("DynamoDBv2", {}).get("PutItem", {}).get("TableName")
        if table not in made:
            yield f"{name} writes into no table of ours"
        if payload.get("RuleDisabled") or "ErrorAction" not in payload:
            yield f"{name} is off, or loses what it could not write"
        try:
            rule = iot_sql.read(payload["Sql"])
        except iot_sql.UnsupportedSql as bad:
            yield f"{name}: {bad}"
        else:
            yield from (f"{name}: {one}" for one in _row_problems(rule, kind))


def _row_problems(rule: iot_sql.Statement, kind: str) -> Problems:
    """Publish on every topic of the wire, and look at the rows."""
    for topic in TABLE:
        name = topic.pattern.replace("{client}", "pi-07")
        if rule.matches(name) != (topic.kind == kind):
            yield f"takes, or does not take, {name}"
        elif topic.kind == kind:
            message = iot_sql.Message(name, PAYLOAD, json.loads(PAYLOAD), NOW_MS)
            row = rule.select(message) or {}
            family = name.split("/")[0]
            wanted: dict[str, object] = {
                "client": "pi-07",
                "path": base64.b64encode(PAYLOAD).decode(),
            }
            if kind == "reply":
                wanted |= {"type": f"{family}#m1", "ttl": NOW_MS // 1000 + 86_400}
            else:
                wanted |= {"time": NOW_MS, "ttl": NOW_MS // 1000 + 30 * 86_400}
            if row != wanted:
                yield f"makes {row} of {name}"


def device_policy(stack: Stack) -> Problems:
    """It fits into IoT Core, and names the rules that are there."""
    document = stack.properties("DevicePolicy")["PolicyDocument"]
    size = len(re.sub(r"\s", "", json.dumps(document)))
    if size > POLICY_CHARS:
        yield f"the device policy has {size} characters"
    there = {one["RuleName"] for one in stack.of_type("AWS::IoT::TopicRule").values()}
    text = json.dumps([document, stack.resources.get("GreengrassComponent", {})])
    for rule in re.findall(r"\$aws/rules/([^/]+)/", text):
        if rule not in there:
            yield f"there is no rule {rule}"


def devices_stay_apart(stack: Stack) -> Problems:
    """A device may do what the protocol asks of it, and nothing under another's name."""
    device = IotDevice(stack, "pi-07")
    if not device.may_connect("pi-07") or device.may_connect("pi-08"):
        yield "a device connects under another name, or not at all"
    if IotDevice(stack, "pi-07", is_attached=False).may_connect("pi-07"):
        yield "a certificate without a thing connects"
    for one in asked_of("pi-07"):
        if device.may(one) != one.is_allowed:
            yield f"a device {'may not' if one.is_allowed else 'may'} {one}"


def provisioning(stack: Stack) -> Problems:
    """A claimed device gets a thing in our group, a certificate, and the device policy."""
    body = json.loads(stack.properties("ClaimTemplate")["TemplateBody"])
    group = stack.properties("DeviceGroup")["ThingGroupName"]
    policy = stack.properties("DevicePolicy")["PolicyName"]
    by_type = {one["Type"]: one["Properties"] for one in body["Resources"].values()}
    parameters = body["Parameters"]
    if by_type.get("AWS::IoT::Policy") != {"PolicyName": policy}:
        yield "a claimed device gets another policy"
    if by_type.get("AWS::IoT::Thing", {}).get("ThingGroups") != [group]:
        yield "a claimed device is in no group"
    for one in by_type.values():
        for value in one.values():
            if isinstance(value, dict) and "Ref" in value and value["Ref"] not in parameters:
                yield f"there is no parameter {value}"
    template = stack.properties("ClaimTemplate")["TemplateName"]
    claim = json.dumps(stack.properties("ClaimPolicy"))
    if f"/{template}/provision/*" not in claim:
        yield "a claim certificate cannot be used for our template"
    yield from _mark_problems(stack, body["Resources"]["thing"])


def _mark_problems(stack: Stack, thing: dict[str, Any]) -> Problems:
    mark = {"windflower": stack.parameters["UniqueKey"]}
    if thing["Properties"].get("AttributePayload") != mark:
        yield "nobody sees later that a claimed device is of this fleet"
    if thing["OverrideSettings"].get("AttributePayload") != "DO_NOTHING":
        yield "a claim takes over a thing that somebody else made"


def roles(stack: Stack) -> Problems:
    """Every statement names what it is for, and is no wider than IAM forces it to be."""
    for name, statement in statements(stack):
        actions, resources = listed(statement["Action"]), listed(statement["Resource"])
        if any("*" in action for action in actions):
            yield f"{name} allows {actions}"
        if "*" in resources and not ANYWHERE.issuperset(actions):
            yield f"{name} allows {actions} everywhere"
        if "iam:PassRole" in actions and "Condition" not in statement:
            yield f"{name} hands its role to anybody"
        if "ecs:ListTasks" in actions and "Condition" not in statement:
            yield f"{name} lists everybody's tasks"


def trust(stack: Stack) -> Problems:
    """Roles are for whom they are, and hold no policy that others write."""
    for name, role in stack.of_type("AWS::IAM::Role").items():
        if "ManagedPolicyArns" in role:
            yield f"{name} has a policy that others write"
        for one in role["AssumeRolePolicyDocument"]["Statement"]:
            if one["Principal"] in ("*", {"AWS": "*"}):
                yield f"anybody can be {name}"


def statements(stack: Stack) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every statement of every identity policy, with the name of the resource it is in."""
    for name, role in stack.of_type("AWS::IAM::Role").items():
        for policy in role.get("Policies", []):
            yield from ((name, one) for one in policy["PolicyDocument"]["Statement"])
    for kind in ("AWS::IAM::Policy", "AWS::IoT::Policy"):
        for name, policy in stack.of_type(kind).items():
            yield from ((name, one) for one in policy["PolicyDocument"]["Statement"])


def network(stack: Stack) -> Problems:
    """Nothing comes in; HTTPS goes out."""
    for name, group in stack.of_type("AWS::EC2::SecurityGroup").items():
        if group.get("SecurityGroupIngress"):
            yield f"{name} lets somebody in"
        ports = {(one["FromPort"], one["ToPort"]) for one in group.get("SecurityGroupEgress", [])}
        if ports != {(443, 443)}:
            yield f"{name} lets {ports} out"
    for name, task in stack.of_type("AWS::ECS::TaskDefinition").items():
        if any("PortMappings" in one for one in task["ContainerDefinitions"]):
            yield f"{name} listens"


def tasks(stack: Stack) -> Problems:
    """Tasks log where the filters look, and are told names that exist."""
    groups = {one["LogGroupName"] for one in stack.of_type("AWS::Logs::LogGroup").values()}
    for name, logs in (("RunTask", "RunLogs"), ("DevicesTask", "DevicesLogs")):
        task = stack.properties(name)
        (container,) = task["ContainerDefinitions"]
        group = container["LogConfiguration"]["Options"]["awslogs-group"]
        if group != stack.properties(logs)["LogGroupName"] or group not in groups:
            yield f"{name} writes its log into {group}"
        if task["TaskRoleArn"] == task["ExecutionRoleArn"]:
            yield f"{name} may do what ECS may"
        variables = [one["Name"] for one in container["Environment"]]
        if len(set(variables)) != len(variables):
            yield f"{name} is told something twice"
    (run,) = stack.properties("RunTask")["ContainerDefinitions"]
    told = {one["Name"]: one["Value"] for one in run["Environment"]}
    for variable, output in (
        ("RESPONSES_TABLE", "ResponsesTable"), ("FLEET_TABLE", "FleetTable"),
        ("JOURNAL_TABLE", "JournalTable"), ("BUCKET", "BucketName"),
        ("TRANSFER_ROLE", "TransferRoleArn"),
    ):  # fmt: skip
        if told.get(f"WINDFLOWER_AWS_{variable}") != stack.outputs[output]:
            yield f"the run is told another {output}"


def pipeline(stack: Stack) -> Problems:
    """The state machine is whole, stops what it starts, and uses our cluster and tasks."""
    try:
        definition = json.loads(stack.properties("Pipeline")["DefinitionString"])
    except ValueError as error:
        yield f"the state machine is not JSON: {error}"
        return
    yield from state_machine_check.problems(definition)
    for name, task, container in (
        ("StartDevices", "DevicesTask", "devices"),
        ("Run", "RunTask", "run"),
    ):
        given = definition["States"].get(name, {}).get("Parameters", {})
        family = stack.properties(task)["Family"]
        if f"/{family}:" not in str(given.get("TaskDefinition")):
            yield f"{name} starts {given.get('TaskDefinition')}"
        if given.get("Overrides", {}).get("ContainerOverrides", [{}])[0].get("Name") != container:
            yield f"{name} tells a container that is not there"
        if given.get("Group.$") != "$.name":
            yield f"{name} starts what Stop does not find"


def schedule(stack: Stack) -> Problems:
    """Nothing starts by itself until somebody says so."""
    one = stack.properties("Schedule")
    if one["State"] != "DISABLED":
        yield "the pipeline starts by itself"
    if not re.fullmatch(r"(rate|cron|at)\(.+\)", one["ScheduleExpression"]):
        yield f"{one['ScheduleExpression']} is no schedule"
    if one["Target"]["Arn"] != stack.outputs["PipelineArn"]:
        yield "the schedule starts something else"


def filters(stack: Stack) -> Problems:
    """Six metrics of lines that the gateway writes, from the log that the run writes."""
    kinds = {
        one.kind(): {each.name for each in dataclasses.fields(one)}
        for one in vars(events).values()
        if isinstance(one, type) and issubclass(one, Event) and one is not Event
    }
    found = stack.of_type("AWS::Logs::MetricFilter")
    for name, one in found.items():
        (transformation,) = one["MetricTransformations"]
        if one["LogGroupName"] != stack.properties("RunLogs")["LogGroupName"]:
            yield f"{name} looks into another log"
        try:
            terms = metric_filters.read(one["FilterPattern"])
        except metric_filters.BadPattern as bad:
            yield f"{name}: {bad}"
            continue
        kind = next((term.text for term in terms if term.path == "$.event"), None)
        paths = {term.path for term in terms} | {transformation["MetricValue"]}
        fields = kinds.get(str(kind), set()) | {"event"}
        for path in sorted(paths):
            if path.split(".")[1] not in fields:
                yield f"{name}: {kind} has no {path}"
        if transformation["MetricValue"] not in {term.path for term in terms}:
            yield f"{name} takes lines without its number"
    if {_metric(one) for one in found.values()} != {metric for metric, _ in PANELS.values()}:
        yield "they are not the original's six metrics"


def _metric(one: dict[str, Any]) -> str:
    return str(one["MetricTransformations"][0]["MetricName"])


def dashboard(stack: Stack) -> Problems:
    """The original's six panels, of metrics that some filter makes."""
    try:
        body = json.loads(stack.properties("Dashboard")["DashboardBody"])
    except ValueError as error:
        yield f"the dashboard is not JSON: {error}"
        return
    made = {
        (one["MetricTransformations"][0]["MetricNamespace"], _metric(one))
        for one in stack.of_type("AWS::Logs::MetricFilter").values()
    }
    panels = {}
    for widget in body["widgets"]:
        shown = widget["properties"]
        ((namespace, metric),) = shown["metrics"]
        panels[shown["title"]] = (metric, shown["stat"])
        if (namespace, metric) not in made:
            yield f"no filter makes {namespace} {metric}"
    if panels != PANELS:
        yield f"the panels are {panels}"
    if not stack.properties("Dashboard")["DashboardName"].startswith("Flower-FL-Metrics"):
        yield "the dashboard has another name"


def recipe(stack: Stack) -> Problems:
    """Within what the small Greengrass nucleus understands."""
    if "GreengrassComponent" not in stack.resources:
        return
    try:
        body = json.loads(stack.properties("GreengrassComponent")["InlineRecipe"])
    except ValueError as error:
        yield f"the recipe is not JSON: {error}"
        return
    if body.get("RecipeFormatVersion") != "2020-01-25":
        yield "the recipe has another format"
    if body.get("ComponentType") != "aws.greengrass.generic":
        yield "the component is of another type"
    if not re.fullmatch(r"[0-9]+\.[0-9]+\.[0-9]+", str(body.get("ComponentVersion"))):
        yield f"{body.get('ComponentVersion')} is no version"
    deployed = stack.properties("GreengrassDeployment")["Components"]
    if deployed != {body.get("ComponentName"): {"ComponentVersion": body.get("ComponentVersion")}}:
        yield f"{deployed} is deployed"
    for manifest in body["Manifests"]:
        yield from _manifest_problems(manifest)
    yield from _access_problems(body)


def _access_problems(body: dict[str, Any]) -> Problems:
    access = body["ComponentConfiguration"]["DefaultConfiguration"]["accessControl"]
    for policy in access["aws.greengrass.ipc.mqttproxy"].values():
        for operation in policy["operations"]:
            if operation not in {
                "aws.greengrass#PublishToIoTCore", "aws.greengrass#SubscribeToIoTCore",
            }:  # fmt: skip
                yield f"{operation} is no operation"
        if {"*", "#"} & set(policy["resources"]):
            yield "the component may speak of everything"


INSTALL_S = 1800
"""A core may be slow, and its way to PyPI too. Without a word of ours a nucleus waits 120 s."""

VARIABLES = {"artifacts:path", "artifacts:decompressedPath", "kernel:rootPath", "iot:thingName",
             "work:path"}  # fmt: skip


def _manifest_problems(manifest: dict[str, Any]) -> Problems:
    if manifest.get("Platform") != {"os": "linux", "runtime": "*"}:
        yield f"{manifest.get('Platform')} is not every nucleus on Linux"
    if manifest["Lifecycle"].keys() != {"install", "run"}:
        yield f"the small nucleus knows install and run only, not {list(manifest['Lifecycle'])}"
    yield from _step_problems(manifest["Lifecycle"])
    scripts = json.dumps(list(manifest["Lifecycle"].values()))
    for artifact in manifest["Artifacts"]:
        if not artifact["URI"].startswith("s3://") or artifact.get("Unarchive") != "ZIP":
            yield f"{artifact} is no zip in a bucket"
        unpacked = artifact["URI"].rpartition("/")[2].removesuffix(".zip")
        for folder in re.findall(r"\{artifacts:decompressedPath\}/([^/ ]*)", scripts):
            if folder != unpacked:
                yield f"{artifact['URI']} is unpacked into {unpacked}, not {folder}"


def _step_problems(lifecycle: dict[str, dict[str, Any]]) -> Problems:
    for step in lifecycle.values():
        if step.keys() not in ({"Script"}, {"Script", "Timeout"}):
            yield f"a nucleus knows Script and Timeout, not {list(step)}"
        for name in re.findall(r"\{([^}]+)\}", str(step.get("Script"))):
            if name not in VARIABLES:
                yield f"the small nucleus knows no {name}"
    if lifecycle.get("install", {}).get("Timeout", 120) < INSTALL_S:
        yield "the nucleus gives up an installation that goes on"


CHECKS: dict[str, Callable[[Stack], Problems]] = {
    one.__name__: one
    for one in (
        retired, tags, names, bucket, tables, rules, device_policy, devices_stay_apart,
        provisioning, roles, trust, network, tasks, pipeline, schedule, filters, dashboard, recipe,
    )
}  # fmt: skip
