"""The CIFAR-10 example reads CIFAR-10 as it comes, trusts no pickle, and cuts it as it says."""

import importlib
import io
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "02-cifar10-pytorch"

# The example is an app beside the project, not a part of it. These two modules need no torch.
sys.path.insert(0, str(EXAMPLE))
images, partition = map(importlib.import_module, ("cifar10.images", "cifar10.partition"))


PythonPickler: Any = vars(pickle)["_Pickler"]
"""The one that is written in Python: its opcodes can be changed."""


class Python2Pickler(PythonPickler):  # type: ignore[misc]
    """Writes as Python 2 did, which made CIFAR-10's files: every text is a string of bytes."""

    def save_text(self, text: str | bytes) -> None:
        content = text if isinstance(text, bytes) else text.encode()
        self.write(pickle.BINSTRING + len(content).to_bytes(4, "little") + content)
        self.memoize(text)

    dispatch = {**PythonPickler.dispatch, str: save_text, bytes: save_text}  # noqa: RUF012


def pickled(content: object) -> bytes:
    file = io.BytesIO()
    Python2Pickler(file, protocol=2).dump(content)
    return file.getvalue().replace(b"numpy._core.", b"numpy.core.")


def batch(count: int, start: int) -> dict[bytes, Any]:
    """Return a batch as CIFAR-10's files hold it: all red, then all green, then all blue."""
    red, green, blue = (np.full((count, 1024), colour, np.uint8) for colour in (1, 2, 3))
    labels = [(start + number) % 10 for number in range(count)]
    return {b"data": np.concatenate([red, green, blue], axis=1), b"labels": labels}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder as torchvision leaves it, small."""
    inside = tmp_path / "cifar-10-batches-py"
    inside.mkdir()
    for number in range(1, 6):
        (inside / f"data_batch_{number}").write_bytes(pickled(batch(20, number)))
    (inside / "test_batch").write_bytes(pickled(batch(10, 0)))
    return tmp_path


@pytest.mark.parametrize("below", [".", "cifar-10-batches-py"])
def test_torchvisions_folder_is_read_in_order_and_colours_come_last(
    folder: Path, below: str
) -> None:
    data = images.load(str(folder / below))

    assert (100, 32, 32, 3) == data.train.pixels.shape
    assert [1, 2, 3] == data.train.pixels[0, 5, 7].tolist()
    assert [1, 2, 3, 4] == data.train.labels[:4].tolist()
    assert [2, 3] == data.train.labels[20:22].tolist()
    assert list(range(10)) == data.test.labels.tolist()


@pytest.mark.parametrize("function", [print, np.load, np.empty])
def test_a_pickle_that_would_call_something_is_refused(
    folder: Path, function: Callable[..., Any]
) -> None:
    (folder / "cifar-10-batches-py" / "data_batch_3").write_bytes(pickle.dumps(function))

    with pytest.raises(pickle.UnpicklingError, match="in a file of images"):
        images.load(str(folder))


@pytest.mark.parametrize("name", ["x_{}", "{}_x"])
def test_an_npz_is_read_by_either_name(tmp_path: Path, name: str) -> None:
    drawn = images.load("")
    arrays = {}
    for part, content in (("train", drawn.train), ("test", drawn.test)):
        arrays[name.format(part)] = content.pixels
        arrays[name.format(part).replace("x", "y")] = content.labels.astype(np.uint8)[:, None]
    np.savez(tmp_path / "set.npz", **arrays)
    data = images.load(str(tmp_path / "set.npz"))

    assert (drawn.train.pixels == data.train.pixels).all()
    assert drawn.test.labels.tolist() == data.test.labels.tolist()


def test_an_npz_with_a_pickle_in_it_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "set.npz", x_train=np.array([print]), y_train=np.zeros(1))

    with pytest.raises(ValueError, match="allow_pickle=False"):
        images.load(str(tmp_path / "set.npz"))


def numbered(count: int) -> Any:  # noqa: ANN401 - the app has no types here
    """Return images of which each can be told from all others."""
    pixels = np.zeros((count, 32, 32, 3), np.uint8)
    pixels[:, 0, 0, 0], pixels[:, 0, 0, 1] = np.arange(count) % 256, np.arange(count) // 256
    return images.Images(pixels, np.arange(count) % 10)


def numbers(part: Any) -> list[int]:  # noqa: ANN401
    return [int(p[0, 0, 0]) + 256 * int(p[0, 0, 1]) for p in part.pixels]


@pytest.mark.parametrize("kind", ["iid", "dirichlet"])
def test_the_parts_of_all_devices_are_the_set(kind: str) -> None:
    data = images.Data(numbered(1000), numbered(300))
    parts = [partition.share_of(i, 7, data, partition=kind, alpha=1.0) for i in range(7)]

    assert list(range(1000)) == sorted(n for part in parts for n in numbers(part.train))
    assert list(range(300)) == sorted(n for part in parts for n in numbers(part.test))


def test_devices_differ_the_more_the_smaller_alpha_is() -> None:
    data = images.Data(numbered(5000), numbered(300))

    def largest_share_of_a_class(**how: Any) -> float:  # noqa: ANN401
        parts = [partition.share_of(i, 5, data, **how) for i in range(5)]
        counts = [np.bincount(part.train.labels, minlength=10) for part in parts]
        return float(np.mean([count.max() / count.sum() for count in counts]))

    iid = largest_share_of_a_class(partition="iid", alpha=1.0)
    tame = largest_share_of_a_class(partition="dirichlet", alpha=100.0)
    wild = largest_share_of_a_class(partition="dirichlet", alpha=0.3)

    assert iid < 0.14
    assert tame < 0.14
    assert wild > 0.2


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ({"partition": "random", "alpha": 1.0}, 'it is "iid" or "dirichlet"'),
        ({"partition": "iid", "alpha": 1.0}, "no images for device 9 of 10"),
    ],
)
def test_a_cut_that_cannot_be_made_is_said(how: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        partition.share_of(9, 10, images.Data(numbered(5), numbered(5)), **how)


def test_a_prepared_folder_holds_one_devices_part_and_nothing_else(
    folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "devices"
    command = [sys.executable, EXAMPLE / "prepare.py", "--out", out, "--devices", "2"]
    command += ["--data", folder, "--partition", "iid"]
    subprocess.run(list(map(str, command)), check=True)
    whole = images.load(str(folder))
    expected = partition.share_of(1, 2, whole, partition="iid", alpha=0.5)
    found = images.load(str(out / "01" / "images.npz"))

    assert ["00/images.npz", "01/images.npz"] == sorted(
        str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()
    )
    assert 50 == len(found.train)
    assert expected.train.labels.tolist() == found.train.labels.tolist()
    assert (expected.test.pixels == found.test.pixels).all()


def test_shapes_are_the_same_wherever_they_are_drawn_and_show_ten_classes() -> None:
    once, again = images.load(""), images.load("")

    assert (once.train.pixels == again.train.pixels).all()
    assert set(range(10)) == set(once.train.labels.tolist())
    assert not (once.train.pixels[:500] == once.test.pixels).all()
