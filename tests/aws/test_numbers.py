"""The six numbers of a run, taken from its log as CloudWatch would take them."""

import json
import math

import pytest
from aws.metric_filters import BadPattern, matcher, read, values
from processes import MOSQUITTO, Programs, events

from windflower.adapters.aws.template import Template

STACK = Template.load().resolve()
FILTERS = {
    one["MetricTransformations"][0]["MetricName"]: one
    for one in STACK.of_type("AWS::Logs::MetricFilter").values()
}


@pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed")
def test_the_filters_give_the_six_numbers_of_a_real_run(programs: Programs) -> None:
    state = programs.folder / "state"
    demo = programs.windflower(
        *("demo", "--rounds", "3", "--devices", "4", "--state", str(state), "--format", "json"),
        name="demo",
    )
    assert 0 == demo.wait(), demo.err
    (log,) = state.rglob("events.jsonl")
    found = {name: values(one, log.read_text().splitlines()) for name, one in FILTERS.items()}
    evaluated = [
        line for line in events(log.parent, "reply-accepted") if line["method"] == "evaluate"
    ]
    said = demo.last

    # A query of all, then each round three train and four evaluate: one wearer is new.
    assert [4.0, *[3.0, 4.0] * 3] == found["ClientCount"] == found["SuccessCount"]
    assert [0.0] * 7 == found["FailureCount"]
    assert said["replies"]["ok"] == sum(found["SuccessCount"])
    assert [line["seconds"] for line in events(log.parent, "run-ended")] == found["RunTime"]
    assert 0 < found["RunTime"][0] <= said["seconds"]
    assert 12 == len(found["Accuracy"]) == len(found["Loss"]) == len(evaluated)
    assert _mean(evaluated[-4:], "accuracy") == pytest.approx(said["accuracy"])
    assert _mean(evaluated[-4:], "loss") == pytest.approx(said["loss"])
    assert [line["metrics"]["accuracy"] for line in evaluated] == found["Accuracy"]
    assert [line["metrics"]["loss"] for line in evaluated] == found["Loss"]


def _mean(replies: list[dict[str, dict[str, float]]], name: str) -> float:
    """Return the mean over those who trained, as the demo says it."""
    own = [one["metrics"] for one in replies if not one["metrics"]["new-wearer"]]
    return math.fsum(one[name] for one in own) / len(own)


@pytest.mark.parametrize(
    ("line", "is_taken"),
    [
        ({"event": "e", "a": {"b": 1}}, True),
        ({"event": "e", "a": {"b": 0}}, True),
        ({"event": "e", "a": {"c": 1}}, False),
        ({"event": "e", "a": 1}, False),
        ({"event": "f", "a": {"b": 1}}, False),
        ({"a": {"b": 1}}, False),
    ],
)
def test_a_pattern_takes_what_it_names(line: dict[str, object], *, is_taken: bool) -> None:
    assert is_taken == matcher('{ ($.event = "e") && ($.a.b = *) }')(line)


@pytest.mark.parametrize(
    "pattern",
    ["$.a = 1", "{ $.a > 1 }", "{ ($.a = * }", "{ $.a = * || $.b = * }", "{ }", "{ a = * }"],
)
def test_what_is_no_pattern_is_refused(pattern: str) -> None:
    with pytest.raises(BadPattern):
        read(pattern)


def test_a_line_that_is_no_json_is_no_number() -> None:
    log = ["Traceback (most recent call last):", json.dumps(["run-ended"]), "{"]

    assert [] == values(FILTERS["RunTime"], log)
