"""Plays Fargate: each task that somebody starts in moto is a process on this machine.

moto's Step Functions interprets the state machine, and knows ECS by halves: the keys of what it
passes on are spelled as in the state machine and not as in the service's API, a task that failed
counts as done, and no task takes too long. The patches here mend that.
"""

import json
import os
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

from aws.played_account import ACCOUNT, REGION
from moto.backends import get_backend
from moto.stepfunctions.parser.api import HistoryEventType, TaskFailedEventDetails
from moto.stepfunctions.parser.asl.component.common.error_name.failure_event import (
    FailureEvent,
    FailureEventException,
)
from moto.stepfunctions.parser.asl.component.common.error_name.states_error_name import (
    StatesErrorName,
)
from moto.stepfunctions.parser.asl.component.common.error_name.states_error_name_type import (
    StatesErrorNameType,
)
from moto.stepfunctions.parser.asl.component.state.exec.state_task.service import (
    state_task_service_aws_sdk,
    state_task_service_callback,
    state_task_service_ecs,
)
from moto.stepfunctions.parser.asl.eval.event.event_detail import EventDetails

_Sdk: Any = state_task_service_aws_sdk.StateTaskServiceAwsSdk
_Ecs: Any = state_task_service_ecs.StateTaskServiceEcs
_TookTooLong: Any = vars(state_task_service_callback)["CallbackTimeoutError"]
_Details: Any = EventDetails
_plain_call: Any = _Sdk._eval_service_task

Commands = Mapping[str, list[str]]
HANGS: list[str] = []
"""The command of a container that never ends: its state's time is up at once."""


@dataclass
class Fargate:
    """Tasks as processes.

    Attributes:
        commands: what a container runs here, by its name.
        environment: what every process is told besides what the task says.
        exit_codes: by the task's ARN; negative for a signal.
        told: the environment of each container that was started, by its name.
    """

    commands: Commands
    environment: Mapping[str, str]
    exit_codes: dict[str, int] = field(default_factory=dict)
    told: dict[str, dict[str, str]] = field(default_factory=dict)
    _running: dict[str, subprocess.Popen[bytes] | None] = field(default_factory=dict)
    _over: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        """What was started before is another's."""
        self._others = set(_tasks())

    def watch(self) -> None:
        """Start what is to be started, stop what is to be stopped, until the end."""
        while not self._over.wait(0.02):
            for task in self._own():
                self._look_at(task)

    def finish(self) -> None:
        """End the watch and every process."""
        self._over.set()
        for process in self._running.values():
            if process is not None and process.poll() is None:
                process.kill()
                process.wait()

    def is_stopped(self, container: str) -> bool:
        """Return whether somebody stopped the task of this container."""
        return any(
            self._container_of(task)["name"] == container and task.desired_status == "STOPPED"
            for task in self._own()
        )

    def has_hung(self, arn: str) -> bool:
        """Return whether a task is one that never ends."""
        return arn in self._running and self._running[arn] is None

    def _look_at(self, task: Any) -> None:  # noqa: ANN401 - moto's
        arn = task.task_arn
        if arn not in self._running:
            self._running[arn] = self._started(task)
        process = self._running[arn]
        if process is None:
            return
        if task.desired_status == "STOPPED" and process.poll() is None:
            process.terminate()
        if process.poll() is not None and arn not in self.exit_codes:
            self.exit_codes[arn] = process.returncode
            task.last_status = task.desired_status = "STOPPED"
            task.stopped_reason = task.stopped_reason or "Essential container in task exited"

    def _started(self, task: Any) -> "subprocess.Popen[bytes] | None":  # noqa: ANN401
        container = self._container_of(task)
        name = container["name"]
        overrides = task.overrides["containerOverrides"][0]
        assert overrides["name"] == name
        pairs = [*container["environment"], *overrides["environment"]]
        self.told[name] = {one["name"]: str(one["value"]) for one in pairs}
        if not self.commands[name]:
            return None
        environment = {**os.environ, **self.environment, **self.told[name]}
        return subprocess.Popen(self.commands[name], env=environment)

    @staticmethod
    def _container_of(task: Any) -> dict[str, Any]:  # noqa: ANN401
        definition = _ecs().describe_task_definition(task.task_definition_arn)
        return dict(definition.container_definitions[0])

    def _own(self) -> list[Any]:
        return [one for arn, one in _tasks().items() if arn not in self._others]


