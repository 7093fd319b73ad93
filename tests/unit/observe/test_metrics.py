"""Numbers for Prometheus, where counting goes wrong most easily."""

import pytest

from windflower.observe.metrics import Metrics


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(list, lambda: 9.0, version="0")


def value(metrics: Metrics, name: str) -> float:
    lines = metrics.text().decode().splitlines()
    return next(float(line.split()[-1]) for line in lines if line.startswith(f"{name} "))


def test_a_run_that_an_earlier_gateway_began_is_open_until_it_ends(metrics: Metrics) -> None:
    run = {"run": "1-a"}
    ended = {"event": "run-ended", **run, "success": True, "seconds": 4.0}
    seen = []
    for line in ({"event": "run-left-open", **run}, {"event": "run-resumed", **run}, ended, ended):
        metrics.write(line)
        seen.append(value(metrics, "windflower_runs_open"))

    assert [1, 1, 0, 0] == seen
