"""The minimal device of the pages, as tests call and start it."""

import json
import shutil
import subprocess
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

DEVICE_FILE = Path(__file__).parents[2] / "docs" / "minimal_device" / "device.mjs"
DRIVER_FILE = Path(__file__).with_name("driver.mjs")
NODE = shutil.which("node")


class Refused(Exception):  # noqa: N818 - it is what happened, and no error of the test
    """The device refused bytes."""


class Minimal:
    """A process that calls the functions of the device's file."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def __call__(self, call: str, **asked: Any) -> Any:  # noqa: ANN401 - whatever JSON can say
        """Return what a function of the driver returns; bytes travel in base64."""
        said = {k: b64encode(x).decode() if isinstance(x, bytes) else x for k, x in asked.items()}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"call": call, **said}) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        if "refused" in answer:
            raise Refused(answer["refused"])
        return answer["value"]


@contextmanager
def called() -> Iterator[Minimal]:
    """Start the driver, and end it."""
    assert NODE is not None
    with subprocess.Popen(
        [NODE, str(DRIVER_FILE)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield Minimal(process)
        assert process.stdin is not None
        process.stdin.close()
