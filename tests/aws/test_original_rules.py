"""Rules that were written for the original sample work on our replies."""

import json
from dataclasses import replace

import pytest
from samples import command, content, reply

from windflower.offline import iot_sql
from windflower.wire.content import Content
from windflower.wire.messages import Method
from windflower.wire.topics import Topics
from windflower.wire.values import Values

METRICS = Values("metrics", (("num-examples", 40), ("loss", 0.25), ("accuracy", 0.875)))
MEASURED = Content((("metrics", METRICS),), None)
CASES: list[tuple[Method, str, Content, dict[str, object]]] = [
    ("get_parameters", "parameters", replace(content(), inline=None),
     {"path": "out/1-abc/d1/{id}"}),
    ("set_parameters", "set", MEASURED, {}),
    ("fit", "fit", replace(content(40), inline=None),
     {"path": "out/1-abc/d1/{id}", "train_len": 40, "dict": {"loss": 0.5}}),
    ("evaluate", "evaluate", MEASURED,
     {"loss": 0.25, "train_len": 40, "accuracy": {"accuracy": 0.875}}),
]  # fmt: skip


@pytest.mark.parametrize(("method", "family", "answer", "fields"), CASES)
def test_the_originals_rules_yield_its_fields(
    method: Method, family: str, answer: Content, fields: dict[str, object]
) -> None:
    asked = replace(command(device="d1"), method=method)
    message = replace(reply(asked), content=answer).to_bytes()
    topic = Topics().reply(method, "d1")
    rule = iot_sql.read(f"SELECT * FROM '{family}/client/+/sent'")  # noqa: S608 - no database
    row = rule.select(iot_sql.Message(topic, message, json.loads(message), 0))
    wanted = {
        key: value.format(id=asked.id) if isinstance(value, str) else value
        for key, value in {"client": "d1", **fields}.items()
    }

    assert rule.matches(topic)
    assert row is not None
    assert wanted == {key: row.get(key) for key in wanted}
