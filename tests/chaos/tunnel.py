"""Two network namespaces with a bad link between them, made of TUN devices. Needs root.

Real TCP of the real kernel runs over it, with retransmissions and time-outs as on a mobile link.

    near 10.77.0.1 ── TUN ── this process ── TUN ── far 10.77.0.2
"""

import ctypes
import fcntl
import heapq
import itertools
import os
import selectors
import shutil
import signal
import struct
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final

from chaos.line import Harm, Line, Link

NEAR: Final = "10.77.0.1"
FAR: Final = "10.77.0.2"
MTU: Final = 1400

_TUN: Final = "/dev/net/tun"
_TUNSETIFF: Final = 0x400454CA
_IFF_TUN: Final = 0x0001
_IFF_NO_PI: Final = 0x1000
"""From linux/if_tun.h."""

_CLONE_NEWNET: Final = 0x40000000
_PREFIX: Final = "chaos"
_LIBC: Final = ctypes.CDLL(None, use_errno=True)


def missing() -> str | None:
    """Return what this machine lacks for a tunnel, or None."""
    if os.geteuid() != 0:
        return "a tunnel needs root"
    if shutil.which("ip") is None:
        return "ip (iproute2) is not installed"
    if not os.access(_TUN, os.R_OK | os.W_OK):
        return f"there is no {_TUN}"
    try:
        with tunnel(seed=0):
            return None
    except (OSError, subprocess.CalledProcessError) as error:
        return f"no network namespaces here: {error}"


class Namespace:
    """A network of its own for whatever is started in it.

    Args:
        name: as `ip netns` lists it.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Put this thread into it, and all processes and threads that the thread starts."""
        before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        inside = os.open(f"/run/netns/{self._name}", os.O_RDONLY)
        try:
            _set_namespace(inside)
            try:
                yield
            finally:
                _set_namespace(before)
        finally:
            os.close(inside)
            os.close(before)

    def end_all(self) -> None:
        """Kill whatever still runs in it, whoever started it."""
        listing = subprocess.run(
            ["ip", "netns", "pids", self._name], check=True, capture_output=True, text=True
        )
        for pid in map(int, listing.stdout.split()):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def _set_namespace(file: int) -> None:
    if _LIBC.setns(file, _CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


class Tunnel:
    """The link between two namespaces; moves packets in a thread of its own.

    Args:
        near: one end.
        far: the other.
        files: their TUN devices.
        lines: what happens from near to far, and from far to near.
    """

    def __init__(
        self,
        near: Namespace,
        far: Namespace,
        files: tuple[int, int],
        lines: tuple[Line, Line],
    ) -> None:
        self.near = near
        self.far = far
        self._files = files
        self._lines = lines
        self._lock = threading.Lock()
        self._sent_bytes = 0
        self._stop, self._stopper = os.pipe()
        self._thread = threading.Thread(target=self._run, name="tunnel", daemon=True)

    @property
    def counts(self) -> Counter[Harm]:
        """What befell packets until now, in both directions."""
        with self._lock:
            return self._lines[0].counts + self._lines[1].counts

    @property
    def packets(self) -> int:
        """How many packets were sent until now."""
        with self._lock:
            return sum(line.packets for line in self._lines)

    @property
    def sent_bytes(self) -> int:
        """How many bytes of IP were sent until now, those included that got lost."""
        with self._lock:
            return self._sent_bytes

    def set(self, link: Link) -> None:
        """Change the link in both directions."""
        with self._lock:
            for line in self._lines:
                line.link = link

    def cut(self, seconds: float) -> None:
        """Lose everything for a while."""
        with self._lock:
            for line in self._lines:
                line.cut(time.monotonic() + seconds)

    def start(self) -> None:
        """Begin to move packets."""
        self._thread.start()

    def stop(self) -> None:
        """Move no more packets."""
        os.write(self._stopper, b"x")
        self._thread.join()
        os.close(self._stop)
        os.close(self._stopper)

    def _run(self) -> None:
        numbers = itertools.count()
        under_way: list[tuple[float, int, int, bytes]] = []
        with selectors.DefaultSelector() as selector:
            for file in (*self._files, self._stop):
                selector.register(file, selectors.EVENT_READ)
            while True:
                now = time.monotonic()
                while under_way and under_way[0][0] <= now:
                    _, _, target, packet = heapq.heappop(under_way)
                    with suppress(OSError):  # a device that is down loses it
                        os.write(target, packet)
                wait_s = under_way[0][0] - now if under_way else None
                for key, _ in selector.select(wait_s):
                    if key.fd == self._stop:
                        return
                    side = self._files.index(key.fd)
                    for packet in _waiting(key.fd):
                        for due in self._arrivals(side, len(packet)):
                            entry = (due, next(numbers), self._files[1 - side], packet)
                            heapq.heappush(under_way, entry)

    def _arrivals(self, side: int, size_bytes: int) -> list[float]:
        with self._lock:
            self._sent_bytes += size_bytes
            return self._lines[side].arrivals(time.monotonic())


def _waiting(file: int) -> Iterator[bytes]:
    """Yield the packets that a device has sent."""
    with suppress(BlockingIOError):
        while True:
            yield os.read(file, MTU + 100)


@contextmanager
def tunnel(*, seed: int, link: Link | None = None) -> Iterator[Tunnel]:
    """Make two namespaces with a link between them; always remove them.

    Raises:
        OSError, subprocess.CalledProcessError: this machine does not let us; see `missing`.
    """
    _remove_leftovers()
    link = link or Link()
    with ExitStack() as stack:
        near, near_file = _end(stack, "near", NEAR, FAR)
        far, far_file = _end(stack, "far", FAR, NEAR)
        lines = (Line(f"{seed}:there", link), Line(f"{seed}:back", link))
        made = Tunnel(near, far, (near_file, far_file), lines)
        made.start()
        stack.callback(made.stop)
        yield made


def _end(stack: ExitStack, side: str, own: str, other: str) -> tuple[Namespace, int]:
    """Make one namespace with its device."""
    name = f"{_PREFIX}-{os.getpid()}-{side}"
    device = f"{_PREFIX}-{side}"
    _ip("netns", "add", name)
    stack.callback(_ip, "netns", "delete", name)
    file = os.open(_TUN, os.O_RDWR | os.O_NONBLOCK)
    stack.callback(os.close, file)
    temporary = f"{side}{os.getpid()}"[:15]  # a device's name has at most 15 characters
    fcntl.ioctl(file, _TUNSETIFF, struct.pack("16sH22x", temporary.encode(), _IFF_TUN | _IFF_NO_PI))
    _ip("link", "set", temporary, "netns", name, "name", device)
    _ip("-n", name, "link", "set", "lo", "up")
    _ip("-n", name, "address", "add", own, "peer", other, "dev", device)
    _ip("-n", name, "link", "set", device, "mtu", str(MTU), "up")
    return Namespace(name), file


def _remove_leftovers() -> None:
    """Remove the namespaces of processes that were killed before they could."""
    for path in Path("/run/netns").glob(f"{_PREFIX}-*-*"):
        owner = path.name.split("-")[1]
        if not Path(f"/proc/{owner}").exists():
            _ip("netns", "delete", path.name)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)
