"""IoT Core played: a broker, the rules behind it, and the door for commands by HTTPS."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from windflower.adapters.aws.account import Service
from windflower.adapters.aws.template import Stack
from windflower.adapters.local.http_server import HttpServer
from windflower.errors import RefusedError, StoreUnavailable
from windflower.offline.iot_broker import CLOUD, IotBroker
from windflower.offline.publish_endpoint import publish_endpoint
from windflower.offline.tables import played
from windflower.offline.topic_rules import PUTS, TopicRules, rules_of


class IotCore:
    """IoT Core on 127.0.0.1, as a stack sets it up.

    Args:
        folder: where its broker's files go.
        stack: whose rules and policy.
        tables_url: DynamoDB.
        region: what it calls its region.
        report: told of rules that fail, with what went wrong.

    Attributes:
        broker: its broker.
        tables: DynamoDB, as rules reach it.
        problems: what went wrong first, by rule.
        url: where commands are posted.

    Raises:
        ConfigError: a rule of the stack is not understood.
    """

    def __init__(
        self,
        folder: Path,
        stack: Stack,
        *,
        tables_url: str,
        region: str,
        report: Callable[[str, str], None],
    ) -> None:
        self._rules = rules_of(stack)
        self._report = report
        self.problems: dict[str, str] = {}
        self.broker = IotBroker(folder, stack)
        self._pool = ThreadPoolExecutor(PUTS, thread_name_prefix="rules")
        client = played(
            "dynamodb",
            tables_url,
            region=region,
            access_key="rules",
            secret_key="rules",  # noqa: S106 - moto takes any
        )
        self.tables = Service(
            client, self._pool, unavailable=StoreUnavailable, refused=RefusedError
        )
        self._topic_rules: TopicRules | None = None
        self._endpoint: HttpServer | None = None
        self.url = ""

    async def start(self) -> None:
        """Start all of it; raises ConfigError, BrokerUnavailable or PortTaken."""
        await self.broker.start()
        self._topic_rules = TopicRules(
            self.broker.address(CLOUD), self._rules, self.tables, self._failed
        )
        await self._topic_rules.open()
        self._endpoint = HttpServer(
            publish_endpoint(self._topic_rules.connection), host="127.0.0.1", port=0
        )
        self.url = f"http://127.0.0.1:{await self._endpoint.start()}"

    def _failed(self, rule: str, problem: str) -> None:
        self.problems.setdefault(rule, problem)
        self._report(rule, problem)

    async def stop(self) -> None:
        """End all of it."""
        if self._endpoint is not None:
            await self._endpoint.stop()
        if self._topic_rules is not None:
            await self._topic_rules.close()
        await self.broker.stop()
        self._pool.shutdown(wait=False)
