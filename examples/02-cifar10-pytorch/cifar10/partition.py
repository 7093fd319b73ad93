"""Who gets which images: a set is cut the same way wherever it is cut, by its seed."""

import numpy as np
from numpy.typing import NDArray

from cifar10.images import Data


def share_of(device: int, devices: int, data: Data, *, partition: str, alpha: float) -> Data:
    """Return one device's part. Tests are always cut at random, so that together they are the set.

    Raises:
        ValueError: there is no such partition, or nothing is left for this device.
    """
    rng = np.random.default_rng(0)
    test = rng.permutation(len(data.test))[device::devices]
    match partition:
        case "iid":
            train = rng.permutation(len(data.train))[device::devices]
        case "dirichlet":
            train = _dirichlet(data.train.labels, devices, alpha, rng)[device]
        case _:
            raise ValueError(f'partition = "{partition}": it is "iid" or "dirichlet"')
    if not len(train) or not len(test):
        raise ValueError(f"no images for device {device} of {devices}: raise alpha or take fewer")
    return Data(data.train.only(train), data.test.only(test))


def _dirichlet(
    labels: NDArray[np.int64], devices: int, alpha: float, rng: np.random.Generator
) -> list[NDArray[np.int64]]:
    """Cut each class among the devices by shares that are drawn anew (Hsu et al. 2019)."""
    pieces: list[list[NDArray[np.int64]]] = [[] for _ in range(devices)]
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        shares = rng.dirichlet(np.full(devices, alpha))
        cuts = (np.cumsum(shares)[:-1] * len(members)).astype(int)
        for piece, cut in zip(pieces, np.split(members, cuts), strict=True):
            piece.append(cut)
    return [np.concatenate(piece) for piece in pieces]
