"""Child processes that never outlive their parent, and nor does what they start themselves."""

import asyncio
import contextlib
import ctypes
import os
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
        preexec_fn=die_with_parent if sys.platform == "linux" else None,
    )


async def end(process: Process) -> None:
    """Ask a process to end, and kill it if it does not, with all that it leaves in its session.

    To be called for one that has ended by itself too: what an app starts is not always waited for.
    """
    try:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PATIENCE_S):
                    await process.wait()
    finally:
        kill_family(process.pid)
    await process.wait()


def kill_family(leader: int) -> None:
    """Kill what is in the group of a process, which may itself be gone."""
    with contextlib.suppress(ProcessLookupError, PermissionError):  # macOS denies it for zombies
        os.killpg(leader, signal.SIGKILL)


def allow_many_descriptors() -> None:
    """Let this process and its children have as many open files and sockets as the system allows.

    A thousand devices on one machine need more than the usual thousand.
    """
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # macOS says "no limit" and means another one
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def lead_family() -> None:
    """Begin a session of one's own in a forked process, which ends when its parent does."""
    os.setsid()
    if sys.platform == "linux":
        die_with_parent()


def end_family() -> None:
    """End this process, and whatever it started and did not wait for."""
    sys.stdout.flush()
    sys.stderr.flush()
    if os.getpgrp() == os.getpid():  # else it was started by hand, in somebody else's session
        kill_family(os.getpid())
    os._exit(0)


def die_with_parent() -> None:
    """Let the kernel end this process when its parent dies."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
