"""Give each of N devices one person's recordings, and nothing else: DIR/00, DIR/01, ...

python prepare.py --out DIR [--devices 10]
"""

import argparse
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

WATCH_DATA = Path(__file__).parent / "data" / "watch.npz"


@dataclass(frozen=True)
class Person:
    """What one person's watch recorded.

    Attributes:
        samples: (6, samples) float32, all recordings one after the other, 50 Hz.
        lengths: (recordings,) int32, in samples.
        exercises: (recordings,) uint8, 0 to 6.
    """

    samples: NDArray[np.float32]
    lengths: NDArray[np.int32]
    exercises: NDArray[np.uint8]

    def to_npz(self) -> bytes:
        """Return the bytes of a device's `recordings.npz`."""
        file = io.BytesIO()
        np.savez_compressed(
            file, samples=self.samples, lengths=self.lengths, exercises=self.exercises
        )
        return file.getvalue()


def main() -> None:
    """Write the folders."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--devices", type=int, default=10)
    arguments = parser.parse_args()
    if arguments.devices < 1:
        parser.error("--devices must be at least 1")
    write_folders(arguments.out, arguments.devices)
    print(f"{arguments.out}: one person's recordings for each of {arguments.devices} devices")


def write_folders(out: Path, devices: int) -> None:
    """Write `recordings.npz` for each device."""
    files = [person.to_npz() for person in read_people()]
    for device in range(devices):
        folder = out / f"{device:02}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "recordings.npz").write_bytes(files[person_of(device, devices, len(files))])


def person_of(device: int, devices: int, people: int) -> int:
    """Choose the person who wears a device.

    With more devices than people, people repeat, but never the one on the last device: the app
    takes that one for a new wearer, and nobody else may have trained on the same person.
    """
    if devices <= people:
        return device
    return people - 1 if device == devices - 1 else device % (people - 1)


def read_people(path: Path = WATCH_DATA) -> list[Person]:
    """Decode everybody's recordings."""
    with np.load(path, allow_pickle=False) as stored:
        levels = np.cumsum(stored["deltas"], axis=1, dtype=np.int16)
        samples = stored["minimum"] + stored["step"] * levels.astype(np.float32)
        lengths, persons, exercises = stored["lengths"], stored["persons"], stored["exercises"]
    sample_persons = np.repeat(persons, lengths)
    return [
        Person(
            samples=samples[:, sample_persons == person],
            lengths=lengths[persons == person],
            exercises=exercises[persons == person],
        )
        for person in np.unique(persons)
    ]


if __name__ == "__main__":
    main()
