"""The container image is really built, pushed, pulled, and its gateway serves a run."""

import asyncio
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from processes import MOSQUITTO, Program, Programs, free_port, listens, until

from windflower.offline.cloud import played_cloud

DEVICES = ("hand-0", "hand-1")
ROOT = Path(__file__).parents[2]
NEEDS = ("umoci", "skopeo", "docker-registry", "debootstrap")
missing = [name for name in NEEDS if not shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin")]

pytestmark = [
    pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}"),
    pytest.mark.skipif(os.geteuid() != 0, reason="an image is built and entered by root"),
    pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed"),
]


def run(*words: str) -> str:
    done = subprocess.run(words, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Start a registry; return its address."""
    port, folder = free_port(), tmp_path_factory.mktemp("registry")
    configuration = folder / "registry.yml"
    configuration.write_text(
        "version: 0.1\n"
        f"storage: {{filesystem: {{rootdirectory: {folder / 'images'}}}}}\n"
        f"http: {{addr: 127.0.0.1:{port}}}\n"
    )
    programs = Programs(folder)
    programs.start("docker-registry", "serve", str(configuration), name="serve")
    until(lambda: listens(port), "the registry")
    yield f"127.0.0.1:{port}"
    programs.end_all()


class Container:
    """An image's file system, entered as its configuration says, without namespaces."""

    def __init__(self, bundle: Path) -> None:
        self.root = bundle / "rootfs"
        self._process = json.loads((bundle / "config.json").read_text())["process"]
        # What an engine brings along.
        for name, minor in (("null", 3), ("urandom", 9)):
            device = self.root / "dev" / name
            device.parent.mkdir(exist_ok=True)
            if not device.exists():
                os.mknod(device, 0o20666, os.makedev(1, minor))
                device.chmod(0o666)

    def start(self, programs: Programs, *words: str, name: str) -> Program:
        user = self._process["user"]
        return programs.start(
            *("chroot", f"--userspec={user['uid']}:{user['gid']}", str(self.root)),
            *("env", "-i", "-C", self._process["cwd"], *self._process["env"], *words),
            name=name,
        )


@pytest.fixture(scope="module")
def container(registry: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Container]:
    """Build the image, push it, pull it from the registry, unpack it."""
    folder = tmp_path_factory.mktemp("image")
    built, pulled, bundle = folder / "built", folder / "pulled", folder / "bundle"
    run(sys.executable, "tools/image.py", "build", f"{built}:latest")
    remote = f"docker://{registry}/windflower:latest"
    copy = ("skopeo", "copy", "--quiet", "--insecure-policy")
    run(*copy, "--dest-tls-verify=false", f"oci:{built}:latest", remote)
    shutil.rmtree(built)
    run(*copy, "--src-tls-verify=false", remote, f"oci:{pulled}:latest")
    run("umoci", "unpack", "--image", f"{pulled}:latest", str(bundle))
    yield Container(bundle)
    shutil.rmtree(bundle)


async def test_the_gateway_of_the_pulled_image_serves_a_run_behind_a_played_aws(
    container: Container, programs: Programs, apps: Path, tmp_path: Path
) -> None:
    """It finds its stack in its environment, as a task of the template does."""
    shutil.copytree(apps / "averaging", container.root / "app")
    failed: list[str] = []
    cloud = played_cloud(tmp_path, DEVICES, report=lambda *problem: failed.append(str(problem)))
    async with cloud as played:
        for number, device in enumerate(DEVICES):
            config = f"partition-id={number} num-partitions=2"
            flags = [flag.format(device=device) for flag in played.access.flags]
            programs.agent(device, played.access.broker, "--node-config", config, *flags)
        ran = container.start(
            programs,
            *(f"{name}={value}" for name, value in played.environment.items()),
            *("windflower", "run", "/app", "--devices", "0", "--strict", "--limit", "2"),
            *("--seed", "5", "--format", "json"),
            name="in-the-image",
        )

        assert 0 == await asyncio.to_thread(ran.wait, deadline_s=120), ran.err
    assert [] == failed
    assert "aws" == ran.last["broker"]
    assert {"ok": 8, "failed": 0, "late": 0} == ran.last["replies"]
    assert (container.root / ran.last["model-file"].lstrip("/")).exists()


def test_the_image_runs_as_nobody_in_particular_and_writes_to_one_folder(
    container: Container, programs: Programs
) -> None:
    asked = container.start(
        programs,
        *("python3", "-c", "import os; print(os.getuid(), os.access('/opt/windflower', os.W_OK))"),
        name="who",
    )
    assert 0 == asked.wait()
    assert "10001 False" == asked.out.strip()
    helped = container.start(programs, "windflower", "--help", name="help")
    assert 0 == helped.wait()
    assert "Usage: windflower" in helped.out
