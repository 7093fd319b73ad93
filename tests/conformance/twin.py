"""Executes an app twice, on the fleet and on its naive twin, and returns both accounts."""

import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flwr.app import Context, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import ServerApp

from conformance.fleet import DEVICES, ConformanceFleet
from conformance.naive_grid import NaiveGrid
from windflower.flower.app_folder import AppFolder, ConfigValue, fuse
from windflower.flower.loading import load_component, seed_sources
from windflower.flower.private import set_identity
from windflower.pipeline.in_memory import private_modules

APPS = Path(__file__).parent / "apps"
SEED = 5

Config = Mapping[str, ConfigValue]
Account = dict[str, list[Any]]
"""By file, the lines that the app wrote: `server`, `client-0`, ..."""


def read_account(folder: Path) -> Account:
    """Read what an app wrote down."""
    return {
        path.stem: [json.loads(line) for line in path.read_text().splitlines()]
        for path in sorted(folder.glob("*.jsonl"))
    }


def on_the_fleet(
    fleet: ConformanceFleet,
    app: str,
    out: Path,
    config: Config,
    *arguments: str,
    is_secret: bool = False,
) -> tuple[dict[str, Any], Account]:
    """Run an app with real agents; return the answer of `windflower run`, and the account.

    Args:
        fleet: who takes part.
        app: which app.
        out: where it writes its account.
        config: run configuration.
        arguments: more flags of `windflower run`.
        is_secret: whether the app draws from secrets, which have no seed.
    """
    out.mkdir()
    seed = [] if is_secret else ["--seed", str(SEED)]
    run = fleet.run(APPS / app, {"out": str(out), **config}, *seed, *arguments)
    assert 0 == run.wait(), run.err + run.out
    return run.last, read_account(out)


def on_the_twin(app: str, out: Path, config: Config) -> Account:
    """Run an app on the naive Grid, in this process."""
    out.mkdir()
    folder = AppFolder.read(APPS / app)
    run_config = fuse(folder.config, {"out": str(out), **config})
    with private_modules(folder), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what Flower says of apps of the old kind
        set_identity(1)
        seed_sources(SEED, is_secret=False)
        server: ServerApp = load_component(folder.path, folder.server, ServerApp)
        client: ClientApp = load_component(folder.path, folder.client, ClientApp)
        grid = NaiveGrid(client, DEVICES, run_config, SEED)
        context = Context(
            run_id=1, node_id=1, node_config={}, state=RecordDict(), run_config=run_config
        )
        server(grid, context)
    return read_account(out)
