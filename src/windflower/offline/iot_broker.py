"""The broker of IoT Core, played by Mosquitto: X.509 on both sides, the template's policy."""

import asyncio
import getpass
import re
import shutil
from asyncio.subprocess import DEVNULL, Process
from pathlib import Path
from typing import Any, Final

from windflower.adapters.aws.template import Stack
from windflower.adapters.local.broker_address import BrokerAddress
from windflower.adapters.local.files import open_log
from windflower.adapters.local.process import allow_many_descriptors, end, start
from windflower.adapters.local.tcp_ports import listens
from windflower.errors import BrokerUnavailable, ConfigError
from windflower.offline.certificates import Authority
from windflower.offline.quiet_ports import quiet_ports

START_S: Final = 15.0

CLOUD: Final = "aws"
"""What the other half of IoT Core, the rules, is called by the broker."""

_CONFIGURATION: Final = """\
# Written by windflower: a broker that lets devices do what AWS IoT Core would.
listener {port} 127.0.0.1
cafile {folder}/ca.pem
certfile {folder}/broker.pem
keyfile {folder}/broker.key
tls_version tlsv1.2
require_certificate true
# A device is who its certificate says it is, whatever it calls itself.
use_identity_as_username true
use_username_as_clientid true
allow_anonymous false
acl_file {folder}/access.acl
persistence false
set_tcp_nodelay true
max_queued_messages 100000
max_inflight_messages 100
# The whole packet counts: this lets payloads of exactly 128 KiB through.
max_packet_size 132096
log_type error
log_type warning
user {user}
"""
_THING: Final = "${iot:Connection.Thing.ThingName}"
_RESOURCE: Final = re.compile(r"arn:[^:]*:iot:[^:]*:[^:]*:(topic|topicfilter)/(.*)")
_VERBS: Final = {"iot:Publish": "write", "iot:Subscribe": "read", "iot:Receive": "read"}


class IotBroker:
    """Mosquitto on 127.0.0.1.

    Args:
        folder: where its configuration and its certificates go.
        stack: the stack whose device policy it enforces.
    """

    def __init__(self, folder: Path, stack: Stack) -> None:
        self._folder = folder
        self._stack = stack
        self._process: Process | None = None
        self.authority = Authority(folder)
        self.port = 0

    async def start(self) -> None:
        """Start it; return when it answers.

        Raises:
            ConfigError: Mosquitto is not installed.
            BrokerUnavailable: it does not start; its log says why.
        """
        program = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")
        if program is None:
            raise ConfigError(
                "the place aws-offline needs mosquitto (Debian: apt install mosquitto)",
                key="place",
            )
        (self.port,) = quiet_ports(1)
        self.authority.issue("broker")
        self.authority.issue(CLOUD)
        (self._folder / "access.acl").write_text(access_list(self._stack))
        configuration = self._folder / "mosquitto.conf"
        configuration.write_text(
            _CONFIGURATION.format(port=self.port, folder=self._folder, user=getpass.getuser())
        )
        allow_many_descriptors()
        log = self._folder / "broker.log"
        with open_log(log) as output:
            self._process = await start(
                *(program, "-c", str(configuration)), stdin=DEVNULL, stdout=output, stderr=output
            )
        for _ in range(int(START_S / 0.02)):
            if listens(self.port):
                return
            if self._process.returncode is not None:
                break
            await asyncio.sleep(0.02)
        await self.stop()
        raise BrokerUnavailable(f"mosquitto did not start within {START_S:.0f} s: see {log}")

    async def stop(self) -> None:
        """End it."""
        if self._process is not None:
            await end(self._process)

    def address(self, name: str) -> BrokerAddress:
        """Return the broker as somebody reaches it who has a certificate."""
        folder = self._folder
        return BrokerAddress(
            "127.0.0.1",
            self.port,
            is_tls=True,
            ca=folder / "ca.pem",
            certificate=folder / f"{name}.pem",
            key=folder / f"{name}.key",
        )


def access_list(stack: Stack) -> str:
    """Return the device policy of a stack as Mosquitto's access list; raises ConfigError."""
    lines = [f"user {CLOUD}", "topic readwrite #", "topic readwrite $aws/#"]
    document = stack.properties("DevicePolicy")["PolicyDocument"]
    for statement in document["Statement"]:
        lines += _patterns(statement)
    return "\n".join(dict.fromkeys(lines)) + "\n"


def _patterns(statement: dict[str, Any]) -> list[str]:
    actions, resources = _listed(statement["Action"]), _listed(statement["Resource"])
    if statement["Effect"] != "Allow":
        raise ConfigError("the offline broker knows no Deny in a device policy", key="template")
    return [
        f"pattern {_VERBS[action]} {_pattern(resource)}"
        for action in actions
        if action in _VERBS
        for resource in resources
    ]


def _pattern(resource: str) -> str:
    found = _RESOURCE.fullmatch(resource)
    if found is None or "*" in found[2]:
        raise ConfigError(f"the offline broker cannot enforce {resource}", key="template")
    return found[2].replace(_THING, "%u")


def _listed(value: Any) -> list[str]:  # noqa: ANN401 - one, or several
    return [value] if isinstance(value, str) else list(value)
