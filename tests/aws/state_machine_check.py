"""What is wrong with the state machine, as far as its text shows it."""

import re
from collections.abc import Iterator
from functools import cache
from typing import Any

import botocore.session

State = dict[str, Any]
TARGETS = ("Next", "Default")
OPTIMISED = {"ecs:runTask", "ecs:runTask.sync"}
"""Integrations of Step Functions itself; all others are calls of the SDK."""

RUN_TASK_TAKES = {
    "Cluster", "Group", "LaunchType", "NetworkConfiguration", "Overrides", "PlacementConstraints",
    "PlacementStrategy", "PlatformVersion", "PropagateTags", "TaskDefinition",
    "CapacityProviderStrategy", "EnableExecuteCommand",
}  # fmt: skip
"""Not all of the service's own: StartedBy is Step Functions' name."""


def problems(definition: dict[str, Any]) -> Iterator[str]:
    """Yield what is wrong with a definition."""
    states: dict[str, State] = definition["States"]
    yield from _graph_problems(definition["StartAt"], states)
    for name, state in states.items():
        yield from (f"{name}: {one}" for one in _state_problems(state))
    for name in ("Check", "Discover", "Run", "Publish", "Stop", "Report"):
        if name not in states:
            yield f"there is no state {name}"
            return
    if not str(states["Run"].get("Resource")).endswith("ecs:runTask.sync"):
        yield "Run does not wait for its task"
    if not isinstance(states["Run"].get("TimeoutSeconds"), int):
        yield "Run has no time limit"
    yield from _leaks(states)


def _graph_problems(start: str, states: dict[str, State]) -> Iterator[str]:
    for name, state in states.items():
        for target in targets(state):
            if target not in states:
                yield f"{name} goes to {target}, which is not there"
        is_last = state["Type"] in {"Fail", "Succeed"} or state.get("End") is True
        if is_last == bool(targets(state)):
            yield f"{name} has no next state, or an end and a next state"
    for name in states.keys() - _reached(start, states):
        yield f"nothing leads to {name}"


def _leaks(states: dict[str, State]) -> Iterator[str]:
    """Yield the ends that are reached from where a task was started without stopping it."""
    without_stop = {name: state for name, state in states.items() if name != "Stop"}
    for started in ("StartDevices", "Run"):
        if started not in states:
            continue
        for name in _reached(started, without_stop):
            if name in without_stop and not targets(states[name]):
                yield f"{name} is reached from {started}, and what was started goes on"
        if not any("States.ALL" in one["ErrorEquals"] for one in states[started].get("Catch", [])):
            yield f"{started} fails without stopping what was started"


def targets(state: State) -> list[str]:
    """Return the names of all states to which this one may lead."""
    direct = [state[key] for key in TARGETS if key in state]
    choices = [one["Next"] for one in state.get("Choices", [])]
    return [*direct, *choices, *(one["Next"] for one in state.get("Catch", []))]


def _reached(start: str, states: dict[str, State]) -> set[str]:
    reached: set[str] = set()
    waiting = [start]
    while waiting:
        name = waiting.pop()
        if name not in reached:
            reached.add(name)
            waiting += targets(states[name]) if name in states else []
    return reached


def _state_problems(state: State) -> Iterator[str]:
    if "QueryLanguage" in state or "Assign" in state or "Arguments" in state:
        yield "it is not JSONPath"
    match state["Type"]:
        case "Task":
            yield from _call_problems(state)
        case "Map":
            yield from _graph_problems(
                state["ItemProcessor"]["StartAt"], state["ItemProcessor"]["States"]
            )
            for inner in state["ItemProcessor"]["States"].values():
                yield from _state_problems(inner)
        case "Choice" | "Wait" | "Pass" | "Fail" | "Succeed":
            pass
        case other:
            yield f"{other} is no type of state"


def _call_problems(state: State) -> Iterator[str]:
    resource = re.fullmatch(r"arn:aws:states:::(.+)", str(state.get("Resource")))
    if resource is None:
        yield f"{state.get('Resource')} is no integration"
        return
    name = resource[1]
    if name.startswith("aws-sdk:"):
        _, service, operation = name.split(":")
    elif name in OPTIMISED:
        service, operation = "ecs", "runTask"
        for key in {key.removesuffix(".$") for key in state["Parameters"]} - RUN_TASK_TAKES:
            yield f"{name} takes no {key}"
    else:
        yield f"{name} is no integration that we use"
        return
    yield from _parameter_problems(service, operation, state.get("Parameters", {}))


@cache
def _model_of(service: str) -> Any:  # noqa: ANN401 - botocore has no types
    return botocore.session.get_session().get_service_model(service)


def _parameter_problems(service: str, operation: str, parameters: dict[str, Any]) -> Iterator[str]:
    """Hold a call against botocore's model of the service."""
    try:
        operation_model = _model_of(service).operation_model(operation[0].upper() + operation[1:])
        shape = operation_model.input_shape
    except Exception:  # noqa: BLE001 - botocore's errors have no base of their own
        yield f"{service}:{operation} is no operation"
        return
    members = {one[0].upper() + one[1:] for one in shape.members}
    given = {key.removesuffix(".$") for key in parameters}
    for key in given - members:
        yield f"{service}:{operation} takes no {key}"
    for key in shape.required_members:
        if key[0].upper() + key[1:] not in given:
            yield f"{service}:{operation} needs {key}"
    for key, value in parameters.items():
        if key.endswith(".$") and not re.match(r"\$|States\.", str(value)):
            yield f"{key}: {value} is no path"
