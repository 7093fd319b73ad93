"""Sees what a strategy makes of each round, without the app's help.

`Strategy.start` is public and every strategy inherits it: while a run lasts it is wrapped, so that
a round's metrics become events and the result can be kept. What the strategy does stays as it is.
Servers of the old kind write each round into a `History`, whose methods are wrapped likewise.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from flwr.app import ArrayRecord, MetricRecord
from flwr.server import History
from flwr.serverapp.strategy import Result, Strategy

OnRound = Callable[[int, str, dict[str, float]], None]


class Watcher:
    """What was seen of a run's strategies.

    Args:
        on_round: called with the round, the stage (train, evaluate or server) and its metrics.
    """

    def __init__(self, on_round: OnRound) -> None:
        self._on_round = on_round
        self.results: list[Result] = []

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Watch every strategy that is started inside."""
        plain_start = Strategy.start

        def start(strategy: Strategy, *args: Any, **kwargs: Any) -> Result:  # noqa: ANN401 - as given
            self._watch_rounds(strategy)
            result = plain_start(strategy, *args, **kwargs)
            self.results.append(result)
            return result

        Strategy.start = start  # type: ignore[method-assign, assignment]
        try:
            with _watching_histories(self._on_round):
                yield
        finally:
            Strategy.start = plain_start  # type: ignore[method-assign]

    def _watch_rounds(self, strategy: Strategy) -> None:
        aggregate_train, aggregate_evaluate = (
            strategy.aggregate_train,
            strategy.aggregate_evaluate,
        )

        def train(
            server_round: int,
            replies: Any,  # noqa: ANN401 - as given
        ) -> tuple[ArrayRecord | None, MetricRecord | None]:
            arrays, metrics = aggregate_train(server_round, replies)
            self._on_round(server_round, "train", numbers(metrics))
            return arrays, metrics

        def evaluate(server_round: int, replies: Any) -> MetricRecord | None:  # noqa: ANN401
            metrics = aggregate_evaluate(server_round, replies)
            self._on_round(server_round, "evaluate", numbers(metrics))
            return metrics

        strategy.aggregate_train = train  # type: ignore[method-assign]
        strategy.aggregate_evaluate = evaluate  # type: ignore[method-assign]


_STAGES: Final = {"distributed_fit": "train", "distributed": "evaluate", "centralized": "server"}
"""What a `History` calls the stages of a round."""


@contextmanager
def _watching_histories(on_round: OnRound) -> Iterator[None]:
    """Report what is added to any history; a stage's loss comes before its metrics."""
    names = [f"add_metrics_{stage}" for stage in _STAGES]
    names += ["add_loss_distributed", "add_loss_centralized"]
    plain = {name: getattr(History, name) for name in names}
    losses: dict[str, dict[str, float]] = {}

    def watched(name: str) -> Callable[..., None]:
        _, kind, stage = name.split("_", 2)

        def add(history: History, server_round: int, *given: Any, **named: Any) -> None:  # noqa: ANN401 - as given
            plain[name](history, server_round, *given, **named)
            (what,) = (*given, *named.values())
            if kind == "loss":
                losses[stage] = {"loss": float(what)}
            else:
                on_round(server_round, _STAGES[stage], losses.pop(stage, {}) | numbers(what))

        return add

    for name in names:
        setattr(History, name, watched(name))
    try:
        yield
    finally:
        for name in names:
            setattr(History, name, plain[name])


def numbers(metrics: Mapping[str, Any] | None) -> dict[str, float]:
    """Return the plain numbers of metrics."""
    if metrics is None:
        return {}
    return {k: float(v) for k, v in metrics.items() if isinstance(v, int | float)}
