"""A parent that has Flower loaded and forks a worker for whoever asks.

Ten simulated devices on one machine then share the memory of one import, and start in milliseconds.
Forking is safe only while there is one thread. This process never starts another; should a library
do so, it refuses to fork, and the agent spawns its worker instead.
"""

import os
import signal
import socket
import sys
from contextlib import suppress
from pathlib import Path

from windflower.adapters.local.process import end_family, lead_family
from windflower.flower import worker
from windflower.wire.frames import frame


def main() -> None:
    """Listen on the unix socket named by the first argument, until a signal."""
    path = sys.argv[1]
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel buries the workers
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(1024)
    while True:
        connection, _ = listener.accept()
        with connection:
            if (threads := _threads()) != 1:
                # A forked child would inherit locks that nobody unlocks: its agent spawns one.
                refusal = f"the nursery has {threads} threads, and may fork with one only"
                connection.sendall(frame({"refused": refusal}))
            elif os.fork() == 0:
                listener.close()
                _be_a_worker(connection)


def _be_a_worker(connection: socket.socket) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    lead_family()
    try:
        with suppress(OSError):  # the agent is gone
            worker.serve(connection)
    finally:
        end_family()  # the parent's exit handlers are not ours


def _threads() -> int:
    task = Path("/proc/self/task")
    return len(list(task.iterdir())) if task.exists() else 1


if __name__ == "__main__":
    main()
