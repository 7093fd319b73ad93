"""Strategies for fleets that are there only some of the time, in the form of Flower's own.

`from windflower.strategy import FedBuff` in a ServerApp, in place of Flower's `FedAvg`.
"""

from windflower.flower.fedbuff import FedBuff

__all__ = ["FedBuff"]
