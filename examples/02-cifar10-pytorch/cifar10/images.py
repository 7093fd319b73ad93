"""Labelled images of 32 x 32 pixels: read from CIFAR-10's files, or drawn."""

import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

FOLDER = "cifar-10-batches-py"
COLOURS = np.array([[230, 60, 60], [60, 230, 60], [60, 60, 230], [230, 230, 60], [230, 60, 230]])


@dataclass(frozen=True)
class Images:
    """Images and what they show.

    Attributes:
        pixels: (images, 32, 32, 3) uint8, RGB.
        labels: (images,) int64, 0 to 9.
    """

    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)

    def only(self, chosen: NDArray[np.int64]) -> "Images":
        """Return the chosen images, by number."""
        return Images(self.pixels[chosen], self.labels[chosen])


@dataclass(frozen=True)
class Data:
    """Images to train on, and images to test on."""

    train: Images
    test: Images


def load(path: str) -> Data:
    """Load a folder as torchvision leaves it or an .npz; without a path, draw shapes.

    Raises:
        OSError: there is no such file.
        pickle.UnpicklingError: a file holds something other than arrays.
    """
    if not path:
        return Data(draw_shapes(2000, seed=0), draw_shapes(500, seed=1))
    place = Path(path)
    if not place.is_dir():
        return read_npz(place)
    return read_batches(place / FOLDER if (place / FOLDER).is_dir() else place)


def read_npz(path: Path) -> Data:
    """Read `x_train`, `y_train`, `x_test`, `y_test`, or the same with `train_x` and so on."""
    with np.load(path, allow_pickle=False) as stored:
        x, y = ("x_{}", "y_{}") if "x_train" in stored else ("{}_x", "{}_y")
        train, test = (
            Images(stored[x.format(part)], stored[y.format(part)].reshape(-1).astype(np.int64))
            for part in ("train", "test")
        )
    return Data(train, test)


def write_npz(path: Path, data: Data) -> None:
    """Write what `read_npz` reads."""
    train, test = data.train, data.test
    arrays = {"x_train": train.pixels, "y_train": train.labels}
    np.savez(path, **arrays, x_test=test.pixels, y_test=test.labels)


def read_batches(folder: Path) -> Data:
    """Read `data_batch_1` and so on, and `test_batch`."""
    batches = [_read_batch(path) for path in sorted(folder.glob("data_batch_*"))]
    if not batches:
        raise FileNotFoundError(f"no data_batch_1 in {folder}")
    pixels = np.concatenate([batch.pixels for batch in batches])
    labels = np.concatenate([batch.labels for batch in batches])
    return Data(Images(pixels, labels), _read_batch(folder / "test_batch"))


class _ArraysOnly(pickle.Unpickler):
    """Reads pickled arrays. A pickle can name any function to be called: others are refused."""

    _ALLOWED: dict[tuple[str, str], Callable[..., Any]] = {  # noqa: RUF012 - never changed
        ("numpy.core.multiarray", "_reconstruct"): cast("Any", np.empty(0).__reduce__()[0]),
        ("numpy._core.multiarray", "_reconstruct"): cast("Any", np.empty(0).__reduce__()[0]),
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
    }

    @override
    def find_class(self, module_name: str, global_name: str, /) -> Callable[..., Any]:
        if (module_name, global_name) not in self._ALLOWED:
            raise pickle.UnpicklingError(f"{module_name}.{global_name} in a file of images")
        return self._ALLOWED[module_name, global_name]


def _read_batch(path: Path) -> Images:
    with path.open("rb") as file:
        batch = _ArraysOnly(file, encoding="bytes").load()
    pixels = batch[b"data"].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return Images(pixels, np.array(batch[b"labels"], np.int64))


def draw_shapes(count: int, *, seed: int) -> Images:
    """Draw discs and squares of five colours on noise: ten classes, for whoever has no CIFAR-10."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(10, size=count)
    rows, columns = np.mgrid[:32, :32]
    centres, radii = rng.integers(10, 22, (2, count, 1, 1)), rng.integers(6, 10, (count, 1, 1))
    down, right = np.abs(rows - centres[0]), np.abs(columns - centres[1])
    discs, squares = down**2 + right**2 < radii**2, np.maximum(down, right) < radii
    inside = np.where((labels % 2 == 0)[:, None, None], discs, squares)
    colours = COLOURS[labels // 2][:, None, None, :]
    pixels = np.where(inside[..., None], colours, rng.integers(0, 200, (count, 32, 32, 3)))
    return Images(pixels.astype(np.uint8), labels)
