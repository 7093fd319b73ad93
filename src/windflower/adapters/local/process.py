"""Child processes that never outlive their parent."""

import asyncio
import contextlib
import ctypes
import resource
import signal
import sys
from asyncio.subprocess import Process
from typing import IO, Final

PATIENCE_S: Final = 5.0
"""After so many seconds a process that was asked to end is killed."""

_PR_SET_PDEATHSIG: Final = 1


async def start(
    *command: str,
    stdin: int | IO[bytes] | None = None,
    stdout: int | IO[bytes] | None = None,
    stderr: int | IO[bytes] | None = None,
    env: dict[str, str] | None = None,
    pass_fds: tuple[int, ...] = (),
) -> Process:
    """Start a program in a session of its own, so that Ctrl-C reaches only us.

    On Linux the kernel ends it when we die, however we die.
    """
    return await asyncio.create_subprocess_exec(
        *command,
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        env=env,
        pass_fds=pass_fds,
        start_new_session=True,
        preexec_fn=_die_with_parent if sys.platform == "linux" else None,
    )


async def end(process: Process) -> None:
    """Ask a process to end, and kill it if it does not."""
    if process.returncode is not None:
        return
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    try:
        async with asyncio.timeout(PATIENCE_S):
            await process.wait()
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def allow_many_descriptors() -> None:
    """Let this process and its children have as many open files and sockets as the system allows.

    A thousand devices on one machine need more than the usual thousand.
    """
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # macOS says "no limit" and means another one
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
