"""Every mod that comes with Flower works around a ClientApp on a device."""

from pathlib import Path

import pytest
from flwr.clientapp import mod
from processes import events

from conformance.fleet import ConformanceFleet
from conformance.test_strategies import MODS
from conformance.twin import APPS, Config, on_the_fleet, on_the_twin

CLIPPING = set(MODS.values())
"""Tried with their strategies, in `test_strategies`."""


@pytest.mark.parametrize("name", sorted(set(mod.__all__) - CLIPPING))
def test_a_mod_does_what_it_does_on_the_twin(
    fleet: ConformanceFleet, tmp_path: Path, name: str
) -> None:
    config: Config = {"strategy": "FedAvgM", "mod": name, "num-server-rounds": 1}
    _, real = on_the_fleet(fleet, "strategies", tmp_path / "real", config)
    twin = on_the_twin("strategies", tmp_path / "twin", config)

    assert twin == real
    assert [2, 2, 2, 2] == [len(real[f"client-{number}"]) for number in range(4)]


@pytest.mark.parametrize("name", sorted(CLIPPING))
def test_a_mod_that_lacks_its_strategy_fails_with_its_own_words(
    fleet: ConformanceFleet, name: str
) -> None:
    before = len(events(fleet.state))
    run = fleet.run(APPS / "strategies", {"mod": name, "num-server-rounds": 1})

    assert 65 == run.wait()
    failed = [e for e in events(fleet.state)[before:] if e["event"] == "reply-failed"]
    assert {6} == {event["code"] for event in failed}
    assert f"{name} requires the key 'clipping_norm'" in run.last["error-message"]
