"""The rules of IoT Core played: what devices publish becomes rows, as the template's SQL says.

Who subscribes to the broker sees no client id and no acknowledgement of an action, and nor does a
rule here. Whether AWS applies FROM behind the prefix of Basic Ingest only an account can tell.
"""

import asyncio
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from boto3.dynamodb.types import TypeSerializer

from windflower.adapters.aws.account import Service
from windflower.adapters.aws.in_flight import InFlight
from windflower.adapters.aws.template import Stack
from windflower.adapters.local.broker_address import BrokerAddress
from windflower.adapters.local.mqtt import Arrival, Connection
from windflower.errors import ConfigError, WindflowerError
from windflower.offline.iot_sql import Message, Statement, UnsupportedSql, read

PUTS: Final = 16

_INGEST: Final = "$aws/rules/"
_SMALLEST, _LARGEST = Decimal("1e-130"), Decimal("9.9999999999999999999999999999999999999e125")


@dataclass(frozen=True, slots=True)
class Rule:
    """A topic rule.

    Attributes:
        name: what AWS calls it.
        statement: its SQL.
        table: the table into which its action writes.
    """

    name: str
    statement: Statement
    table: str


class RuleFailed(Exception):  # noqa: N818 - what AWS reports to an error action
    """A rule's action could not be carried out."""


def rules_of(stack: Stack) -> tuple[Rule, ...]:
    """Read the topic rules of a stack.

    Raises:
        ConfigError: names the rule whose SQL or action is not understood.
    """
    return tuple(_rule(one) for one in stack.of_type("AWS::IoT::TopicRule").values())


def _rule(properties: dict[str, Any]) -> Rule:
    name, payload = properties["RuleName"], properties["TopicRulePayload"]
    try:
        statement = read(payload["Sql"])
    except UnsupportedSql as error:
        raise ConfigError(f"the rule {name} cannot be read: {error}", key="template") from error
    match payload["Actions"]:
        case [{"DynamoDBv2": {"PutItem": {"TableName": str(table)}}}]:
            return Rule(name, statement, table)
        case actions:
            raise ConfigError(f"the rule {name} has other actions: {actions}", key="template")


class TopicRules:
    """Carries out rules, and publishes what comes by HTTPS.

    Args:
        address: the broker, as the cloud reaches it.
        rules: the rules.
        tables: DynamoDB.
        report: called with the rule's name and what went wrong; what an error action would write.
    """

    def __init__(
        self,
        address: BrokerAddress,
        rules: Sequence[Rule],
        tables: Service,
        report: Callable[[str, str], None],
    ) -> None:
        self._rules = {rule.name: rule for rule in rules}
        self._tables = tables
        self._report = report
        self._puts = InFlight(PUTS)
        self._arrivals: asyncio.Queue[Arrival] = asyncio.Queue()
        self._working: asyncio.Task[None] | None = None
        ingest = [f"{_INGEST}{name}/#" for name in self._rules]
        self.connection = Connection(
            address,
            "aws",
            filters=(*ingest, *{rule.statement.filter for rule in rules}),
            on_message=self._arrivals.put_nowait,
            on_change=lambda _: None,
        )

    async def open(self) -> None:
        """Connect, and begin; raises BrokerUnavailable or BrokerRefused."""
        await self.connection.open(must_answer=True)
        self._working = asyncio.create_task(self._work())

    async def close(self) -> None:
        """Carry out no more."""
        await self.connection.close()
        if self._working is not None:
            self._working.cancel()
            await asyncio.gather(self._working, return_exceptions=True)
        await self._puts.settle()

    async def _work(self) -> None:
        while True:
            arrival = await self._arrivals.get()
            arrival.done()
            for rule, topic in self._matching(arrival.topic):
                await self._puts.start(self._carry_out(rule, topic, arrival.payload))

    def _matching(self, topic: str) -> list[tuple[Rule, str]]:
        """Return the rules for a topic, and the topic as they see it."""
        if not topic.startswith(_INGEST):
            return [(rule, topic) for rule in self._rules.values() if rule.statement.matches(topic)]
        name, _, rest = topic.removeprefix(_INGEST).partition("/")
        rule = self._rules[name]
        if rule.statement.matches(rest):
            return [(rule, rest)]
        self._report(name, f"its FROM does not match {rest}")
        return []

    async def _carry_out(self, rule: Rule, topic: str, payload: bytes) -> None:
        try:
            item = _item(rule.statement, topic, payload)
            if item is not None:
                await self._tables.call("put_item", TableName=rule.table, Item=item)
        except (RuleFailed, WindflowerError) as error:
            self._report(rule.name, str(error))


def _item(statement: Statement, topic: str, payload: bytes) -> dict[str, Any] | None:
    """Return the row that a rule makes of a message; None where its condition does not hold."""
    try:
        value = json.loads(payload)
    except ValueError:
        value = None
    selected = statement.select(Message(topic, payload, value, int(time.time() * 1000)))
    return None if selected is None else {key: _typed(one) for key, one in selected.items()}


def _typed(value: Any) -> Any:  # noqa: ANN401 - JSON is any
    """Write a value as DynamoDB takes it; what it would refuse fails the rule."""
    return TypeSerializer().serialize(_checked(value))


def _checked(value: Any) -> Any:  # noqa: ANN401 - JSON is any
    if isinstance(value, dict):
        if "" in value:
            raise RuleFailed("DynamoDB refuses a name that is empty")
        return {key: _checked(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_checked(one) for one in value]
    if isinstance(value, int | float) and not isinstance(value, bool):
        number = Decimal(str(value))
        if number and not _SMALLEST <= abs(number) <= _LARGEST:
            raise RuleFailed(f"DynamoDB refuses the number {value}")
        return number
    return value
