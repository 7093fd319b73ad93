"""Blobs on an IPv6 address."""

import socket
from pathlib import Path

import pytest
from processes import MOSQUITTO, Programs, free_port, until


def has_ipv6() -> bool:
    """Return whether this machine has the address ::1."""
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


pytestmark = [
    pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed"),
    pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6 loopback"),
]


@pytest.mark.parametrize("host", ["[::1]", "[::]"])
def test_devices_move_their_blobs_over_ipv6(
    programs: Programs, apps: Path, tmp_path: Path, host: str
) -> None:
    port = free_port()
    state, url = str(tmp_path / "state"), f"http://[::1]:{port}"
    every = ["--blobs-url", url] if host == "[::]" else []
    serve = programs.windflower(
        *("serve", "--state", state, "--format", "json"),
        *("--blobs", f"{host}:{port}", *every),
        name="serve",
    )
    until(lambda: serve.out, "the gateway")
    run = programs.windflower(
        *("run", str(apps / "averaging"), "--state", state, "--devices", "2", "--format", "json"),
        *("-c", "numbers=100000 num-server-rounds=1"),
        name="run",
    )

    assert 0 == run.wait(), run.err
    assert {"ok": 4, "failed": 0, "late": 0} == run.last["replies"]
    assert url == serve.last["blobs"]


def test_every_address_of_ipv6_has_no_url_of_its_own(programs: Programs, tmp_path: Path) -> None:
    serve = programs.windflower(
        "serve", "--state", str(tmp_path), "--blobs", "[::]:0", name="serve"
    )

    assert 78 == serve.wait()
    assert "blobs [::]:0 is every address: say with --blobs-url" in serve.err
