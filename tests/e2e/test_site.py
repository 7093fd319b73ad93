"""A site's broker speaks for its devices upstream, and a cut of the way there loses nothing."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from certificates import Authority
from cryptography import x509
from processes import MOSQUITTO, Program, Programs, free_port, listens, until

ROOT = Path(__file__).parents[2]
SITE = ROOT / "deploy" / "site"
OPENSSL = shutil.which("openssl")
DEVICES = ("hall-1", "hall-2")

pytestmark = pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed")


class Site:
    """The site of `deploy/site`, with this test's paths and addresses in place of those there."""

    def __init__(self, programs: Programs, folder: Path, upstream: int) -> None:
        self._programs = programs
        self._folder = folder
        self.port = free_port()
        self.authority = Authority(folder)
        self.authority.give("server")
        (folder / "acl").write_text((SITE / "acl").read_text())
        (folder / "acl").chmod(0o600)
        text = (SITE / "mosquitto.conf").read_text() + (SITE / "upstream.conf").read_text()
        text = text.replace("listener 8883", f"listener {self.port} 127.0.0.1\nuser root")
        text = text.replace("broker.example.org:8883", f"127.0.0.1:{upstream}")
        text = text.replace("/var/lib/mosquitto/", f"{folder}/")
        # The upstream broker of this test speaks no TLS.
        text = re.sub(r"(?m)^bridge_(cafile|certfile|keyfile).*\n", "", text)
        (folder / "site.conf").write_text(text)

    def start(self, name: str) -> Program:
        assert MOSQUITTO is not None
        in_its_folder = f"cd {self._folder} && exec {MOSQUITTO} -c site.conf"
        broker = self._programs.start("sh", "-c", in_its_folder, name=name)
        until(lambda: listens(self.port), "the site's broker")
        return broker

    def device(self, name: str) -> Program:
        pair = self.authority.give(name)
        return self._programs.agent(
            *(name, f"mqtts://127.0.0.1:{self.port}", "--ca", str(self.authority.file)),
            *("--certificate", str(pair[0]), "--key", str(pair[1])),
            *("--node-config", f"partition-id={DEVICES.index(name)} num-partitions=2"),
        )


def run_on(programs: Programs, apps: Path, port: int, *arguments: str, name: str) -> Program:
    return programs.windflower(
        *("run", str(apps / "averaging"), "--broker", f"mqtt://127.0.0.1:{port}"),
        *("--state", str(programs.folder / "state"), "--seed", "5", "--strict", "--limit", "2"),
        *("--format", "json", *arguments),
        name=name,
    )


def test_two_devices_of_a_site_take_part_and_a_cut_of_the_uplink_loses_nothing(
    programs: Programs, apps: Path, tmp_path: Path
) -> None:
    port, pause = free_port(), tmp_path / "pause"
    mosquitto, _ = programs.mosquitto(port=port)
    folder = tmp_path / "site"
    folder.mkdir()
    site = Site(programs, folder, port)
    site.start("site")
    devices = [site.device(name) for name in DEVICES]
    undisturbed = run_on(programs, apps, port, name="undisturbed")
    assert 0 == undisturbed.wait(), undisturbed.err

    pause.touch()
    disturbed = run_on(programs, apps, port, "-c", f"pause-file='{pause}'", name="disturbed")
    until(lambda: all(d.err.count("work-started") > 4 for d in devices), "the devices to work")
    mosquitto.kill()
    ended = [device.err.count("work-ended") for device in devices]
    pause.unlink()
    until(
        lambda: all(d.err.count("work-ended") > n for d, n in zip(devices, ended, strict=True)),
        "the work to end while the way upstream is cut",
    )
    programs.mosquitto(port=port)

    assert 0 == disturbed.wait(), disturbed.err
    assert undisturbed.last["model-hash"] == disturbed.last["model-hash"]
    assert {"ok": 8, "failed": 0, "late": 0} == disturbed.last["replies"]
    assert [8, 8] == [device.err.count("work-ended") for device in devices]


@pytest.mark.skipif(OPENSSL is None, reason="openssl is not installed")
def test_the_pages_commands_make_a_certificate_for_a_device(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "site.md").read_text()
    found = re.search(r"```sh\n(openssl .*?)```", page, re.DOTALL)
    assert found is not None
    subprocess.run(["bash", "-e"], cwd=tmp_path, input=found[1], text=True, check=True)
    made = x509.load_pem_x509_certificate((tmp_path / "watch-03.pem").read_bytes())
    issuer = x509.load_pem_x509_certificate((tmp_path / "ca.pem").read_bytes())

    made.verify_directly_issued_by(issuer)
    assert "CN=watch-03" == made.subject.rfc4514_string()
