"""Replay one seed or sweep many.

python -m sim SEED [--trace]
python -m sim --seeds A:B
python -m sim --device-rounds N [--seeds A:] [--processes 2]
"""

import argparse
import itertools
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from multiprocessing import Pool

from sim.bugs import BUGS
from sim.parts import SOUND, Parts
from sim.simulation import Simulation
from sim.world import Violation

_EVERY_S = 10.0
_CHUNK = 10


@dataclass(frozen=True, slots=True)
class Sweep:
    """Which seeds to run, and when it is enough.

    Attributes:
        seeds: in this order.
        works: so many device-rounds are enough; None takes all seeds.
        bug: what is planted.
        processes: how many seeds run at once.
    """

    seeds: Iterable[int]
    works: int | None
    bug: str | None
    processes: int


def main() -> int:
    """Run what the command line asks for; 1 when a rule is broken."""
    parser = argparse.ArgumentParser(
        prog="python -m sim", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("seed", type=int, nargs="?", help="replay this seed")
    parser.add_argument("--trace", action="store_true", help="print all that happens")
    parser.add_argument("--seeds", metavar="A:B", help="sweep the seeds from A to before B")
    parser.add_argument("--device-rounds", type=int, metavar="N", help="sweep until N were done")
    parser.add_argument("--processes", type=int, default=1, help="sweep in so many processes")
    parser.add_argument("--bug", choices=sorted(BUGS), help="plant this bug first")
    asked = parser.parse_args()
    if asked.seeds or asked.device_rounds:
        first, _, end = (asked.seeds or "0:").partition(":")
        if not end and asked.device_rounds is None:
            parser.error("name the end of --seeds, or --device-rounds")
        seeds = range(int(first), int(end)) if end else itertools.count(int(first))
        return _sweep(Sweep(seeds, asked.device_rounds, asked.bug, asked.processes))
    if asked.seed is None:
        parser.error("name a seed, --seeds or --device-rounds")
    return _replay(asked.seed, _parts(asked.bug), shows_trace=asked.trace)


def _parts(bug: str | None) -> Parts:
    return BUGS[bug].parts if bug else SOUND


def _replay(seed: int, parts: Parts, *, shows_trace: bool) -> int:
    simulation = Simulation(seed, parts=parts, keeps_trace=shows_trace)
    failed = False
    try:
        said = str(simulation.run())
    except Violation as violation:
        failed, said = True, f"seed {seed}: {violation}"
    for line in simulation.world.lines():
        _say(line)
    _say(said)
    return int(failed)


def _sweep(sweep: Sweep) -> int:
    began = said_at = time.perf_counter()
    seeds = works = broken = 0
    for done, problem in _results(sweep):
        seeds, works = seeds + 1, works + done
        if problem:
            broken += 1
            _say(problem)
        is_enough = sweep.works is not None and works >= sweep.works
        if is_enough or time.perf_counter() - said_at > _EVERY_S:
            said_at = time.perf_counter()
            _say(_progress(seeds, works, broken, said_at - began))
        if is_enough:
            return int(broken > 0)
    _say(_progress(seeds, works, broken, time.perf_counter() - began))
    return int(broken > 0)


def _progress(seeds: int, works: int, broken: int, took_s: float) -> str:
    rate = f"{works / took_s:,.0f} device-rounds/s"
    return f"{seeds:,} seeds, {works:,} device-rounds, {broken} broken, {took_s:,.0f} s, {rate}"


def _results(sweep: Sweep) -> Iterator[tuple[int, str | None]]:
    """Yield what each seed did and what it broke, in the order of the seeds."""
    if sweep.processes == 1:
        yield from (_result((seed, sweep.bug)) for seed in sweep.seeds)
        return
    with Pool(sweep.processes) as pool:
        seeds = iter(sweep.seeds)
        while some := list(itertools.islice(seeds, 20 * _CHUNK * sweep.processes)):
            yield from pool.imap(_result, [(seed, sweep.bug) for seed in some], chunksize=_CHUNK)


def _result(asked: tuple[int, str | None]) -> tuple[int, str | None]:
    seed, bug = asked
    try:
        return Simulation(seed, parts=_parts(bug)).run().works, None
    except Violation as violation:
        return 0, f"seed {seed}: {violation}"


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
