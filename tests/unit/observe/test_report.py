"""A report is one file that needs nothing else, and a table with the same facts."""

import csv
import io
import json
import re
from typing import Any

from samples import PlainPrice

from windflower.observe.report import LANES, gather, to_csv, to_html

RUN = {"run": "1-a"}
HEAD = {"run": "1-a", "app": "w", "state": "done"}
TRAFFIC = dict.fromkeys(("commands", "controls", "replies", "heartbeats", "sent_bytes"), 1)


def exchange(event: str, device: str, at: float, **more: Any) -> dict[str, Any]:  # noqa: ANN401
    asked = {"device": device, "command": f"c-{device}", "method": "fit"}
    return {"event": event, "at": at, **RUN, **asked, **more}


EVENTS: list[dict[str, Any]] = [
    {"event": "run-started", "at": 1.0, **RUN, "app": "w", "bundle": "b0"},
    {"event": "run-started", "at": 1.5, "run": "2-b", "app": "another", "bundle": "b0"},
    {"event": "phase-opened", "at": 2.0, **RUN, "phase": 1, "type": "train", "round": 1,
     "devices": 2, "ok": 0, "failed": 0, "late": 0},
    exchange("command-sent", "d0", 2.0, again=False),
    exchange("command-sent", "d1", 2.0, again=False),
    exchange("reply-accepted", "d0", 4.0, worked_s=1.5),
    exchange("reply-failed", "d1", 5.0, reason="it said </script><b>'no',\nand \"why\""),
    {"event": "phase-closed", "at": 5.0, **RUN, "phase": 1, "type": "train", "ok": 1, "failed": 1,
     "late": 0, "worked_s": 1.5, "failed_s": 0.0, "traffic": TRAFFIC},
    {"event": "round-measured", "at": 5.5, **RUN, "round": 1, "stage": "train",
     "metrics": {"loss": 0.25}},
    {"event": "run-ended", "at": 6.0, **RUN, "success": True, "reason": "r", "seconds": 5.0},
    {"event": "device-lost", "at": 9.0, "device": "d1", "silent_s": 1.0},
]  # fmt: skip


def report() -> dict[str, Any]:
    return gather(HEAD, EVENTS, PlainPrice())


def test_the_table_holds_each_measurement_each_phase_and_each_reply() -> None:
    rows = list(csv.DictReader(io.StringIO(to_csv(report()))))

    assert [("1", "loss", "0.25")] == [
        (r["round"], r["name"], r["value"]) for r in rows if r["kind"] == "measurement"
    ]
    assert {"devices": "2", "ok": "1", "failed": "1", "dollars": "3.0"}.items() <= {
        r["name"]: r["value"] for r in rows if r["kind"] == "phase"
    }.items()
    assert [("d1", "failed", "3.0"), ("d0", "ok", "2.0")] == [
        (r["device"], r["name"], r["value"]) for r in rows if r["kind"] == "reply"
    ]
    assert "it said </script><b>'no',\nand \"why\"" == rows[-2]["reason"]


def test_the_file_holds_its_data_and_no_way_out_of_it() -> None:
    html = to_html(report())
    held = re.findall(r'<script type="application/json" id="report">(.*?)</script>', html)

    assert 1 == len(held)
    assert "it said </script><b>'no',\nand \"why\"" in held[0].encode().decode("unicode_escape")
    assert report()["run"]["phases"] == json.loads(held[0])["run"]["phases"]
    assert not re.search(r'(src|href)="?(https?:)?//', html)
    assert not re.search(r"^(import|export) ", html, re.MULTILINE)
    assert 3 == html.count("'sha256-")


def test_who_failed_is_told_however_fast_that_was() -> None:
    """Only the slowest are drawn; a device that lacks a package fails at once."""
    asked = [exchange("command-sent", f"x{n}", 2.0, again=False) for n in range(2 * LANES)]
    ended = [exchange("reply-accepted", f"x{n}", 5.5, worked_s=1.0) for n in range(2 * LANES)]
    told = gather(HEAD, [*EVENTS[:7], *asked, *ended, *EVENTS[7:]], PlainPrice())
    (data,) = re.findall(r'id="report">(.*?)</script>', to_html(told))
    trouble = json.loads(data)["trouble"]

    assert "d1" not in {e["device"] for e in json.loads(data)["timelines"]["1"]["exchanges"]}
    assert [("d1", 1, "failed")] == [
        (row["device"], row["times"], row["outcome"]) for row in trouble["devices"]
    ]
    assert 1 == trouble["count"]


def test_a_device_cannot_make_a_spreadsheet_reckon() -> None:
    failed = exchange("reply-failed", "d1", 5.0, reason="=HYPERLINK(1)")
    told = gather(HEAD, [*EVENTS[:6], failed], PlainPrice())

    assert "'=HYPERLINK(1)" in to_csv(told)


def test_what_another_run_did_and_what_came_after_is_left_out() -> None:
    told = report()

    assert "2-b" not in json.dumps(told)
    assert "d1 is lost" not in json.dumps(told["news"])


def test_a_run_whose_log_is_gone_is_told_of_by_the_journal_alone() -> None:
    told = gather(HEAD, [], PlainPrice())

    assert "w" == told["run"]["app"]
    assert ["kind,at,round,phase,type,device,name,value,reason"] == to_csv(told).split()
    assert "w, run 1-a" in to_html(told)
