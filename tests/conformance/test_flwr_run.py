"""Whoever keeps `flwr run` works with our fleet all the same."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from processes import Programs, events

from conformance.fleet import DEVICES, ConformanceFleet
from conformance.superlink import SuperLink


@pytest.fixture
def superlink(fleet: ConformanceFleet, tmp_path: Path) -> Iterator[SuperLink]:
    """A SuperLink without a SuperNode, on the machine of our gateway."""
    folder = tmp_path / "superlink"
    folder.mkdir()
    link = SuperLink(Programs(folder), nodes=0, WINDFLOWER_STATE=str(fleet.state))
    yield link
    link.end()


def test_flwr_run_works_with_our_fleet(
    fleet: ConformanceFleet, superlink: SuperLink, apps: Path, tmp_path: Path
) -> None:
    app = tmp_path / "averaging"
    shutil.copytree(apps / "averaging", app)
    server = app / "averaging" / "server_app.py"
    changed = server.read_text().replace("@app.main()\n", "@app.main()\n@windflower.on_fleet\n")
    server.write_text(changed.replace("import numpy", "import windflower\nimport numpy"))
    before = len(events(fleet.state, "run-ended"))
    submitted = superlink.run(app, {"text": "said by flwr run", "num-server-rounds": 3})
    assert 0 == submitted.wait(deadline_s=120), submitted.out + submitted.err
    ended = events(fleet.state, "run-ended")[before:]
    closed = [
        (e["type"], e["ok"])
        for e in events(fleet.state, "phase-closed")
        if e["run"] == ended[0]["run"]
    ]

    assert [(True, "the ServerApp ended")] == [(e["success"], e["reason"]) for e in ended]
    assert [("train", len(DEVICES)), ("evaluate", len(DEVICES))] * 3 == closed
    assert "said by flwr run" in submitted.out + submitted.err
