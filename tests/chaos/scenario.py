"""One run of a real fleet in bad weather, while its processes are killed.

The rule is short: the run ends with success, and its model is, bit for bit, the one that the same
seed gives when nothing goes wrong.
"""

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from processes import Program, Programs, until

from chaos.faults import Fault
from chaos.plan import DEVICES, Plan, Victim
from chaos.real_fleet import RealFleet, real_fleet

APP: Final = Path(__file__).parents[1] / "apps" / "averaging"
RUN_SEED: Final = 7
NUMBERS: Final = 30_000
"""Of four bytes each: too many for a message, so they travel as blobs over HTTP."""

PROGRESS_S: Final = 120.0
"""A run that makes no progress for so long is stuck."""


class BrokenError(AssertionError):
    """A scenario broke the rule."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a scenario came to.

    Attributes:
        seed: what it was drawn from.
        kills: how often which process was killed.
        seconds: how long the run took.
        messages: how many messages passed the relay, harmed or not.
        faults: how many of each kind the relay injected.
        sent_again: how many commands the gateway sent more than once.
        restarts: how often the gateway ended by itself, and was started again.
    """

    seed: int
    kills: Counter[Victim]
    seconds: float
    messages: int
    faults: Counter[Fault]
    sent_again: int
    restarts: int

    def __str__(self) -> str:
        faults = ", ".join(f"{self.faults[fault]} {fault}" for fault in Fault)
        kills = ", ".join(f"{victim} {count}x" for victim, count in sorted(self.kills.items()))
        return (
            f"seed {self.seed}: {self.seconds:.1f} s; killed: {kills}; of {self.messages}"
            f" messages {faults}; {self.sent_again} commands again; {self.restarts} restarts"
        )


def undisturbed(folder: Path, *, rounds: int) -> str:
    """Return the hash of the model when nothing goes wrong."""
    folder.mkdir(parents=True, exist_ok=True)
    programs = Programs(folder)
    try:
        run = programs.windflower(
            *_run_arguments(folder / "state", rounds),
            *("--devices", str(DEVICES)),
            name="undisturbed",
        )
        if run.wait(deadline_s=PROGRESS_S) != 0:
            raise BrokenError(f"the undisturbed run failed:\n{run.err}")
        return str(run.last["model-hash"])
    finally:
        programs.end_all()


def play(plan: Plan, folder: Path, *, expected: str) -> Outcome:
    """Play one scenario.

    Args:
        plan: what happens.
        folder: where every process keeps its state and its log.
        expected: the hash of the undisturbed model.

    Raises:
        BrokenError: the run failed, got stuck, or gave another model; says how to replay it.
    """
    with real_fleet(folder, plan) as (fleet, programs, relay):
        fleet.wait_for_all()
        began = time.monotonic()
        run = programs.windflower(
            *_run_arguments(fleet.state, plan.rounds), *("--limit", str(DEVICES)), name="run"
        )
        stage = _Stage(plan, fleet, run)
        stage.wait(lambda: fleet.events.count("phase-opened") > 0, "the first phase")
        relay.weather = plan.weather
        kills: Counter[Victim] = Counter()
        for kill in plan.kills:
            if stage.wait(lambda k=kill: _accepted(fleet) >= k.after, str(kill)):  # type: ignore[misc]
                fleet.kill(kill)
                kills[kill.victim] += 1
        stage.wait(lambda: False, "the end of the run")
        seconds = time.monotonic() - began
        stage.judge(expected, relay.problems)
        sent_again = fleet.events.count("command-sent") - plan.replies
        return Outcome(
            plan.seed, kills, seconds, relay.messages, relay.counts, sent_again, fleet.restarts
        )


class _Stage:
    """Watches one run while a plan is played."""

    def __init__(self, plan: Plan, fleet: RealFleet, run: Program) -> None:
        self._plan = plan
        self._fleet = fleet
        self._run = run

    def wait(self, condition: Callable[[], bool], what: str) -> bool:
        """Wait for a condition or the end of the run; return whether the run goes on."""

        def is_over() -> bool:
            self._fleet.keep()
            return self._run.process.poll() is not None or condition()

        try:
            until(is_over, what, deadline_s=PROGRESS_S)
        except AssertionError as error:
            raise self._broken(str(error)) from None
        return self._run.process.poll() is None

    def judge(self, expected: str, problems: list[str]) -> None:
        """Check what the run came to."""
        if self._run.process.returncode != 0:
            raise self._broken(f"the run ended with code {self._run.process.returncode}")
        replies = {"ok": self._plan.replies, "failed": 0, "late": 0}
        if self._run.last["replies"] != replies:
            raise self._broken(f"replies {self._run.last['replies']} instead of {replies}")
        if self._fleet.events.count("run-started") != 1:
            raise self._broken("more than one run was started")
        if self._run.last["model-hash"] != expected:
            raise self._broken(f"model {self._run.last['model-hash']} instead of {expected}")
        if problems:
            raise self._broken(f"the relay did not understand: {problems}")

    def _broken(self, what: str) -> BrokenError:
        plan = self._plan
        lines = [
            f"seed {plan.seed}: {what}",
            f"{_accepted(self._fleet)} of {plan.replies} replies were accepted",
            f"kills planned: {', '.join(map(str, plan.kills))}",
            "the run said:",
            *(f"  {line}" for line in self._run.err.splitlines()[-12:]),
            f"logs: {self._fleet.folder}",
            f"replay: PYTHONPATH=src:tests python -m chaos --scenario {plan.seed} {_options(plan)}",
        ]
        return BrokenError("\n".join(lines))


def _accepted(fleet: RealFleet) -> int:
    return fleet.events.count("reply-accepted")


def _run_arguments(state: Path, rounds: int) -> list[str]:
    config = f"num-server-rounds={rounds} numbers={NUMBERS} min-nodes={DEVICES} timeout-s=600.0"
    return [
        *("run", str(APP), "--seed", str(RUN_SEED), "--strict", "--state", str(state)),
        *("--format", "json", "-c", config),
    ]


def _options(plan: Plan) -> str:
    """Return the options that draw the same plan."""
    kills = Counter(kill.victim for kill in plan.kills)
    victims: tuple[Victim, ...] = ("gateway", "broker", "agent")
    counts = " ".join(f"--{victim}-kills {kills[victim]}" for victim in victims)
    return f"--rounds {plan.rounds} {counts}"
