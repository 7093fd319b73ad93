"""Apps of the old kind: on the fleet as on Flower's own server, which here calls a twin.

Flower's own server adds updates up in no fixed order, so the numbers of this app are exact in any.
"""

from pathlib import Path

import pytest

from conformance.fleet import ConformanceFleet
from conformance.twin import Config, on_the_fleet, on_the_twin

KINDS: dict[str, Config] = {
    "NumPyClient, first parameters from a client, a criterion that asks for properties": {},
    "Client, first parameters from the strategy, a client manager": {
        "client": "Client", "initial": "strategy", "manager": "Highest",
    },
    "a server of its own": {"server": "Counting"},
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_an_app_of_the_old_kind_sees_what_it_sees_on_flowers_server(
    fleet: ConformanceFleet, tmp_path: Path, kind: str
) -> None:
    answer, real = on_the_fleet(fleet, "legacy", tmp_path / "real", KINDS[kind])
    twin = on_the_twin("legacy", tmp_path / "twin", KINDS[kind])

    assert {f"client-{number}" for number in range(4)} | {"server"} <= set(real)
    assert twin == real
    last = real["server"][3]
    shown = {"loss": last["loss"], "most": float.fromhex(last["metrics"]["most"])}
    assert (2, shown) == (answer["rounds"], answer["metrics"]["evaluate"])
    assert {"train", "evaluate", "server"} == set(answer["metrics"])


@pytest.mark.parametrize("server", ["", "Counting"])
def test_a_client_that_does_not_return_is_a_failure_after_the_round_timeout(
    fleet: ConformanceFleet, tmp_path: Path, server: str
) -> None:
    config: Config = {"sleeps": 2, "round-timeout": 5.0, "num-server-rounds": 1, "server": server}
    answer, real = on_the_fleet(fleet, "legacy", tmp_path / "real", config)

    assert [1, 1] == [len(real["server"][0]["told"]), real["server"][0]["failures"]]
    assert 1 <= answer["replies"]["late"]
