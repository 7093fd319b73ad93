"""Runs legacy apps (`server_fn`, `NumPyClient`) so that their result depends on the replies only.

Flower's own loop for them collects answers in a set, ordered by address, and gives another result
each time. Its public `DefaultWorkflow` sends a round as one batch, in the order that it was given.
"""

import time
from typing import Any, Final

from flwr.app import ArrayRecord, Context
from flwr.server import LegacyContext, ServerConfig, SimpleClientManager
from flwr.server.strategy import FedAvg
from flwr.server.workflow import DefaultWorkflow

from windflower.flower.grid import FleetGrid
from windflower.flower.private import ClientProxy, Criterion

_LOOK_S: Final = 1.0
"""How often the fleet is looked at while too few are there, as Flower's own wait does it."""

_PATIENCE_S: Final = 86_400
"""Flower's own default."""


class OrderedClientManager(SimpleClientManager):
    """Samples from clients in a fixed order: Flower's own goes by the order of registration.

    Args:
        grid: the fleet.
    """

    def __init__(self, grid: FleetGrid) -> None:
        super().__init__()
        self._grid = grid

    def wait_for(self, num_clients: int, timeout: int = _PATIENCE_S) -> bool:
        """Wait for enough clients; raises NotEnoughDevices where the fleet stays too small.

        Flower's thread that registers clients is only told what this thread was told last.
        """
        while self._grid.known < num_clients:
            time.sleep(_LOOK_S)
            self._grid.get_node_ids()
        return super().wait_for(num_clients, timeout)

    def sample(
        self,
        num_clients: int,
        min_num_clients: int | None = None,
        criterion: Criterion | None = None,
    ) -> list[ClientProxy]:
        """Sample clients from the sorted ids, with the run's seeded random source."""
        self.clients = dict(sorted(self.clients.items()))
        return super().sample(num_clients, min_num_clients, criterion)


def run_server_fn(components: Any, grid: FleetGrid, context: Context) -> ArrayRecord | None:  # noqa: ANN401 - ServerAppComponents, whose place moved
    """Run a legacy app's components; return the final parameters, if there are any."""
    config = components.config or ServerConfig()
    grid.timeout_s = config.round_timeout  # which DefaultWorkflow does not heed
    manager = components.client_manager  # one that has no clients yet is false
    legacy = LegacyContext(
        context=context,
        config=config,
        strategy=components.strategy or FedAvg(),
        client_manager=OrderedClientManager(grid) if manager is None else manager,
    )
    DefaultWorkflow()(grid, legacy)
    return legacy.state.array_records.get("parameters")
