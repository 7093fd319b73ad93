"""The process that holds a user's ClientApp, warm between calls.

Started by an agent, never imported by one: `python -m windflower.flower.worker FD` serves jobs on
an inherited socket until its other end closes.
"""

import hashlib
import os
import random
import secrets
import socket
import sys
import tempfile
import time
from base64 import b64decode, b64encode
from pathlib import Path
from typing import Any, Final

from flwr.app import ConfigRecord, Context, Message, Metadata, RecordDict
from flwr.clientapp import ClientApp

from windflower.adapters.local.process import end_family
from windflower.core.identity import node_of, run_integer
from windflower.errors import AppError, ConfigError, MalformedMessage, WindflowerError
from windflower.flower.app_bundle import unpack_bundle
from windflower.flower.app_folder import AppFolder, ConfigValue, fuse, parse_config
from windflower.flower.loading import load_component, seed_sources, traceback_of
from windflower.flower.private import SUPERLINK_NODE, log_plainly, make_message, set_identity
from windflower.flower.records import from_content, to_content, to_packing
from windflower.flower.requirements import (
    CHECK,
    NOTE,
    OBSTACLE,
    READINESS,
    install,
    missing,
    unlike,
)
from windflower.ports import Done, Job
from windflower.wire.blobs import BlobRef
from windflower.wire.content import Content, pack_inline
from windflower.wire.frames import frame, read_frame
from windflower.wire.messages import Command, Failure

LOAD_FAILED: Final = 1
APP_RAISED: Final = 2
UNREADABLE: Final = 3
"""Flower's error codes (flwr.common.constant.ErrorCode)."""

_MEND: Final = "install it there, or start the agent with --install-dependencies"


class Trainer:
    """Calls one ClientApp, which stays loaded.

    Args:
        folder: where the app is unpacked.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._app: AppFolder | None = None
        self._loaded: tuple[BlobRef | None, ClientApp] | None = None

    def work(self, job: Job) -> Done:
        """Do one job; whatever the app does wrong is a Failure in the answer."""
        begun = time.monotonic()
        try:
            if job.command.type == CHECK:
                return Done(self._readiness(job), None, time.monotonic() - begun)
            app, client = self._load(job)
            content = from_content(job.command.content, job.pack)
            context = _context(job, app, _read_state(job.state))
        except AppError as error:
            return _failed(LOAD_FAILED, str(error), begun)
        except ConfigError as error:
            return _failed(LOAD_FAILED, f"{job.command.client}: {error}", begun)
        except MalformedMessage as error:
            return _failed(UNREADABLE, f"what arrived cannot be read: {error}", begun)
        return _call(job, client, content, context, begun)

    def _readiness(self, job: Job) -> Content:
        """Return whether the app can run, which is found out by loading it."""
        obstacle = note = ""
        try:
            app, _ = self._load(job)
            lacking = missing(app.requires)
            note = "; ".join(
                [*([_not_installed(lacking)] if lacking else []), *unlike(app.requires)]
            )
        except AppError as error:
            obstacle = str(error)
        said = ConfigRecord({OBSTACLE: obstacle, NOTE: note})
        return pack_inline(to_packing(RecordDict({READINESS: said})))

    def _load(self, job: Job) -> tuple[AppFolder, ClientApp]:
        if self._app is None:
            unpack_bundle(job.bundle, self._folder)
            self._app = AppFolder.read(self._folder)
        app = self._app
        if self._loaded is None:
            lacking = missing(app.requires)
            if lacking and job.may_install:
                install(lacking)
                lacking = missing(app.requires)
            try:
                client = load_component(self._folder, app.client, ClientApp)
            except AppError as error:
                if lacking and isinstance(error.__cause__, ImportError):
                    raise AppError(f"{_not_installed(lacking)}: {_MEND}") from error
                raise
            self._loaded = (job.command.bundle, client)
        loaded, client = self._loaded
        if loaded != job.command.bundle:
            raise AppError("one worker process holds one app")
        return app, client


def _call(job: Job, client: ClientApp, content: RecordDict, context: Context, begun: float) -> Done:
    """Call the app, which may raise anything."""
    message = _message(job.command, content)
    _seed(job)
    try:
        answer = _answer(client, message, context)
        if not answer.has_content():
            return _failed(answer.error.code, str(answer.error.reason), begun)
        result = to_content(answer.content, job.update)
        kept = _write_state(context.state)
    except Exception as error:  # noqa: BLE001 - the app is anybody's code, and may raise anything
        return _failed(APP_RAISED, traceback_of(error), begun)
    return Done(result, kept, time.monotonic() - begun)


def _not_installed(lacking: list[str]) -> str:
    return f"{', '.join(lacking)} not installed"


def _context(job: Job, app: AppFolder, state: RecordDict) -> Context:
    command = job.command
    given = {key: value for key, value in command.config.items if not isinstance(value, tuple)}
    node_config: dict[str, ConfigValue] = {"device-id": command.client}
    if job.model is not None:
        node_config["model-file"] = str(job.model)
    return Context(
        run_id=run_integer(command.run),
        node_id=node_of(command.client),
        node_config=node_config | parse_config(job.node_config, key="node-config"),
        state=state,
        run_config=fuse(app.config, given),
    )


def _message(command: Command, content: RecordDict) -> Message:
    set_identity(run_integer(command.run))
    metadata = Metadata(
        run_id=run_integer(command.run),
        message_id=command.id,
        src_node_id=SUPERLINK_NODE,
        dst_node_id=node_of(command.client),
        reply_to_message_id="",
        group_id=command.group,
        created_at=command.created_at,
        ttl=command.ttl_s,
        message_type=command.type,
    )
    return make_message(metadata, content=content)


def _seed(job: Job) -> None:
    """Seed the sources that apps draw from: by the run's seed, else by a secret of the device."""
    if job.command.seed is not None:
        seed_sources(int(job.command.seed, 16), is_secret=False)
    else:
        digest = hashlib.sha256(f"{job.secret} {job.command.id}".encode()).digest()
        seed_sources(int.from_bytes(digest, "big"), is_secret=True)


