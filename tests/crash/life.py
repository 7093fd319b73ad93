"""One life of one role: a forked process, until it ends or is killed."""

import asyncio
import ctypes
import faulthandler
import gc
import os
import signal
import sys
import traceback
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from crash import agent_process, gateway_process
from crash.bugs import BUGS
from crash.deaths import Role
from crash.ledger import Ledger
from crash.place import Place
from crash.points import Points, install
from windflower.core import backoff

ROLES: Final[dict[Role, Callable[[Place, asyncio.Event], Awaitable[None]]]] = {
    "gateway": gateway_process.serve,
    "agent": agent_process.serve,
}
_FIRST_WAIT_S: Final = 0.02
"""What is tried again is tried again soon: a case lasts as long as its waits."""

_PR_SET_PDEATHSIG: Final = 1


@dataclass(frozen=True, slots=True)
class Life:
    """A process under way.

    Attributes:
        role: what it is.
        number: which of the role's lives this is, from 0 on.
        kill_at: the effect before which it dies; None lets it live.
        pid: its process.
        ended: a descriptor that becomes readable when it has ended.
    """

    role: Role
    number: int
    kill_at: int | None
    pid: int
    ended: int

    def bury(self) -> int:
        """Return how it ended, once it has: the exit code, or the signal as a negative number."""
        os.close(self.ended)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def begin(place: Place, role: Role, number: int, kill_at: int | None) -> Life:
    """Fork a life of a role. Until it can end in good order, it holds SIGTERM back."""
    held = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    pid = os.fork()
    if pid == 0:
        try:
            _live(place, role, number, kill_at)
        finally:
            os._exit(1)
    signal.pthread_sigmask(signal.SIG_SETMASK, held)
    return Life(role, number, kill_at, pid, os.pidfd_open(pid))


def die_with_parent() -> None:
    """Let the kernel kill this process when its parent is gone."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _live(place: Place, role: Role, number: int, kill_at: int | None) -> None:
    """Be the process; never returns."""
    code = 1
    try:
        die_with_parent()
        said = os.open(place.said(role), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(said, 1)
        os.dup2(said, 2)
        faulthandler.enable(said)
        faulthandler.register(signal.SIGUSR1, said)
        backoff.FIRST_S = _FIRST_WAIT_S  # type: ignore[misc]
        if place.bug:
            BUGS[place.bug].plant()
        gc.disable()  # it would touch, and so copy, all that is shared
        install(Points(Ledger(place.trace(role, number)), kill_at))
        asyncio.run(_serve(place, role))
        assert "flwr" not in sys.modules
        code = 0
    except BaseException:  # noqa: BLE001 - a forked child must not go on in its parent's code
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


async def _serve(place: Place, role: Role) -> None:
    """Serve until SIGTERM, which was held back until now."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
    await ROLES[role](place, stop)
