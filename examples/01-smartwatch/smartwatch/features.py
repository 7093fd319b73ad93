"""From one wearer's recordings to scaled feature windows, all of it on the device."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

SAMPLE_RATE_HZ = 50
WINDOW_SAMPLES = 2 * SAMPLE_RATE_HZ
HOP_SAMPLES = 1 * SAMPLE_RATE_HZ
TRAIN_FRACTION = 0.75
AXES = 6
FEATURES_PER_AXIS = 15
FEATURE_COUNT = AXES * FEATURES_PER_AXIS

# A window of 2 s has frequency bins of 0.5 Hz. An arm that repeats an exercise moves in the lowest
# ones; up to 2.5 Hz each is a feature of its own, and all above share one.
LOW_BINS = 5


@dataclass(frozen=True)
class Windows:
    """Feature windows and the exercise done in each.

    Attributes:
        features: (windows, 90) float32.
        exercises: (windows,) int64, 0 to 6.
    """

    features: NDArray[np.float32]
    exercises: NDArray[np.int64]

    def __len__(self) -> int:
        """Return the number of windows."""
        return len(self.exercises)


@dataclass(frozen=True)
class Wearer:
    """One person's windows: the first three quarters of each recording, and the last one."""

    train: Windows
    test: Windows


@cache  # the process stays warm over the rounds; a device has one folder, and it does not change
def load_wearer(data_dir: Path) -> Wearer:
    """Read `recordings.npz` in a folder written by `prepare.py`."""
    with np.load(data_dir / "recordings.npz", allow_pickle=False) as stored:
        samples, lengths, exercises = stored["samples"], stored["lengths"], stored["exercises"]
    recordings = np.split(samples, np.cumsum(lengths)[:-1], axis=1)
    # Cut in time, before windows are made: overlapping windows drawn at random would put nearly
    # the same second of movement into both parts.
    cuts = [int(recording.shape[1] * TRAIN_FRACTION) for recording in recordings]
    train = _windows([r[:, :cut] for r, cut in zip(recordings, cuts, strict=True)], exercises)
    test = _windows([r[:, cut:] for r, cut in zip(recordings, cuts, strict=True)], exercises)
    # People differ in strength, reach and strap more than exercises do, so each device scales with
    # its own statistics. That needs no labels: a new wearer's watch can do it as well.
    mean = train.features.mean(axis=0)
    deviation = np.maximum(train.features.std(axis=0), np.float32(1e-6))
    return Wearer(*(Windows((w.features - mean) / deviation, w.exercises) for w in (train, test)))


def _windows(recordings: list[NDArray[np.float32]], exercises: NDArray[np.int64]) -> Windows:
    """Describe every window of some recordings; `exercises` holds one label for each recording."""
    described = [describe(recording) for recording in recordings]
    labels = np.repeat(exercises.astype(np.int64), [len(rows) for rows in described])
    return Windows(np.concatenate(described), labels)


def describe(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """Turn (6, samples) into (windows, 90): for each window of 2 s, one a second, 15 an axis."""
    windows = sliding_window_view(samples, WINDOW_SAMPLES, axis=1)[:, ::HOP_SAMPLES]
    mean = windows.mean(axis=-1)
    change = np.diff(windows, axis=-1)
    # Bin 0 is the mean, which is a feature already.
    spectrum = np.abs(np.fft.rfft(windows - mean[..., None], axis=-1))[..., 1:]
    features = [
        mean,
        windows.std(axis=-1),
        windows.min(axis=-1),
        windows.max(axis=-1),
        *np.quantile(windows, [0.25, 0.5, 0.75], axis=-1),
        np.abs(change).mean(axis=-1),
        change.std(axis=-1),
        *np.log1p(np.moveaxis(spectrum[..., :LOW_BINS], -1, 0)),
        np.log1p(spectrum[..., LOW_BINS:].sum(axis=-1)),
    ]
    by_window = np.stack(features, axis=-1).transpose(1, 0, 2)
    return by_window.reshape(-1, FEATURE_COUNT).astype(np.float32)
