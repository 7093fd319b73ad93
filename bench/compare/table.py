"""What is shown of the outcomes."""

from collections.abc import Sequence

from compare.course import Course, Incident, Outcome
from compare.place import Work

BEFELL = {
    Incident.CUT: "the link was cut",
    Incident.KILL: "SuperLink or gateway was killed",
    Incident.CRASH: "all that coordinates was killed",
}


def table(outcomes: Sequence[Outcome], work: Work, course: Course) -> str:
    """Return a table for people: a column for each system."""
    rows = {
        f"rounds finished, of {work.rounds}": [str(o.account.finished) for o in outcomes],
        "seconds": [_seconds(o) for o in outcomes],
        "runs started by hand": [str(o.runs) for o in outcomes],
        "trainings done": [str(o.account.executed) for o in outcomes],
        "  of them lost": [str(o.account.lost) for o in outcomes],
        "MB over the link": [f"{o.sent_bytes / 1e6:.1f}" for o in outcomes],
        **{
            f"s to the next round when {BEFELL[incident]}": [_back(o, incident) for o in outcomes]
            for incident in course.incidents
        },
        **(_idle(outcomes) if course.idle_s else {}),
        "MB of memory of a device at most": [f"{o.peak_mb:.0f}" for o in outcomes],
    }
    lines = [["", *(o.system for o in outcomes)], *([what, *cells] for what, cells in rows.items())]
    first, *others = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join([what.ljust(first), *(c.rjust(w) for c, w in zip(cells, others, strict=True))])
        for what, *cells in lines
    )


def _idle(outcomes: Sequence[Outcome]) -> dict[str, list[str]]:
    return {
        "bytes of an idle device in a minute": [f"{o.idle_bytes:.0f}" for o in outcomes],
        "MB of memory of an idle device": [f"{o.idle_mb:.0f}" for o in outcomes],
    }


def _seconds(outcome: Outcome) -> str:
    seconds = f"{outcome.seconds:.0f}"
    return seconds if outcome.account.is_over else f"no end in {seconds}"


def _back(outcome: Outcome, incident: Incident) -> str:
    seconds = outcome.back_after_s.get(incident)
    return "never" if seconds is None else f"{seconds:.0f}"
