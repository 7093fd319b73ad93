"""`windflower doctor` on this machine."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from certificates import Authority, make_certificates
from processes import MOSQUITTO, Programs, events, free_port, until

PASSWD = shutil.which("mosquitto_passwd")
needs_mosquitto = pytest.mark.skipif(
    MOSQUITTO is None or PASSWD is None, reason="mosquitto and mosquitto_passwd are not installed"
)

Findings = dict[str, dict[str, Any]]


def examine(programs: Programs, state: Path, **environment: str) -> tuple[int, Findings]:
    """Return the exit code, and the findings by subject."""
    asked = programs.windflower(
        *("doctor", "--state", str(state), "--format", "json"), name="doctor", **environment
    )
    code = asked.wait()
    assert "secret" not in asked.out + asked.err
    return code, {finding["subject"]: finding for finding in asked.last["findings"]}


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """Listen, and say nothing to whoever connects."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def test_it_says_what_is_there_and_ends_well(programs: Programs, tmp_path: Path) -> None:
    code, found = examine(programs, tmp_path / "state")

    assert 0 == code
    assert ["versions", "gateway", "broker", "state", "clock"] == list(found)
    assert {"ok"} >= {found[subject]["level"] for subject in ("versions", "broker", "clock")}


def test_without_a_broker_it_says_what_to_do(programs: Programs, tmp_path: Path) -> None:
    code = (
        "import shutil, sys, importlib.util as u; shutil.which = lambda *a, **k: None;"
        "u.find_spec = lambda *a: None; from windflower.cli.main import main; main()"
    )
    asked = programs.start(
        *(sys.executable, "-c", code, "doctor", "--state", str(tmp_path)), name="doctor"
    )

    assert 1 == asked.wait()
    assert "problem  broker: there is none on this machine" in asked.out
    assert "apt install mosquitto" in asked.out


@pytest.mark.parametrize(
    ("broker", "says"),
    [
        (f"mqtt://me:secret@127.0.0.1:{free_port()}", "nobody listens on 127.0.0.1"),
        ("mqtt://me:secret@nowhere.invalid", "the name in nowhere.invalid:1883 is not known"),
        ("http://me:secret@127.0.0.1", "is no broker address"),
    ],
    ids=["nobody", "no name", "no address"],
)
def test_a_broker_that_cannot_be_there_is_said(
    programs: Programs, tmp_path: Path, broker: str, says: str
) -> None:
    code, found = examine(programs, tmp_path, WINDFLOWER_BROKER=broker)

    assert (1, "problem") == (code, found["broker"]["level"])
    assert says in found["broker"]["says"]


@needs_mosquitto
def test_tls_and_permissions_are_told_apart(programs: Programs, tmp_path: Path) -> None:
    ca, certificate, key = make_certificates(tmp_path)
    (tmp_path / "other").mkdir()
    stranger = Authority(tmp_path / "other").file
    passwords, acl = tmp_path / "passwords", tmp_path / "acl"
    subprocess.run([str(PASSWD), "-c", "-b", str(passwords), "fleet", "secret"], check=True)
    acl.write_text("user fleet\ntopic readwrite east/#\n")
    _, address = programs.mosquitto(
        *("allow_anonymous false", f"password_file {passwords}", f"acl_file {acl}"),
        *(f"cafile {ca}", f"certfile {certificate}", f"keyfile {key}"),
    )
    good = {
        "WINDFLOWER_BROKER": address.replace("mqtt://", "mqtts://fleet:secret@") + "/east",
        "WINDFLOWER_BROKER_CA": str(ca),
    }
    wrong: dict[str, dict[str, str]] = {
        "certificate that we do not accept": {"WINDFLOWER_BROKER_CA": str(stranger)},
        "of ours cannot be read": {"WINDFLOWER_BROKER_CA": str(tmp_path / "none.pem")},
        "does not speak MQTT 5": {"WINDFLOWER_BROKER": address},
        "not authorised": {"WINDFLOWER_BROKER": good["WINDFLOWER_BROKER"].replace("secret", "x")},
    }

    code, found = examine(programs, tmp_path, **good)
    assert (0, "ok") == (code, found["broker"]["level"]), found["broker"]
    for says, change in wrong.items():
        code, found = examine(programs, tmp_path, **{**good, **change})
        assert (1, "problem") == (code, found["broker"]["level"])
        assert says in found["broker"]["says"]
        assert found["broker"]["fix"]


@needs_mosquitto
def test_tls_to_who_speaks_none_is_said(programs: Programs, tmp_path: Path) -> None:
    _, address = programs.mosquitto()
    broker = address.replace("mqtt://", "mqtts://")
    code, found = examine(programs, tmp_path, WINDFLOWER_BROKER=broker)

    assert 1 == code
    assert "127.0.0.1" in found["broker"]["says"]
    assert "we do not agree on TLS" in found["broker"]["says"]


