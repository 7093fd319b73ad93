"""Kill real processes before each of their effects.

python -m crash agent 37              see one case again: its folder stays
python -m crash agent 37 5 gateway 9  the same with more deaths: of the next life, of another
python -m crash --list                the effects, by number
python -m crash --all                 a death before each effect in turn
python -m crash --chunk 3/16          before every sixteenth of them, from the third on
python -m crash --nested 500          so many cases with two deaths, drawn by --seed
python -m crash --bug state-apart     plant a bug first, and look for it where it may show
"""

import argparse
import json
import random
import sys
from dataclasses import asdict

from crash.bugs import BUGS
from crash.case import Verdict
from crash.deaths import Effects, Plan, every, near, nested, plan_of
from crash.sweep import LANES, sweep


def main() -> int:
    """Do what the command line asks for; 1 when a case does not end as it should."""
    parser = argparse.ArgumentParser(
        prog="python -m crash",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("deaths", nargs="*", help="a role, and before which effects its lives end")
    add("--list", action="store_true", help="say what is numbered how")
    add("--all", action="store_true", help="each effect in turn")
    add("--chunk", metavar="K/N", help="a part of all")
    add("--nested", type=int, metavar="N", help="so many cases with two deaths")
    add("--bug", choices=sorted(BUGS), default="", help="plant this bug")
    add("--seed", type=int, default=0, help="draws nested cases (0)")
    add("--lanes", type=int, default=LANES, help=f"so many cases at a time ({LANES})")
    asked = parser.parse_args()
    with sweep(keeps=bool(asked.deaths), bug=asked.bug) as opened:
        effects = opened.effects()
        if asked.list:
            return _list(effects)
        tally = opened.run(_plans(asked, effects), _show, lanes=asked.lanes)
    points = {role: len(listed) for role, listed in effects.items()}
    _say(json.dumps({"points": points} | asdict(tally)))
    return int(bool(tally.failed))


def _plans(asked: argparse.Namespace, effects: Effects) -> list[Plan]:
    if asked.deaths:
        return [plan_of(asked.deaths)]
    if asked.nested:
        return list(nested(effects, asked.nested, random.Random(asked.seed)))
    if asked.chunk:
        number, chunks = map(int, asked.chunk.split("/"))
        return every(effects)[number::chunks]
    if asked.bug and not asked.all:
        return near(effects, BUGS[asked.bug].role, BUGS[asked.bug].near)
    return every(effects)


def _list(effects: Effects) -> int:
    for role, listed in effects.items():
        for number, what in enumerate(listed, start=1):
            _say(f"{role} {number}: {what}")
    return 0


def _show(verdict: Verdict) -> None:
    if verdict.problems:
        killed = ", ".join(verdict.killed)
        _say(f"{verdict.plan} (killed before: {killed}):")
        for problem in verdict.problems:
            _say(f"  {problem}")
        _say(f"  again: PYTHONPATH=src:tests python -m crash {verdict.plan}")


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
