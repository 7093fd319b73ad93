"""Replay one seed or sweep many: `python -m sim SEED [--trace]`, `python -m sim --seeds A:B`."""

import argparse
import sys
import time

from sim.bugs import BUGS
from sim.parts import SOUND, Parts
from sim.simulation import Simulation
from sim.world import Violation

_EVERY = 100


def main() -> int:
    """Run what the command line asks for; 1 when a rule is broken."""
    parser = argparse.ArgumentParser(prog="python -m sim", description=__doc__)
    parser.add_argument("seed", type=int, nargs="?", help="replay this seed")
    parser.add_argument("--trace", action="store_true", help="print all that happens")
    parser.add_argument("--seeds", metavar="A:B", help="sweep the seeds from A to before B")
    parser.add_argument("--bug", choices=sorted(BUGS), help="plant this bug first")
    asked = parser.parse_args()
    parts = BUGS[asked.bug].parts if asked.bug else SOUND
    if asked.seeds:
        first, end = (int(part) for part in asked.seeds.split(":"))
        return _sweep(range(first, end), parts)
    if asked.seed is None:
        parser.error("name a seed, or --seeds A:B")
    return _replay(asked.seed, parts, shows_trace=asked.trace)


def _replay(seed: int, parts: Parts, *, shows_trace: bool) -> int:
    simulation = Simulation(seed, parts=parts, keeps_trace=shows_trace)
    failed = False
    try:
        said = str(simulation.run())
    except Violation as violation:
        failed, said = True, f"seed {seed}: {violation}"
    for line in simulation.world.lines:
        _say(line)
    _say(said)
    return int(failed)


def _sweep(seeds: range, parts: Parts) -> int:
    began = time.perf_counter()
    works = broken = 0
    for number, seed in enumerate(seeds, start=1):
        try:
            works += Simulation(seed, parts=parts).run().works
        except Violation as violation:
            broken += 1
            _say(f"seed {seed}: {violation}")
        if number % _EVERY == 0 or number == len(seeds):
            took = time.perf_counter() - began
            rates = f"{number / took:.1f} seeds/s, {works / took:.0f} device-rounds/s"
            _say(f"{number} seeds, {broken} broken, {rates}")
    return int(broken > 0)


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")


if __name__ == "__main__":
    sys.exit(main())
