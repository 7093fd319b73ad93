"""Every strategy of the message API comes to Flower's own bits.

Noise for privacy is compared too: the app says `private = false`, so that a seed is allowed, and
the twin draws from sources that are seeded by the same rule.
"""

from pathlib import Path

import pytest
from flwr.serverapp import strategy

from conformance.fleet import ConformanceFleet
from conformance.twin import on_the_fleet, on_the_twin

NO_STRATEGIES = {"Result", "Strategy"}
TREES = {"FedXgbBagging", "FedXgbCyclic"}
MODS = {
    "DifferentialPrivacyClientSideAdaptiveClipping": "adaptiveclipping_mod",
    "DifferentialPrivacyClientSideFixedClipping": "fixedclipping_mod",
}
EVERY = sorted(set(strategy.__all__) - NO_STRATEGIES - TREES)
"""A strategy of a new release is here by itself, and fails until the app can make it."""


@pytest.mark.parametrize("name", EVERY)
def test_a_strategy_comes_to_the_bits_of_its_twin(
    fleet: ConformanceFleet, tmp_path: Path, name: str
) -> None:
    config = {"strategy": name, "mod": MODS.get(name, "")}
    answer, real = on_the_fleet(fleet, "strategies", tmp_path / "real", config)
    twin = on_the_twin("strategies", tmp_path / "twin", config)

    assert ["client-0", "client-1", "client-2", "client-3", "server"] == sorted(real)
    assert twin == real
    assert 0 == answer["replies"]["failed"] + answer["replies"]["late"]


@pytest.mark.parametrize("name", sorted(TREES))
def test_real_trees_come_to_the_bits_of_their_twin(
    fleet: ConformanceFleet, tmp_path: Path, name: str
) -> None:
    pytest.importorskip("xgboost")
    config = {"strategy": name}
    answer, real = on_the_fleet(fleet, "trees", tmp_path / "real", config)
    twin = on_the_twin("trees", tmp_path / "twin", config)

    assert twin == real
    assert 0 == answer["replies"]["failed"] + answer["replies"]["late"]
    assert 0.6 < float.fromhex(real["server"][0]["metrics"]["3"]["accuracy"])
