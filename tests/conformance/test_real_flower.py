"""The same apps on Flower's own SuperLink and SuperNodes come to the same models.

There, node ids are random and replies are added up in the order in which they come, so that the
last bits differ.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from processes import Programs

from conformance.fleet import ConformanceFleet
from conformance.superlink import SuperLink
from conformance.test_secagg import TOLERANCE, mean
from conformance.twin import APPS, Account, Config, on_the_fleet, read_account

RUNS: dict[str, tuple[str, Config]] = {
    "FedAvg": ("strategies", {"strategy": "FedAvg", "num-server-rounds": 1, "exact": True}),
    "FedAdam": ("strategies", {"strategy": "FedAdam", "num-server-rounds": 1, "exact": True}),
    "Krum": ("strategies", {"strategy": "Krum", "num-server-rounds": 1, "exact": True}),
    "SecAgg+": ("secagg", {}),
}


@pytest.fixture
def superlink(tmp_path: Path) -> Iterator[SuperLink]:
    """Four SuperNodes."""
    folder = tmp_path / "superlink"
    folder.mkdir()
    link = SuperLink(Programs(folder))
    yield link
    link.end()


def what_nodes_saw(account: Account) -> dict[str, list[Any]]:
    """Return what does not depend on who a node is to Flower, nor on the last bits."""
    seen = {}
    for name in sorted(account.keys() - {"server"}):
        lines = [{**line, "node_config": dict(line["node_config"])} for line in account[name]]
        for line in lines:
            line["node_config"].pop("device-id", None)  # Flower gives none
        seen[name] = [{k: v for k, v in line.items() if k != "arrays"} for line in lines]
    return seen


@pytest.mark.slow
def test_four_apps_come_to_the_models_of_real_flower(
    fleet: ConformanceFleet, superlink: SuperLink, tmp_path: Path
) -> None:
    submitted = {}
    for name, (app, config) in RUNS.items():
        out = tmp_path / f"flower-{name}"
        out.mkdir()
        submitted[name] = superlink.run(APPS / app, {**config, "out": str(out)})
    ours, theirs = {}, {}
    for name, (app, config) in RUNS.items():
        is_secret = name == "SecAgg+"
        folder = tmp_path / name
        _, ours[name] = on_the_fleet(fleet, app, folder, config, is_secret=is_secret)
    for name, run in submitted.items():
        assert 0 == run.wait(deadline_s=200), run.err
        theirs[name] = read_account(tmp_path / f"flower-{name}")

    for name in ("FedAvg", "FedAdam", "Krum"):
        (mine,), (flowers,) = ours[name]["server"], theirs[name]["server"]
        assert ["bias", "weights"] == sorted(mine["values"])
        for key, values in flowers["values"].items():
            assert values == pytest.approx(mine["values"][key], rel=1e-5, abs=1e-6)
        assert what_nodes_saw(theirs[name]) == what_nodes_saw(ours[name])
    for account in (ours["SecAgg+"], theirs["SecAgg+"]):
        vector, matrix = account["server"][0]["mean"]
        assert [mean(1, 2, 3, 4)] * 8 == pytest.approx(
            [*vector, *matrix[0], *matrix[1]], abs=TOLERANCE
        )
