"""A parent that has Flower loaded and forks a worker for whoever asks.

Ten simulated devices on one machine then share the memory of one import, and start in milliseconds.
Forking is safe only while there is one thread: this process never starts another, and says so at
each fork.
"""

import os
import signal
import socket
import sys
from pathlib import Path

from windflower.errors import WindflowerError
from windflower.flower import worker


def main() -> None:
    """Listen on the unix socket named by the first argument, until a signal."""
    path = sys.argv[1]
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel buries the workers
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(1024)
    while True:
        connection, _ = listener.accept()
        if (threads := _threads()) != 1:
            raise WindflowerError(f"the nursery has {threads} threads, and must have one to fork")
        if os.fork() == 0:
            listener.close()
            _be_a_worker(connection)
        connection.close()


def _be_a_worker(connection: socket.socket) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    status = 1
    try:
        worker.serve(connection)
        status = 0
    except OSError:
        status = 0  # the agent is gone
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)  # the parent's exit handlers are not ours


def _threads() -> int:
    task = Path("/proc/self/task")
    return len(list(task.iterdir())) if task.exists() else 1


if __name__ == "__main__":
    main()