def _read_state(state: bytes | None) -> RecordDict:
    if state is None:
        return RecordDict()
    values, pack = read_frame(_Bytes(state)), state[_frame_bytes(state) :]
    content = Content.from_json(values)
    with tempfile.NamedTemporaryFile() as file:
        file.write(pack)
        file.flush()
        return from_content(content, Path(file.name) if pack else None)


def _write_state(records: RecordDict) -> bytes | None:
    """Return the state as a frame that describes it and the pack; None where there is none."""
    if not records:
        return None
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pack"
        content = to_content(records, path)
        pack = path.read_bytes() if path.exists() else b""
    return frame(content.to_json()) + pack


class _Bytes:
    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def read(self, size: int, /) -> bytes:
        piece = self._data[self._at : self._at + size]
        self._at += len(piece)
        return piece


def _frame_bytes(data: bytes) -> int:
    return 8 + int.from_bytes(data[:8], "little")


def _answer(client: ClientApp, message: Message, context: Context) -> Message:
    answer: object = client(message, context)
    if isinstance(answer, Message):
        return answer
    name = "nothing" if answer is None else f"a {type(answer).__name__}"
    raise TypeError(
        f"the function for {message.metadata.message_type!r} returned {name}: let it end with"
        " `return Message(content, reply_to=message)`"
    )


def _failed(code: int, reason: str, begun: float) -> Done:
    return Done(Failure(code, reason), None, time.monotonic() - begun)


# ---------------------------------------------------------------------------------- serving


def serve(connection: socket.socket) -> None:
    """Answer jobs on a socket until its other end closes."""
    log_plainly()
    with connection:
        file = connection.makefile("rb")
        connection.sendall(frame({"pid": os.getpid()}))
        trainer: Trainer | None = None
        while (fields := read_frame(file)) is not None:
            trainer = trainer or Trainer(Path(fields["folder"]))
            done = trainer.work(job_from_json(fields))
            connection.sendall(frame(done_to_json(done)))


def job_from_json(fields: dict[str, Any]) -> Job:
    """Read a job; the counterpart of the worker adapter's writer."""
    return Job(
        command=Command.from_body(fields["body"]),
        bundle=Path(fields["bundle"]),
        pack=Path(fields["pack"]) if fields["pack"] else None,
        state=b64decode(fields["state"]) if fields["state"] is not None else None,
        node_config=fields["node_config"],
        update=Path(fields["update"]),
        secret=fields["secret"],
        model=Path(fields["model"]) if fields["model"] else None,
        may_install=fields["may_install"],
    )


def done_to_json(done: Done) -> dict[str, Any]:
    """Write an answer."""
    failure = done.result if isinstance(done.result, Failure) else None
    content = done.result if isinstance(done.result, Content) else None
    return {
        "content": content.to_json() if content is not None else None,
        "failure": [failure.code, failure.reason] if failure is not None else None,
        "state": b64encode(done.state).decode() if done.state is not None else None,
        "worked_s": done.worked_s,
    }


def main() -> None:
    """Serve on the inherited socket whose file descriptor is the first argument."""
    random.seed(secrets.randbits(64))
    try:
        serve(socket.socket(fileno=int(sys.argv[1])))
    except (BrokenPipeError, ConnectionResetError):
        pass  # the agent is gone: whatever this was is done again
    except WindflowerError as error:
        sys.stderr.write(f"windflower worker: {error}\n")
    end_family()


if __name__ == "__main__":
    main()
