"""Chaos by hand.

python -m chaos --listen 1884 --to 127.0.0.1:1883 --seed 1 --loss 0.3    a relay
python -m chaos --scenarios 30                                           scenarios 0 to 29
python -m chaos --scenario 17                                            one of them
"""

import argparse
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

from chaos.faults import Fault, Faults, Weather, names
from chaos.plan import Plan
from chaos.running import RunningRelay
from chaos.scenario import BrokenError, play, undisturbed


def main() -> int:
    """Do what the command line asks for; 1 when a scenario breaks the rule."""
    parser = argparse.ArgumentParser(
        prog="python -m chaos",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--scenarios", type=int, metavar="N", help="play so many scenarios")
    parser.add_argument("--first", type=int, default=0, help="the seed of the first of them")
    parser.add_argument("--scenario", type=int, metavar="SEED", help="play one; keep its logs")
    parser.add_argument("--rounds", type=int, default=1, help="how long a scenario is")
    kills = parser.add_argument_group("how often a scenario kills")
    kills.add_argument("--gateway-kills", type=int, default=3)
    kills.add_argument("--broker-kills", type=int, default=3)
    kills.add_argument("--agent-kills", type=int, default=3)
    relay = parser.add_argument_group("a relay")
    relay.add_argument("--listen", type=int, metavar="PORT")
    relay.add_argument("--to", metavar="HOST:PORT", help="the broker")
    relay.add_argument("--seed", type=int, default=0)
    relay.add_argument("--ways", choices=["both", "up", "down"], default="both")
    for name, kind, default in names():
        relay.add_argument(f"--{name.replace('_', '-')}", type=kind, default=default)
    asked = parser.parse_args()
    if asked.listen is not None and asked.to:
        return _relay(asked)
    if asked.scenario is not None:
        return _scenarios([asked.scenario], asked)
    if not asked.scenarios:
        parser.error("say --listen and --to, or --scenarios, or --scenario")
    return _scenarios(range(asked.first, asked.first + asked.scenarios), asked)


def _relay(asked: argparse.Namespace) -> int:
    """Relay until Ctrl-C or SIGTERM, then say what was injected."""
    faults = Faults(**{name: getattr(asked, name) for name, _, _ in names()})
    weather = {
        "both": Weather.both_ways(faults),
        "up": Weather(up=faults),
        "down": Weather(down=faults),
    }
    signals = [signal.SIGTERM, signal.SIGINT]
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)  # before there are threads: they inherit it
    with RunningRelay(
        asked.to, seed=asked.seed, weather=weather[asked.ways], port=asked.listen
    ) as running:
        _say(f"{running.url} relays to {asked.to}")
        signal.sigwait(signals)
        counts = ", ".join(f"{running.counts[fault]} {fault}" for fault in Fault)
        _say(f"of {running.messages} messages: {counts}")
        for problem in running.problems:
            _say(problem)
    return 0


def _scenarios(seeds: Iterable[int], asked: argparse.Namespace) -> int:
    place = Path(tempfile.mkdtemp(prefix="chaos-"))
    expected = undisturbed(place / "undisturbed", rounds=asked.rounds)
    broken = 0
    for seed in seeds:
        folder = place / f"{seed}"
        plan = Plan.draw(
            seed,
            rounds=asked.rounds,
            gateway=asked.gateway_kills,
            broker=asked.broker_kills,
            agents=asked.agent_kills,
        )
        try:
            _say(str(play(plan, folder, expected=expected)))
        except BrokenError as error:
            broken += 1
            _say(f"BROKEN {error}")
        else:
            if asked.scenario is None:
                shutil.rmtree(folder)
    if not broken and asked.scenario is None:
        shutil.rmtree(place)
    else:
        _say(f"logs: {place}")
    return int(broken > 0)


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
