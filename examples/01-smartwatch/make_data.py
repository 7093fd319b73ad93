"""Build `data/watch.npz` from the recordings inside the PyPI package seglearn 1.2.5.

The built file is committed; this script is the proof of where it comes from. Run it with

    python make_data.py [--wheel seglearn-1.2.5-py3-none-any.whl] [--out data]
"""

import argparse
import codecs
import hashlib
import io
import pickle
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

PACKAGE = "seglearn==1.2.5"
WHEEL_SHA256 = "ec6b952c85c9627050102854b372d85951563d3b990df677d7c55547e87413dd"
DATASET_MEMBER = "seglearn/data/watch_dataset.npy"
LICENSE_MEMBER = "seglearn-1.2.5.dist-info/LICENSE"

# 12 bits an axis: a model that trains on them is as accurate as one that trains on the doubles.
TOP_LEVEL = 2**12 - 1

NOTICE = """\
# Where `watch.npz` comes from

Source: the file `{member}` in the Python package seglearn 1.2.5 on PyPI
(wheel sha256 `{sha256}`), (c) 2018 David M. Burns.
The study is described in arXiv:1802.01489.

Ten people, 14 recordings each: seven shoulder exercises, once on each side, with a smartwatch that
samples three axes of acceleration and three of rotation at 50 Hz.

Changed by `make_data.py`: recordings sorted by person, samples rounded to 12 bits an axis and
stored as differences, the `side` of the body left out.

The package's licence (BSD 3-Clause) is the only one that is stated for the data:

```text
{license}
```
"""


class DatasetUnpickler(pickle.Unpickler):
    """An unpickler that can build numpy arrays, and nothing else.

    Unpickling runs code that the file chooses. It is acceptable here, and only here, because the
    file is known to the last bit (`WHEEL_SHA256`) and read once, by whoever builds the data. No
    device and no server ever unpickles anything.
    """

    ALLOWED: ClassVar[dict[tuple[str, str], Any]] = {
        # numpy's own `_reconstruct`, by the one public way that leads to it
        ("numpy.core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
        ("_codecs", "encode"): codecs.encode,
    }

    def find_class(self, module_name: str, global_name: str) -> Any:  # noqa: ANN401 - pickle's own
        """Look up a name that the pickle asks for."""
        try:
            return self.ALLOWED[module_name, global_name]
        except KeyError:
            raise pickle.UnpicklingError(f"refused: {module_name}.{global_name}") from None


def main() -> None:
    """Write `watch.npz` and `NOTICE.md`, and print what was written."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument(
        "--wheel", type=Path, help="a wheel of seglearn 1.2.5; default: download it"
    )
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "data")
    arguments = parser.parse_args()
    wheel = arguments.wheel.read_bytes() if arguments.wheel else download_wheel()
    build(wheel, arguments.out)
    path = arguments.out / "watch.npz"
    print(f"{path}: {path.stat().st_size} bytes, content sha256 {content_digest(path)}")


def download_wheel() -> bytes:
    """Fetch the wheel from the package index that pip is set up with."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--quiet",
            "--no-deps",
            "--dest",
            folder,
        ]
        subprocess.run([*command, PACKAGE], check=True)  # noqa: S603 - constants only
        (wheel,) = Path(folder).glob("*.whl")
        return wheel.read_bytes()


def build(wheel: bytes, out: Path) -> None:
    """Check the wheel and write both files into the folder `out`."""
    digest = hashlib.sha256(wheel).hexdigest()
    if digest != WHEEL_SHA256:
        raise ValueError(f"this is not the wheel of {PACKAGE}: sha256 is {digest}")
    with zipfile.ZipFile(io.BytesIO(wheel)) as archive:
        dataset = read_dataset(archive.read(DATASET_MEMBER))
        license_text = archive.read(LICENSE_MEMBER).decode()
    out.mkdir(parents=True, exist_ok=True)
    # numpy dates every member 1980-01-01, so the same arrays give the same bytes (with the same
    # zlib: compressors differ, which is why `content_digest` looks at the arrays).
    np.savez_compressed(out / "watch.npz", allow_pickle=False, **pack(dataset))
    notice = NOTICE.format(member=DATASET_MEMBER, sha256=WHEEL_SHA256, license=license_text.strip())
    (out / "NOTICE.md").write_text(notice, encoding="utf-8")


def read_dataset(npy: bytes) -> dict[str, Any]:
    """Read the dictionary that seglearn keeps in an .npy file: a header and then a pickle."""
    file = io.BytesIO(npy)
    np.lib.format.read_magic(file)
    np.lib.format.read_array_header_1_0(file)
    dataset: dict[str, Any] = DatasetUnpickler(file).load().item()
    return dataset


def pack(dataset: dict[str, Any]) -> dict[str, NDArray[Any]]:
    """Sort by person, round to 12 bits and take differences, which compress better."""
    by_person = np.argsort(dataset["subject"], kind="stable")
    recordings = [dataset["X"][i] for i in by_person]
    samples = np.concatenate(recordings).T
    minimum = samples.min(axis=1, keepdims=True)
    step = (samples.max(axis=1, keepdims=True) - minimum) / TOP_LEVEL
    levels = np.rint((samples - minimum) / step).astype(np.int16)
    return {
        "deltas": np.diff(levels, axis=1, prepend=np.int16(0)),
        "minimum": minimum.astype(np.float32),
        "step": step.astype(np.float32),
        "lengths": np.array([len(recording) for recording in recordings], np.int32),
        "persons": (dataset["subject"][by_person] - 1).astype(np.uint8),
        "exercises": dataset["y"][by_person].astype(np.uint8),
        "exercise_names": np.array(dataset["y_labels"]),
        "axis_names": np.array(dataset["X_labels"]),
    }


def content_digest(path: Path) -> str:
    """Return the sha256 of all arrays in an .npz file, however they are compressed."""
    digest = hashlib.sha256()
    with np.load(path, allow_pickle=False) as stored:
        for name in sorted(stored.files):
            array = stored[name]
            digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
            digest.update(array.tobytes())
    return digest.hexdigest()


if __name__ == "__main__":
    main()
