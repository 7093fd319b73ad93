"""Finds out why a broker cannot be used: its name, its port, TLS, or its permissions."""

import asyncio
import os
import socket
import ssl
from contextlib import suppress
from typing import Final

from windflower.adapters.local.broker_address import BrokerAddress
from windflower.adapters.local.mqtt import Arrival, Connection, tls_context
from windflower.core.finding import Finding
from windflower.errors import BrokerRefused, BrokerUnavailable

PATIENCE_S: Final = 10.0


async def check_broker(address: BrokerAddress) -> Finding:
    """Connect and subscribe as a gateway does, one step after the other; change nothing there."""
    problem = await _reach(address) or await _enter(address)
    if problem is not None:
        return problem
    says = f"{address} lets us in and lets us subscribe"
    return Finding("broker", is_well=True, says=says)


async def _reach(address: BrokerAddress) -> Finding | None:
    """Open a connection, and say what is wrong with it."""
    where = f"{address.host}:{address.port}"
    try:
        context = tls_context(address) if address.is_tls else None
    except OSError as error:  # ssl.SSLError is one
        return _problem(
            f"a certificate or key of ours cannot be read: {error}",
            "correct broker_ca, broker_certificate and broker_key",
        )
    try:
        async with asyncio.timeout(PATIENCE_S):
            _, writer = await asyncio.open_connection(address.host, address.port, ssl=context)
    except (OSError, TimeoutError) as error:
        return _problem(*_why(error, where))
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()
    return None


def _why(error: OSError, where: str) -> tuple[str, str]:
    """Return what an error of a first connection says, and what to do about it."""
    match error:
        case socket.gaierror():
            return f"the name in {where} is not known", "correct it, or this machine's DNS"
        case ssl.SSLCertVerificationError():
            return (
                f"{where} has a certificate that we do not accept: {error.verify_message}",
                "give the CA that signed it as broker_ca, and use the name that stands in it",
            )
        case ssl.SSLError() | ConnectionResetError():
            cause = getattr(error, "reason", None) or error
            return (
                f"{where} hung up, or we do not agree on TLS: {cause}",
                "see whether this port speaks TLS (mqtts://) or not (mqtt://)",
            )
        case ConnectionRefusedError():
            return (
                f"nobody listens on {where}",
                "start the broker, or correct the port in its address",
            )
        case _:
            cause = str(error) or f"no answer within {PATIENCE_S:.0f} s"
            return f"{where} cannot be reached: {cause}", "see what is between: a firewall?"


async def _enter(address: BrokerAddress) -> Finding | None:
    """Speak MQTT to who listens there, and say why that does not work."""

    def received(arrival: Arrival) -> None:
        arrival.done()

    connection = Connection(
        address,
        f"doctor:{os.getpid()}",
        filters=address.topics.from_devices(),
        on_message=received,
        on_change=lambda _: None,
    )
    try:
        await connection.open(must_answer=True)
    except BrokerRefused as error:
        fix = "correct user, password or certificate, or the broker's access list (SECURITY.md)"
        return _problem(f"not authorised: {error}", fix)
    except BrokerUnavailable as error:
        return _problem(
            f"who listens there does not speak MQTT 5 to us: {error}",
            "see whether it is a broker, speaks MQTT 5, and wants TLS (mqtts://) on this port",
        )
    finally:
        await connection.close()
    return None


def _problem(says: str, fix: str) -> Finding:
    return Finding("broker", is_well=False, says=says, fix=fix)
