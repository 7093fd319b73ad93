"""The Greengrass component: its zip, its scripts as the recipe calls them, and it in a run."""

import asyncio
import base64
import hashlib
import io
import json
import re
import shutil
import subprocess
import sys
import zipfile
from importlib import util
from pathlib import Path

import pytest
from aws import wheelhouse
from aws.nucleus import STACK, Nucleus
from processes import MOSQUITTO, Program, Programs

from windflower.adapters.aws.component import agent_wheel, component_zip
from windflower.adapters.local.broker_address import BrokerAddress
from windflower.errors import ConfigError
from windflower.offline.cloud import PlayedCloud, played_cloud

pytestmark = wheelhouse.needs_installation

RECIPE = json.loads(STACK.properties("GreengrassComponent")["InlineRecipe"])
(MANIFEST,) = RECIPE["Manifests"]
PATH = f"{sys.base_prefix}/bin:/usr/bin:/bin"
SCRIPTS = ("install.sh", "run.sh")
SHELLCHECK = shutil.which("shellcheck")


# -------------------------------------------------------------------------------- the zip


def unzipped(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as bundle:
        return {name: bundle.read(name) for name in bundle.namelist()}


def test_the_same_files_give_the_same_zip_and_others_another(tmp_path: Path) -> None:
    needed = tmp_path / "needed.txt"
    needed.write_text("scikit-learn>=1.5\n")
    plain, again, more = component_zip(), component_zip(), component_zip(needed)

    assert plain == again != more
    assert {agent_wheel()[0], *SCRIPTS} == unzipped(plain).keys()
    assert b"scikit-learn>=1.5\n" == unzipped(more)["requirements.txt"]


def test_the_wheel_is_this_package_and_its_record_is_right() -> None:
    name, wheel = agent_wheel()
    files = unzipped(wheel)
    (info,) = {one.partition("/")[0] for one in files if ".dist-info/" in one}
    record = files.pop(f"{info}/RECORD").decode().splitlines()
    lines = [line.split(",") for line in record if not line.startswith(f"{info}/RECORD,")]

    assert f"{info.removesuffix('.dist-info')}-py3-none-any.whl" == name
    assert {"windflower/agent/__main__.py", "windflower/py.typed", f"{info}/METADATA"} <= set(files)
    assert [] == [one for one in files if "__pycache__" in one or one.startswith("windflower/de")]
    assert files.keys() == {path for path, _, _ in lines}
    for path, digest, size in lines:
        found = base64.urlsafe_b64encode(hashlib.sha256(files[path]).digest()).rstrip(b"=")
        assert (f"sha256={found.decode()}", len(files[path])) == (digest, int(size))


def test_files_and_a_package_that_are_not_there_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match="holds no wheels"):
        component_zip(wheels=tmp_path)
    with pytest.raises(ConfigError, match="No such file"):
        component_zip(tmp_path / "needed.txt")
    (tmp_path / "windflower-0.dist-info").mkdir()
    (tmp_path / "windflower-0.dist-info" / "METADATA").write_text("Name: windflower\nVersion: 0\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match="installed from older files"):
        component_zip()
    monkeypatch.setattr(sys, "path", [])
    with pytest.raises(ConfigError, match="not installed here"):
        component_zip()


# ----------------------------------------------------------------------------- the scripts


class Core:
    """A core's disk, and its nucleus as far as it unpacks and starts components."""

    def __init__(self, programs: Programs, bundle: bytes, *, thing: str = "core-1") -> None:
        self._programs = programs
        self.work = programs.folder / "work"
        unpacked = programs.folder / "unpacked"
        self.variables = {
            "artifacts:decompressedPath": str(unpacked),
            "work:path": str(self.work),
            "iot:thingName": thing,
        }
        (artifact,) = MANIFEST["Artifacts"]
        name = Path(artifact["URI"]).stem  # either nucleus unpacks NAME.zip into NAME
        self.work.mkdir()
        for path, data in unzipped(bundle).items():
            file = unpacked / name / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data)

    def start(self, step: str, *, path: str = PATH, **environment: str) -> Program:
        """Execute what the recipe says, in an environment with nothing else."""
        script = re.sub(
            r"\{([^}]+)\}",
            lambda found: self.variables[found[1]],
            MANIFEST["Lifecycle"][step]["Script"],
        )
        given = [f"{name}={value}" for name, value in {"PATH": path, **environment}.items()]
        command = ("/bin/sh", "-c", f"exec {script}")
        return self._programs.start("env", "-i", *given, *command, name=step)


@pytest.mark.parametrize("script", SCRIPTS)
def test_the_scripts_can_be_read_by_a_plain_shell(script: str) -> None:
    text = unzipped(component_zip())[script]

    assert 0 == subprocess.run(["/bin/sh", "-n"], input=text, check=False).returncode


@pytest.mark.skipif(SHELLCHECK is None, reason="shellcheck is not installed")
@pytest.mark.parametrize("script", SCRIPTS)
def test_shellcheck_finds_nothing_in_the_scripts(script: str) -> None:
    text = unzipped(component_zip())[script]
    done = subprocess.run(
        [str(SHELLCHECK), "--shell", "sh", "-"], input=text, capture_output=True, check=False
    )

    assert b"" == done.stdout


