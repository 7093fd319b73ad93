"""Executes a user's ServerApp with our Grid, once, in this process."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flwr.app import ArrayRecord, Context, RecordDict
from flwr.serverapp import Grid, ServerApp

from windflower.core.events import RoundMeasured
from windflower.core.identity import run_integer
from windflower.core.ledger import RunRecord
from windflower.errors import RunFailed, WindflowerError
from windflower.flower.app_folder import AppFolder, fuse
from windflower.flower.grid import FleetGrid
from windflower.flower.legacy import run_server_fn
from windflower.flower.loading import load_component, seed_sources, traceback_of
from windflower.flower.private import SUPERLINK_NODE, server_fn_of, set_identity
from windflower.flower.records import to_packing, write_pack
from windflower.flower.requirements import others
from windflower.flower.watching import Watcher
from windflower.gateway.line import RunLine
from windflower.wire.limits import INLINE_PACK_BYTES
from windflower.wire.strict_json import without_nan

MODEL_FILE = "model.pack"


@dataclass(slots=True)
class Outcome:
    """What a run came to.

    Attributes:
        arrays: the final arrays, None where the app shows none.
        rounds: rounds that a strategy measured.
        metrics: by stage, the last round's numbers.
        recalled: how many aggregates were taken as they were kept, because updates were gone.
    """

    arrays: ArrayRecord | None = None
    rounds: int = 0
    metrics: dict[str, dict[str, float]] = field(default_factory=dict)
    recalled: int = 0

    def save(self, folder: Path) -> dict[str, Any]:
        """Write the final arrays; return what the journal keeps of the run."""
        summary: dict[str, Any] = {"rounds": self.rounds, "metrics": without_nan(self.metrics)}
        if self.arrays is not None and len(self.arrays):
            folder.mkdir(parents=True, exist_ok=True)
            packing = to_packing(RecordDict({"arrays": self.arrays}))
            # A pack's bytes follow from names, shapes and array bytes alone: its digest is the
            # model's, and two runs that agree in every bit have the same.
            summary["model-hash"] = write_pack(packing, folder / MODEL_FILE).digest
            summary["model-file"] = str(folder / MODEL_FILE)
        return summary


def execute(
    app: AppFolder,
    line: RunLine,
    run: RunRecord,
    *,
    scratch: Path,
    inline_bytes: int = INLINE_PACK_BYTES,
) -> Outcome:
    """Import the app and run it to its end.

    The random sources are seeded before the app is imported. Call it in a process of its own: what
    Flower knows of a run is global to the process, and so are the random sources.

    Raises:
        AppError: the ServerApp does not import.
        RunFailed: it raised, its traceback is in the message; or no device ever answered well.
        RunSuspended: it cannot go on now, and can be resumed.
        GatewayUnavailable: the gateway went away.
    """
    seed_sources(run.seed, is_secret=run.is_private)
    set_identity(run_integer(run.run))
    server: ServerApp = load_component(app.path, app.server, ServerApp)
    outcome = Outcome()
    watcher = Watcher(_reporter(line, run, outcome))
    grid = FleetGrid(
        *(line, run),
        scratch=scratch,
        inline_bytes=inline_bytes,
        requires=others(app.requires),
    )
    context = Context(
        run_id=run_integer(run.run),
        node_id=SUPERLINK_NODE,
        node_config={},
        state=RecordDict(),
        run_config=fuse(app.config, _given(run)),
    )
    try:
        with watcher.watching(), grid.aggregation.remembering():
            outcome.arrays = _call(server, grid, context)
    except Exception as error:  # the app is anybody's code, and may raise anything
        if grid.stopped is not None:
            raise grid.stopped from error
        if isinstance(error, WindflowerError):
            raise
        raise RunFailed(f"the ServerApp raised:\n{traceback_of(error)}") from error
    if grid.stopped is not None:
        raise grid.stopped
    outcome.recalled = grid.aggregation.recalled
    grid.check_answers()
    if watcher.results:
        outcome.arrays = watcher.results[-1].arrays
    elif outcome.arrays is None:
        outcome.arrays = next(iter(context.state.array_records.values()), None)
    return outcome


def _call(server: ServerApp, grid: FleetGrid, context: Context) -> ArrayRecord | None:
    """Call the app; a legacy one goes through a loop that keeps the order of replies."""
    server_fn = server_fn_of(server)
    components = server_fn(context) if server_fn is not None else None
    if components is None or components.server is not None:
        server(grid, context)
        return None
    arrays: list[ArrayRecord | None] = []

    def main(_: Grid, context: Context) -> None:
        arrays.append(run_server_fn(components, grid, context))

    ServerApp.main(server)(main)
    server(grid, context)  # so that the app's lifespan holds around it
    return arrays[0]


def _given(run: RunRecord) -> Mapping[str, Any]:
    return dict(run.config.items)


def _reporter(line: RunLine, run: RunRecord, outcome: Outcome) -> Any:  # noqa: ANN401 - OnRound
    def on_round(number: int, stage: str, metrics: dict[str, float]) -> None:
        outcome.rounds = max(outcome.rounds, number)
        outcome.metrics[stage] = metrics
        event = RoundMeasured(run=run.run, round=number, stage=stage, metrics=metrics)
        line.report(event.to_json())

    return on_round
