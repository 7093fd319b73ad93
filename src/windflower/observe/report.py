"""A run as one file that needs nothing else, and as a table.

events of the run ──> Board ──> data ──┬──> HTML: the page's own parts, with the data inside
└──> CSV: one row a measurement, a phase, a reply
"""

import base64
import csv
import hashlib
import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from importlib.resources import files
from typing import Any, Final

from windflower.observe.board import Board, Price
from windflower.observe.timelines import Line

LANES: Final = 40
"""Of each phase so many devices are drawn, those that took longest."""

DRAWN: Final = 60
"""Of so many phases it is drawn who did what, the latest."""

TROUBLED: Final = 100
"""Of so many devices it is told why they did not answer well, those that did so most often."""

_MODULES: Final = ("page/words.js", "page/charts.js", "page/run.js", "report.js")
_EVER: Final = 1 << 30

_COLUMNS: Final = ("kind", "at", "round", "phase", "type", "device", "name", "value", "reason")

FLEET: Final = frozenset(("device-lost", "device-heard"))
"""Events of no run that a report tells too."""
_NEWS: Final = 200


def gather(head: Mapping[str, Any], events: Iterable[Line], price: Price) -> Line:
    """Return what there is to tell of a run.

    Args:
        head: what the journal says of it: run, app, state, and whatever else people should read.
        events: everything that the gateway's log holds, in order.
        price: what traffic costs.
    """
    run, latest = str(head["run"]), 0.0
    board = Board(price, exchanges=_EVER, news=_NEWS, points=_EVER)
    for line in events:
        if line.get("run") == run or line["event"] in FLEET:
            board.replay([line])
        if line.get("run") == run:
            latest = line["at"]
    told = board.run(run) or {**board.unknown(run), **head}
    news = [item for item in board.summary([], latest)["news"] if item["at"] <= latest]
    timelines = {
        str(phase["number"]): board.timeline(run, phase["number"], latest)
        for phase in told["phases"]
    }
    return {
        "head": dict(head),
        "run": told,
        "now": latest,
        "news": news,
        "timelines": timelines,
        "trouble": _trouble(timelines.values()),
    }


def _trouble(timelines: Iterable[Line | None]) -> Line:
    """Return who did not answer well: how many, and of the worst how often, and why at last."""
    rows: dict[str, Line] = {}
    for told in timelines:
        for exchange in told["exchanges"] if told is not None else ():
            if exchange["outcome"] not in (None, "ok"):
                device, reason = exchange["device"], exchange["reason"] or ""
                times = rows.get(device, {}).get("times", 0) + 1
                row = {"device": device, "times": times, "outcome": exchange["outcome"]}
                rows[device] = {**row, "reason": reason}
    worst = sorted(rows.values(), key=lambda row: -row["times"])[:TROUBLED]
    return {"count": len(rows), "devices": worst}


# ------------------------------------------------------------------------------------- HTML


def to_html(report: Line) -> str:
    """Return one HTML file: no other file, no host is asked, and no script but its own runs."""
    style, uplot = _file("page/style.css"), _file("page/uplot.js")
    script = "\n".join(_plain(_file(name)) for name in _MODULES)
    policy = (
        f"default-src 'none'; script-src {_hash(uplot)} {_hash(script)};"
        f" style-src {_hash(style)}; base-uri 'none'; form-action 'none'"
    )
    data = json.dumps(_drawn(report)).replace("<", "\\u003c")
    title = f"{report['run']['app']}, run {report['run']['run']}"
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="content-security-policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{_escaped(title)}</title>\n<style>{style}</style>\n</head>\n<body>\n"
        '<main id="main"></main>\n'
        f'<script type="application/json" id="report">{data}</script>\n'
        f"<script>{uplot}</script>\n"
        f'<script type="module">{script}</script>\n</body>\n</html>\n'
    )


def _drawn(report: Line) -> Line:
    """Cut the timelines to what people look at."""
    kept = list(report["timelines"].items())[-DRAWN:]
    timelines = {
        number: {
            **told,
            "exchanges": told["exchanges"][:LANES],
            "count": len(told["exchanges"]),
            "now": report["now"],
        }
        for number, told in kept
        if told is not None
    }
    return {**report, "timelines": timelines}


def _file(name: str) -> str:
    return files("windflower.observe").joinpath(name).read_text()


def _plain(module: str) -> str:
    """Return a module as a part of one script: nothing is imported, nothing exported."""
    without = re.sub(r"^import .*?;\n", "", module, flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"^export ", "", without, flags=re.MULTILINE)


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;")


# -------------------------------------------------------------------------------------- CSV


def to_csv(report: Line) -> str:
    """Return one table: `kind` says whether a row is a measurement, a phase or a reply."""
    text = io.StringIO()
    table = csv.DictWriter(text, _COLUMNS, restval="")
    table.writeheader()
    table.writerows(_rows(report))
    return text.getvalue()


def _rows(report: Line) -> Iterator[dict[str, Any]]:
    for point in report["run"]["measured"]:
        where = {"at": point["at"], "round": point["round"], "type": point["stage"]}
        for name, value in point["metrics"].items():
            yield {"kind": "measurement", **where, "name": name, "value": value}
    for phase in report["run"]["phases"]:
        where = {key: phase[key] for key in ("round", "type")} | {"phase": phase["number"]}
        for name in ("devices", "ok", "failed", "late", "worked_s", "wasted_s", "dollars"):
            yield {
                "kind": "phase", "at": phase["opened_at"], **where,
                "name": name, "value": phase[name],
            }  # fmt: skip
        told = report["timelines"].get(str(phase["number"]))
        for exchange in told["exchanges"] if told is not None else ():
            yield {"kind": "reply", **where, **_reply(exchange)}


def _reply(exchange: Mapping[str, Any]) -> dict[str, Any]:
    seconds = None
    if exchange["ended_at"] is not None:
        seconds = round(exchange["ended_at"] - exchange["sent_at"], 4)
    return {
        "at": exchange["sent_at"],
        "device": exchange["device"],
        "name": exchange["outcome"] or "open",
        "value": seconds,
        "reason": _no_formula(exchange["reason"] or ""),
    }


def _no_formula(text: str) -> str:
    """Keep a spreadsheet from reckoning with what a device says."""
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text