def _ecs() -> Any:  # noqa: ANN401 - moto's
    return get_backend("ecs")[ACCOUNT][REGION]


def _tasks() -> dict[str, Any]:
    return {arn: one for tasks in _ecs().tasks.values() for arn, one in list(tasks.items())}


@contextmanager
def played_fargate(commands: Commands, environment: Mapping[str, str]) -> Iterator[Fargate]:
    """Play Fargate for whatever starts a task in moto meanwhile."""
    fargate = Fargate(commands, environment)
    thread = threading.Thread(target=fargate.watch, daemon=True)

    def resolver(self: Any, env: Any, **_: Any) -> Any:  # noqa: ANN401 - moto's
        task = env.stack.pop()["Tasks"][0]

        def resolve() -> Any:  # noqa: ANN401
            return _outcome(self, env, fargate, task)

        return resolve

    with (
        patch.object(_Sdk, "_eval_service_task", _call_sdk),
        patch.object(_Ecs, "_normalise_parameters", _lower_keys),
        patch.object(_Ecs, "_normalise_response", _raise_keys),
        patch.object(_Ecs, "_build_sync_resolver", resolver),
        patch.object(state_task_service_callback, "_DELAY_SECONDS_SYNC_CONDITION_CHECK", 0.02),
    ):
        thread.start()
        try:
            yield fargate
        finally:
            fargate.finish()
            thread.join()


def _outcome(state: Any, env: Any, fargate: Fargate, task: dict[str, Any]) -> Any:  # noqa: ANN401
    """Return a task that ended well, None while it runs; raise as runTask.sync fails otherwise."""
    arn = task["TaskArn"]
    if fargate.has_hung(arn):
        raise _TookTooLong
    if arn not in fargate.exit_codes:
        return None
    code = fargate.exit_codes[arn]
    ended = {**task, "LastStatus": "STOPPED", "Containers": [{"ExitCode": code}]}
    if code == 0:
        return ended
    details = TaskFailedEventDetails(
        error="States.TaskFailed",
        cause=json.dumps(ended, default=str),
        resource=state._get_sfn_resource(),
        resourceType=state._get_sfn_resource_type(),
    )
    raise FailureEventException(
        FailureEvent(
            env=env,
            error_name=StatesErrorName(typ=StatesErrorNameType.StatesTaskFailed),
            event_type=HistoryEventType.TaskFailed,
            event_details=_Details(taskFailedEventDetails=details),
        )
    )


def _call_sdk(self: Any, env: Any, *_: Any, normalised_parameters: Any, **rest: Any) -> None:  # noqa: ANN401
    """Call a service; ECS's own keys begin with small letters, and Step Functions' never do."""
    is_ecs = self.resource.api_name == "ecs"
    if is_ecs:
        _rename(normalised_parameters, str.lower)
    _plain_call(self, env=env, normalised_parameters=normalised_parameters, **rest)
    answer = env.stack[-1]
    if is_ecs:
        _rename(answer, str.upper)
    elif hasattr(answer.get("Body"), "read"):
        answer["Body"] = answer["Body"].read().decode()


def _lower_keys(_self: Any, parameters: Any, *_: Any, **__: Any) -> None:  # noqa: ANN401
    _rename(parameters, str.lower)


def _raise_keys(_self: Any, response: Any, *_: Any, **__: Any) -> None:  # noqa: ANN401
    _rename(response, str.upper)


def _rename(node: Any, change: Any) -> None:  # noqa: ANN401
    """Change the first letter of every key, in place."""
    if isinstance(node, list):
        for one in node:
            _rename(one, change)
    elif isinstance(node, dict):
        for key in list(node):
            value = node.pop(key)
            _rename(value, change)
            node[change(key[0]) + key[1:]] = value
