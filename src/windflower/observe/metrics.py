"""Numbers of a fleet for Prometheus, counted from events.

Names and units as Prometheus has them: a prefix, base units, `_total` for what only grows. No label
has a value for each device: a fleet of 10,000 would be 10,000 series.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from windflower.core.roster import Presence

_SECONDS: Final = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600)
_AGES: Final = (5.0, 15.0, 30.0, 60.0, 120.0, 300.0, 900.0, 3600.0, 86400.0)


class Metrics:
    """Counts events; it is one of the places where they go.

    Args:
        roster: returns what is known of each device, when somebody asks for the numbers.
        now: the gateway's clock.
        version: of windflower.
    """

    def __init__(
        self,
        roster: Callable[[], Sequence[Presence]],
        now: Callable[[], float],
        *,
        version: str,
    ) -> None:
        registry = self._registry = CollectorRegistry()

        def counter(name: str, help_: str, *labels: str) -> Counter:
            return Counter(f"windflower_{name}", help_, labels, registry=registry)

        def histogram(name: str, help_: str, *labels: str) -> Histogram:
            return Histogram(
                f"windflower_{name}", help_, labels, buckets=_SECONDS, registry=registry
            )

        def gauge(name: str, help_: str, *labels: str) -> Gauge:
            return Gauge(f"windflower_{name}", help_, labels, registry=registry)

        build = gauge("build_info", "Which windflower this is.", "version")
        build.labels(version).set(1)
        self._open: set[str] = set()
        gauge("runs_open", "Runs that are not over.").set_function(lambda: len(self._open))
        self._runs = counter("runs", "Runs that are over.", "outcome")
        self._rounds = counter("rounds", "Rounds that a strategy measured.")
        self._run_s = gauge("run_duration_seconds", "How long the last run took.")
        self._metric = gauge(
            "round_metric", "What a strategy made of the last round.", "stage", "name"
        )
        self._phase_s = histogram("phase_duration_seconds", "How long phases took.", "type")
        self._participants = gauge(
            "phase_devices", "Devices that the last phase asked, by type.", "type"
        )
        self._bytes = counter(
            "payload_bytes", "What passed while a phase was open.", "direction", "path"
        )
        self._commands = counter("commands", "Commands that were published.", "method", "again")
        self._replies = counter("replies", "How exchanges ended.", "method", "outcome")
        self._latency = histogram(
            "command_latency_seconds", "From the first sending to the reply.", "method"
        )
        self._work = histogram("work_duration_seconds", "Work on devices.", "method")
        self._refused = counter("messages_refused", "Messages that were not accepted.")
        self._lost = counter("devices_lost", "How often a device went silent.")
        self._unfit = counter("devices_unfit", "How often a device could not run an app.")
        registry.register(_Fleet(roster, now))
        self._notes: dict[str, Callable[[dict[str, Any]], None]] = {
            "run-started": lambda e: self._open.add(e["run"]),
            "run-left-open": lambda e: self._open.add(e["run"]),
            "run-ended": self._note_end,
            "round-measured": self._note_round,
            "phase-opened": lambda e: self._participants.labels(e["type"]).set(e["devices"]),
            "phase-closed": self._note_phase,
            "command-sent": lambda e: self._commands.labels(
                e["method"], str(e["again"]).lower()
            ).inc(),
            "device-lost": lambda _: self._lost.inc(),
            "device-unfit": lambda _: self._unfit.inc(),
            "message-refused": lambda _: self._refused.inc(),
            **dict.fromkeys(_OUTCOMES, self._note_reply),
        }

    def write(self, line: dict[str, Any]) -> None:
        """Count an event."""
        note = self._notes.get(line["event"])
        if note is not None:
            note(line)

    def _note_end(self, line: dict[str, Any]) -> None:
        self._open.discard(line["run"])
        self._runs.labels("done" if line["success"] else "failed").inc()
        self._run_s.set(line["seconds"])

    def _note_round(self, line: dict[str, Any]) -> None:
        if line["stage"] == "train":
            self._rounds.inc()
        for name, value in line["metrics"].items():
            self._metric.labels(line["stage"], name).set(value)

    def _note_phase(self, line: dict[str, Any]) -> None:
        self._phase_s.labels(line["type"]).observe(line["seconds"])
        for (direction, path), key in _BYTES.items():
            self._bytes.labels(direction, path).inc(line.get("traffic", {}).get(key, 0))

    def _note_reply(self, line: dict[str, Any]) -> None:
        outcome = _OUTCOMES[line["event"]]
        self._replies.labels(line["method"], outcome).inc()
        if outcome == "ok":
            self._latency.labels(line["method"]).observe(line["seconds"])
            self._work.labels(line["method"]).observe(line["worked_s"])

    def text(self) -> bytes:
        """Return the numbers in Prometheus' text format."""
        return generate_latest(self._registry)


_OUTCOMES: Final = {
    "reply-accepted": "ok",
    "reply-failed": "failed",
    "reply-missing": "missing",
    "reply-late": "late",
}


_BYTES: Final = {
    ("sent", "message"): "sent_bytes",
    ("heard", "message"): "heard_bytes",
    ("sent", "blob"): "download_bytes",
    ("heard", "blob"): "upload_bytes",
}


class _Fleet(Collector):
    """Who is there, as it is when somebody asks."""

    def __init__(self, roster: Callable[[], Sequence[Presence]], now: Callable[[], float]) -> None:
        self._roster = roster
        self._now = now

    def collect(self) -> Iterator[Metric]:
        """Yield the fleet's numbers."""
        presences = self._roster()
        online = sum(presence.is_online for presence in presences)
        devices = GaugeMetricFamily(
            "windflower_devices", "Devices that were ever heard.", labels=["state"]
        )
        devices.add_metric(["online"], online)
        devices.add_metric(["offline"], len(presences) - online)
        yield devices
        ages = [self._now() - p.heard_at for p in presences if p.heard_at > 0]
        age = HistogramMetricFamily(
            "windflower_device_heartbeat_age_seconds", "Since devices were last heard."
        )
        age.add_metric([], _buckets(ages), sum(ages))
        yield age


def _buckets(values: Iterable[float]) -> list[tuple[str, float]]:
    listed = list(values)
    counts = [(str(edge), float(sum(v <= edge for v in listed))) for edge in _AGES]
    return [*counts, ("+Inf", float(len(listed)))]
