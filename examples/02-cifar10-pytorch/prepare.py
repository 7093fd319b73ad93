"""Give each of N devices its part of the images, and nothing else: DIR/00, DIR/01, ...

python prepare.py --out DIR --devices 10 [--data PATH] [--partition dirichlet] [--alpha 0.5]
"""

import argparse
from pathlib import Path

from cifar10.images import load, write_npz
from cifar10.partition import share_of


def main() -> None:
    """Write `images.npz` for each device."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--devices", type=int, default=10)
    parser.add_argument("--data", default="", help="cifar-10-batches-py or an .npz")
    parser.add_argument("--partition", choices=("iid", "dirichlet"), default="dirichlet")
    parser.add_argument("--alpha", type=float, default=0.5)
    options = parser.parse_args()
    data, cut = load(options.data), {"partition": options.partition, "alpha": options.alpha}
    for device in range(options.devices):
        part = share_of(device, options.devices, data, **cut)
        folder = options.out / f"{device:02}"
        folder.mkdir(parents=True, exist_ok=True)
        write_npz(folder / "images.npz", part)
        print(f"{folder}: {len(part.train)} images to train on, {len(part.test)} to test on")


if __name__ == "__main__":
    main()
