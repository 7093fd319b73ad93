"""One Flower app through one bad link, on Flower's SuperLink and SuperNodes and on windflower.

python -m compare                                   three systems, ten rounds; about 15 minutes
python -m compare --systems windflower --rounds 4   only one of them
python -m compare --without crash                   leave an incident out: cut, kill, crash

Each packet takes half of --delay-ms, and --loss of them are lost each way. While devices train, the
link is cut for --cut-s, later the SuperLink or the gateway is killed (kill), and later all that
coordinates, the run included (crash). Needs root: it makes two network namespaces with a TUN device
each. docs/comparison.md says how each system is started.
"""

import argparse
import json
import os
import platform
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

from chaos.line import Link
from chaos.tunnel import missing
from processes import MOSQUITTO

from compare.course import Course, Incident, Outcome, run_course
from compare.fleet import Fleet
from compare.place import Place, Work, place
from compare.superlink import SuperLink
from compare.system import System
from compare.table import table

SYSTEMS = ("flower", "flower-checkpoints", "windflower", "windflower-strict")
USUAL = SYSTEMS[:3]


def main() -> int:
    """Compare, and print the table; 1 when this machine cannot."""
    asked = parse(sys.argv[1:])
    lacks = missing() or (None if MOSQUITTO else "mosquitto is not installed")
    if lacks is not None:
        sys.stderr.write(f"no comparison here: {lacks}\n")
        return 1
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that everything is ended
    work = Work(asked.devices, asked.rounds, asked.seconds)
    incidents = tuple(incident for incident in Incident if incident not in asked.without)
    course = Course(incidents, asked.cut_s, asked.idle_s, asked.deadline_s)
    link = Link(loss=asked.loss, delay_s=asked.delay_ms / 2000)
    outcomes = [compare(name, asked, work, course, link) for name in asked.systems]
    if asked.format == "json":
        about = {"link": link_words(asked), "machine": machine(), "load": os.getloadavg()[0]}
        sys.stdout.write(json.dumps({**about, "outcomes": list(map(asdict, outcomes))}) + "\n")
    else:
        sys.stdout.write(f"{link_words(asked)}\n{machine()}\n\n{table(outcomes, work, course)}\n")
    return 0


def compare(
    name: str, asked: argparse.Namespace, work: Work, course: Course, link: Link
) -> Outcome:
    """Run the course once, in a place of its own."""
    with tempfile.TemporaryDirectory(prefix="compare-") as temporary:
        folder = (asked.keep or Path(temporary)) / name
        with place(folder, link, work, seed=asked.seed) as made:

            def say(text: str) -> None:
                sys.stderr.write(f"{name}: {text}\n")
                sys.stderr.flush()

            return run_course(system(name, made), made, course, say)


def system(name: str, made: Place) -> System:
    """Return the system of a name, with its coordinator started."""
    if name.startswith("windflower"):
        return Fleet(made, is_strict=name == "windflower-strict")
    return SuperLink(made, has_checkpoints=name == "flower-checkpoints")


def link_words(asked: argparse.Namespace) -> str:
    """Say what the link is like."""
    return (
        f"{asked.devices} devices behind a link of {asked.delay_ms:g} ms there and back,"
        f" {asked.loss:.1%} of packets lost each way, seed {asked.seed}"
    )


def machine() -> str:
    """Say where and when."""
    today = time.strftime("%Y-%m-%d")
    return (
        f"{platform.machine()}, {os.cpu_count()} processors, Python {platform.python_version()},"
        f" flwr {version('flwr')}, {today}"
    )


def parse(arguments: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m compare",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--systems",
        type=words(SYSTEMS),
        default=list(USUAL),
        metavar="A,B",
        help=f"of {', '.join(SYSTEMS)}",
    )
    parser.add_argument(
        "--without",
        type=words(tuple(Incident)),
        default=[],
        metavar="A,B",
        help=f"of {', '.join(Incident)}",
    )
    parser.add_argument("--devices", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=1.0, help="of a training")
    parser.add_argument("--delay-ms", type=float, default=100.0, help="there and back")
    parser.add_argument("--loss", type=float, default=0.01)
    parser.add_argument("--cut-s", type=float, default=20.0)
    parser.add_argument("--idle-s", type=float, default=60.0)
    parser.add_argument("--deadline-s", type=float, default=900.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, help="leave logs and state in this folder")
    parser.add_argument("--format", choices=["default", "json"], default="default")
    return parser.parse_args(arguments)


def words(known: tuple[str, ...]) -> Callable[[str], list[str]]:
    """Return a reader of known words between commas."""

    def read(text: str) -> list[str]:
        found = text.split(",")
        if unknown := set(found) - set(known):
            raise argparse.ArgumentTypeError(f"not among {', '.join(known)}: {', '.join(unknown)}")
        return found

    return read


if __name__ == "__main__":
    sys.exit(main())
