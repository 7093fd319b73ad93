"""Vibrations of a machine that is sound, unbalanced, misaligned, or has a chipped bearing."""

import numpy as np
from numpy.typing import NDArray

SAMPLES = 256
CONDITIONS = ("sound", "unbalanced", "misaligned", "chipped")
BLOW = 0.95  # a blow lasts while the sine is above it
Recordings = tuple[NDArray[np.float32], NDArray[np.int64]]


def record(machine: int, count: int, *, seed: int) -> Recordings:
    """Return (count, SAMPLES, 1) recordings of one machine, and its condition in each.

    Each machine turns at a speed of its own and is as noisy as it is. All is drawn, by the seed.
    """
    own = np.random.default_rng(machine)
    turns, noise = own.uniform(6, 14), own.uniform(0.8, 1.2)
    rng = np.random.default_rng((machine, seed))
    conditions = rng.integers(len(CONDITIONS), size=count)
    phase = 2 * np.pi * (turns * np.linspace(0, 1, SAMPLES) + rng.random((count, 1)))
    signal = 0.3 * np.sin(phase) + rng.normal(0, noise, (count, SAMPLES))
    unbalanced, misaligned, chipped = ((conditions == c)[:, None] for c in (1, 2, 3))
    signal += unbalanced * np.sin(phase)  # once a turn
    signal += misaligned * np.sin(2 * phase)  # twice a turn
    signal += chipped * 2 * (np.sin(phase) > BLOW)  # a blow at each turn
    return signal[..., None].astype(np.float32), conditions
