"""Measure one thing at any size, and print one line of figures.

python -m scale storm 9000     so many devices come back after their broker was killed
python -m scale restart 10000  a gateway starts on a journal of so many settled exchanges
python -m scale soak 1800      a fleet works for so many seconds while its broker dies

Ends with 1 where a fact does not hold; how long anything took is no such fact.
"""

import argparse
import json
import os
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from processes import Programs

from scale.restart import restart
from scale.soak import soak
from scale.storm import storm

MEASURES: dict[str, Any] = {"storm": storm, "restart": restart, "soak": soak}


def main() -> int:
    """Do what the command line asks for."""
    parser = argparse.ArgumentParser(
        prog="python -m scale",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("measure", choices=MEASURES)
    parser.add_argument("size", type=int)
    parser.add_argument("--keep", type=Path, help="use this folder, and leave it")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="scale-") as folder:
        programs = Programs(asked.keep or Path(folder))
        programs.folder.mkdir(parents=True, exist_ok=True)
        load = os.getloadavg()[0]
        try:
            figures = MEASURES[asked.measure](programs, asked.size)
        finally:
            programs.end_all()
    sys.stdout.write(json.dumps({"load": round(load, 1), **asdict(figures)}) + "\n")
    for problem in figures.problems():
        sys.stderr.write(
            f"{problem}\nagain: PYTHONPATH=src:tests python -m scale {asked.measure} {asked.size}\n"
        )
    return int(bool(figures.problems()))


if __name__ == "__main__":
    sys.exit(main())
