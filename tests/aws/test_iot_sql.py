"""The subset of rule SQL does what AWS documents, and refuses the rest."""

import json
from typing import Any

import pytest
from cloud import stack

from windflower.offline.iot_sql import Message, UnsupportedSql, read, topic_matches


def evaluated(sql: str, value: Any, topic: str = "fit/client/d1/sent") -> dict[str, Any] | None:  # noqa: ANN401
    payload = json.dumps(value).encode()
    return read(sql).select(Message(topic, payload, value, 1_700_000_000_123))


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ("*", {"id": "m1", "loss": 0.5, "dict": {"a": 1}}),
        ("* AS path", {"path": {"id": "m1", "loss": 0.5, "dict": {"a": 1}}}),
        ("id, dict.a", {"id": "m1", "a": 1}),
        ("dict.a AS b, nowhere AS c, dict.b.c AS d", {"b": 1}),
        ("topic() AS t, topic(1) AS a, topic(3) AS c, topic(9) AS n",
         {"t": "fit/client/d1/sent", "a": "fit", "c": "d1"}),
        ("concat(topic(1), '#', id) AS type", {"type": "fit#m1"}),
        ("concat(topic(1), nowhere) AS type", {}),
        ("floor(timestamp() / 1000) + 86400 AS ttl", {"ttl": 1_700_086_400}),
        ("1 + 2 * 3 AS n, (1 + 2) * 3 AS m, 7 / 2 AS q, 1 / 0 AS z", {"n": 7, "m": 9, "q": 3.5}),
        ("'x' AS x", {"x": "x"}),
        ("encode(*, 'base64') AS path", {"path": "eyJpZCI6ICJtMSJ9"}),
    ],
)  # fmt: skip
def test_columns(columns: str, expected: dict[str, Any]) -> None:
    value = {"id": "m1"} if "encode" in columns else {"id": "m1", "loss": 0.5, "dict": {"a": 1}}

    sql = f"SELECT {columns} FROM '+/client/+/sent'"  # noqa: S608 - no database reads it

    assert expected == evaluated(sql, value)


@pytest.mark.parametrize(
    ("condition", "holds"),
    [
        ("id = 'm1'", True),
        ("id <> 'm1'", False),
        ("loss < 1 AND loss >= 0.5", True),
        ("loss > 1 OR NOT id = 'm2'", True),
        ("nowhere = 1", False),
        ("loss = 'text' OR loss > 'text'", False),
    ],
)
def test_conditions(condition: str, *, holds: bool) -> None:
    sql = f"SELECT id FROM 'fit/client/+/sent' WHERE {condition}"  # noqa: S608 - no database reads it
    selected = evaluated(sql, {"id": "m1", "loss": 0.5})

    assert ({"id": "m1"} if holds else None) == selected


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT",
        "SELECT * FORM 'a'",
        "SELECT * FROM a",
        "SELECT * FROM 'a' LIMIT 3",
        "SELECT principal() AS p FROM 'a'",
        "SELECT clientid() AS c FROM 'a'",
        "SELECT floor(1, 2) AS f FROM 'a'",
        "SELECT timestamp(1) AS t FROM 'a'",
        "SELECT topic(1) FROM 'a'",
        "SELECT encode(id, 'base64') AS e FROM 'a'",
        "SELECT encode(*, 'hex') AS e FROM 'a'",
        "SELECT id AS 'x' FROM 'a'",
        "SELECT a.'b' AS c FROM 'a'",
        "SELECT ? FROM 'a'",
        "SELECT (id AS x FROM 'a'",
        "SELECT FROM 'a'",
    ],
)
def test_what_it_does_not_know_it_refuses(sql: str) -> None:
    with pytest.raises(UnsupportedSql):
        read(sql)


@pytest.mark.parametrize(
    ("filter_", "topic", "matches"),
    [
        ("+/client/+/sent", "fit/client/d1/sent", True),
        ("+/client/+/sent", "site/fit/client/d1/sent", False),
        ("flower/#", "flower/clients/d1", True),
        ("flower/#", "flowers/clients/d1", False),
        ("#", "a/b", True),
        ("a/+", "a", False),
    ],
)
def test_topic_filters(filter_: str, topic: str, *, matches: bool) -> None:
    assert matches is topic_matches(filter_, topic)


def test_the_templates_rules_are_read() -> None:
    rules = stack().of_type("AWS::IoT::TopicRule")
    filters = {
        one["RuleName"]: read(one["TopicRulePayload"]["Sql"]).filter for one in rules.values()
    }

    assert filters == {
        "windflower_response": "+/client/+/sent",
        "windflower_heartbeat": "flower/clients/+",
    }