def test_who_holds_a_port_is_named(
    programs: Programs, tmp_path: Path, listener: socket.socket
) -> None:
    port = listener.getsockname()[1]
    code, found = examine(
        programs,
        tmp_path,
        WINDFLOWER_BLOBS=f":{port}",
        WINDFLOWER_PAGE=f"127.0.0.1:{free_port()}",
    )

    levels = (found["blobs port"]["level"], found["page port"]["level"])
    assert (1, "problem", "ok") == (code, *levels)
    assert f"(pid {os.getpid()})" in found["blobs port"]["says"]


def test_room_that_may_not_do_is_a_warning(programs: Programs, tmp_path: Path) -> None:
    code, found = examine(programs, tmp_path, WINDFLOWER_KEEP_GB="1e9")

    assert (0, "warning") == (code, found["state"]["level"])
    assert "keep_gb" in found["state"]["fix"]


def test_a_clock_that_went_back_is_a_problem(programs: Programs, tmp_path: Path) -> None:
    line = {"at": time.time() + 3600, "event": "broker-connected", "broker": "x"}
    (tmp_path / "events.jsonl").write_text(json.dumps(line) + "\n")
    code, found = examine(programs, tmp_path)

    assert (1, "problem") == (code, found["clock"]["level"])


@needs_mosquitto
def test_a_gateway_that_runs_is_asked(programs: Programs, tmp_path: Path) -> None:
    state = tmp_path / "state"
    port = free_port()
    served = programs.windflower(
        *("serve", "--state", str(state), "--format", "json", "--blobs", f":{port}"),
        name="serve",
    )
    until(lambda: served.out, "the gateway")
    ahead = (
        "import sys, time; now = time.time; time.time = lambda: now() + 3600;"
        "import windflower; windflower.__version__ = '0.0.9';"
        "from windflower.agent.__main__ import main; sys.exit(main())"
    )
    programs.start(
        *(sys.executable, "-c", ahead, "--broker", json.loads(served.out)["broker"]),
        *("--device-id", "watch-9", "--state", str(tmp_path / "device"), "--interval", "0.5"),
        name="watch-9",
    )

    def heard() -> Findings | None:
        code, found = examine(programs, state, WINDFLOWER_BLOBS=f":{port}")
        assert 0 == code
        return found if found["devices"]["level"] == "warning" else None

    found = until(heard, "the device's clock")
    assert "watch-9 by +3600 s" in found["devices"]["says"]
    assert "1 of 1 are not windflower" in found["agents"]["says"]
    assert "watch-9 is windflower 0.0.9, Python 3." in found["agents"]["says"]
    assert "ok" == found["blobs"]["level"]
    assert f"{port} is our gateway's, which runs" == found["blobs port"]["says"]


@needs_mosquitto
def test_a_gateway_says_how_it_gets_on_with_its_broker(programs: Programs, tmp_path: Path) -> None:
    """It was told by a flag where that is, which the settings do not know."""
    state = tmp_path / "state"
    broker, address = programs.mosquitto()
    served = programs.windflower("serve", "--state", str(state), "--broker", address, name="serve")
    until(lambda: "The gateway serves." in served.out, "the gateway")
    code, found = examine(programs, state)

    assert (0, "ok") == (code, found["broker"]["level"])
    assert f"{address} (external), to which" in found["broker"]["says"]
    assert "page    http://127.0.0.1:" in served.out

    broker.kill()
    until(lambda: "the broker is lost" in served.err, "the gateway to notice")
    code, found = examine(programs, state)

    assert (1, "problem") == (code, found["broker"]["level"])
    assert f"{address} (external) is lost since" in found["broker"]["says"]
    assert "ok" == found["gateway"]["level"]

    ls = programs.windflower("devices", "ls", "--state", str(state), name="devices")
    assert 0 == ls.wait()
    assert "The broker is lost since" in ls.out
    assert "whoever goes is not said to be offline" in ls.out

    served.kill()
    code, found = examine(programs, state)

    assert (0, "warning") == (code, found["gateway"]["level"])
    assert "it was killed" in found["gateway"]["says"]


@needs_mosquitto
def test_a_broker_that_stays_away_is_said_once(programs: Programs, tmp_path: Path) -> None:
    state = tmp_path / "state"
    broker, address = programs.mosquitto()
    served = programs.windflower("serve", "--state", str(state), "--broker", address, name="serve")
    until(lambda: "The gateway serves." in served.out, "the gateway")
    broker.kill()
    broker.wait()
    port = int(address.rpartition(":")[2])
    with socket.create_server(("127.0.0.1", port)) as instead:
        for _ in range(3):  # it hangs up on whoever tries
            instead.settimeout(30)
            instead.accept()[0].close()
    reasons = [event["reason"] for event in events(state, "broker-lost")]

    assert 1 <= len(reasons) <= 2
    assert len(set(reasons)) == len(reasons)