def test_a_core_without_python_says_so_in_one_line(programs: Programs) -> None:
    tools = programs.folder / "tools"
    tools.mkdir()
    old = tools / "python3"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    for name in ("sh", "find", "cksum", "sort", "cat"):
        (tools / name).symlink_to(f"/usr/bin/{name}")
    install = Core(programs, component_zip()).start("install", path=str(tools))

    assert 1 == install.wait()
    assert "windflower needs Python 3.11 or newer" in install.err
    assert 1 == len(install.err.splitlines())


def test_an_installation_that_fails_takes_nothing_away(programs: Programs, tmp_path: Path) -> None:
    empty = tmp_path / "wheels"
    empty.mkdir()
    (empty / "nothing-1-py3-none-any.whl").write_bytes(b"")
    core = Core(programs, component_zip(wheels=empty))
    (core.work / "venv").mkdir()
    (core.work / "venv" / "made-from").write_text("what was there before")

    assert 0 != core.start("install").wait()
    assert "what was there before" == (core.work / "venv" / "made-from").read_text()
    assert not (core.work / "venv.new" / "made-from").exists()


# ------------------------------------------------------------------------------- the whole


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The component for a core that reaches no PyPI."""
    wheels = tmp_path_factory.mktemp("wheels")
    wheelhouse.fill(wheels, "windflower[greengrass]")
    return component_zip(wheels=wheels)


def run(programs: Programs, apps: Path, name: str, *given: str, **environment: str) -> Program:
    return programs.windflower(
        *("run", str(apps / "averaging"), "--state", str(programs.folder / name), "--seed", "5"),
        *("--strict", "--devices", "0", "--limit", "2", "--format", "json", *given),
        *("-c", "num-server-rounds=1"),
        name=name,
        **environment,
    )


def beside(programs: Programs, cloud: PlayedCloud, name: str) -> Program:
    """Start a device with a connection of its own."""
    flags = [flag.replace("{device}", name) for flag in cloud.access.flags]
    config = "partition-id=1 num-partitions=2"
    return programs.agent(name, cloud.access.broker, "--node-config", config, *flags)


def as_core(cloud: PlayedCloud, thing: str) -> BrokerAddress:
    """Return IoT Core as a core reaches it, by its own certificate."""
    flags = dict(flag.split("=", 1) for flag in cloud.access.flags)
    return BrokerAddress.parse(
        cloud.access.broker,
        ca=Path(flags["--ca"]),
        certificate=Path(flags["--certificate"].replace("{device}", thing)),
        key=Path(flags["--key"].replace("{device}", thing)),
    )


@pytest.mark.slow
@pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed")
@pytest.mark.skipif(util.find_spec("ensurepip") is None, reason="this Python makes no venv")
async def test_a_core_takes_part_in_a_run_and_the_model_is_the_one_of_plain_agents(
    programs: Programs, apps: Path, bundle: bytes, tmp_path: Path
) -> None:
    failed: list[tuple[str, str]] = []
    core = Core(programs, bundle)
    install = core.start("install")
    cloud = played_cloud(
        tmp_path / "cloud", ["core-1", "plain-2"], report=lambda *one: failed.append(one)
    )
    async with cloud as played:
        nucleus = Nucleus(tmp_path / "ipc.socket", as_core(played, "core-1"), "core-1")
        assert 0 == await asyncio.to_thread(install.wait, deadline_s=120), install.err
        (core.work / "node-config").write_text("partition-id=0 num-partitions=2\n")
        agent = core.start("run", **nucleus.environment)
        beside(programs, played, "plain-2")
        by_nucleus = run(programs, apps, "by-nucleus", **played.environment)
        assert 0 == await asyncio.to_thread(by_nucleus.wait), (by_nucleus.err, agent.err)
        code = await asyncio.to_thread(agent.end)
        await nucleus.stop()
    made_at = (core.work / "venv" / "made-from").stat().st_mtime_ns
    again = core.start("install", path="/usr/bin:/bin")  # at the nucleus' next start

    assert (0, []) == (code, failed)
    assert {"ok": 4, "failed": 0, "late": 0} == by_nucleus.last["replies"]
    assert "work-started" in agent.err
    assert 0 == again.wait(), again.err
    assert made_at == (core.work / "venv" / "made-from").stat().st_mtime_ns
    assert plain_hash(apps, tmp_path / "plain") == by_nucleus.last["model-hash"]


def plain_hash(apps: Path, folder: Path) -> str:
    """Return what two plain agents of these names come to over a plain broker."""
    folder.mkdir()
    programs = Programs(folder)
    try:
        _, broker = programs.mosquitto()
        for number, name in enumerate(("core-1", "plain-2")):
            config = f"partition-id={number} num-partitions=2"
            programs.agent(name, broker, "--node-config", config)
        plain = run(programs, apps, "plain", "--broker", broker)
        assert 0 == plain.wait(), plain.err
        return str(plain.last["model-hash"])
    finally:
        programs.end_all()
