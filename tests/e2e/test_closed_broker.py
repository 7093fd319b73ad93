"""A broker that wants a password and speaks TLS only: simulated devices get in as their gateway."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from certificates import make_certificates
from processes import MOSQUITTO, Program, Programs, children_of, events, until

PASSWD = shutil.which("mosquitto_passwd")
PASSWORD = "p@ss:word/%41"  # noqa: S105 - of a broker that lives for a test

pytestmark = pytest.mark.skipif(
    MOSQUITTO is None or PASSWD is None, reason="mosquitto and mosquitto_passwd are not installed"
)


@pytest.fixture
def environment(programs: Programs, tmp_path: Path) -> dict[str, str]:
    """Start the broker; return the settings with which a gateway gets in."""
    ca, certificate, key = make_certificates(tmp_path)
    passwords, acl = tmp_path / "passwords", tmp_path / "acl"
    subprocess.run([str(PASSWD), "-c", "-b", str(passwords), "fleet", PASSWORD], check=True)
    acl.write_text("user fleet\ntopic readwrite east/#\n")
    _, address = programs.mosquitto(
        *("allow_anonymous false", f"password_file {passwords}", f"acl_file {acl}"),
        *(f"cafile {ca}", f"certfile {certificate}", f"keyfile {key}"),
    )
    return {
        "WINDFLOWER_BROKER": address.replace("mqtt://", "mqtts://fleet:p%40ss%3Aword%2F%2541@")
        + "/east",
        "WINDFLOWER_BROKER_CA": str(ca),
        "WINDFLOWER_STATE": str(tmp_path / "state"),
    }


@pytest.fixture
def run(programs: Programs, apps: Path) -> Callable[..., Program]:
    def start(**environment: str) -> Program:
        return programs.windflower(
            *("run", str(apps / "averaging"), "--devices", "2", "--format", "json"),
            name="run",
            **environment,
        )

    return start


def test_simulated_devices_get_in_as_the_gateway_of_their_run(
    run: Callable[..., Program], environment: dict[str, str], tmp_path: Path
) -> None:
    started = run(**environment)
    until(lambda: len(events(tmp_path / "state", "device-heard")) == 2, "the devices")
    shown = [Path(f"/proc/{pid}/cmdline") for pid in children_of(started.process.pid)]
    lines = [path.read_text() for path in shown if path.exists()]

    assert 0 == started.wait(), started.err
    assert {"ok": 8, "failed": 0, "late": 0} == started.last["replies"]
    assert not [line for line in lines if "p%40ss" in line]
    assert not list((tmp_path / "state").glob("access.json"))


def test_simulated_devices_get_in_as_a_gateway_that_stays(
    programs: Programs,
    run: Callable[..., Program],
    environment: dict[str, str],
    tmp_path: Path,
) -> None:
    serve = programs.windflower("serve", "--format", "json", name="serve", **environment)
    until(lambda: serve.out, "the gateway")
    started = run(WINDFLOWER_STATE=str(tmp_path / "state"))

    assert 0 == started.wait(), started.err
    assert {"ok": 8, "failed": 0, "late": 0} == started.last["replies"]
    assert 0o600 == (tmp_path / "state" / "access.json").stat().st_mode & 0o777
    assert "p@ss" not in serve.out + serve.err + started.out + started.err
