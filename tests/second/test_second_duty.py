"""The second implementation does its duty: each command once, whatever is lost, doubled or old."""

import json
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, Literal

import pytest
from processes import free_port
from second.minimal import Minimal
from vectors import make

from windflower.wire.blobs import Grant
from windflower.wire.content import blob_ref, finish
from windflower.wire.messages import Command, Control, Reply, seal
from windflower.wire.sealing import Signer

DEVICE, RUN, FIRST, SECOND = make.DEVICE, make.RUN, make.IDS[0], make.IDS[1]
FIT = replace(make.COMMANDS["an inline pack"], id=FIRST, method="fit", type="train", epoch=5)
UPLOADED = replace(FIT, id=SECOND, content=finish(make.MODEL, make.BLOB))


class Played:
    """A device whose file outlives it, what it said and what it worked on; its clock is ours."""

    def __init__(self, minimal: Minimal, file: Path, key: str | None) -> None:
        self._call = minimal
        self._said: list[tuple[str, str]] = []
        self._log: list[str] = []
        self._call("told")
        self._key = key
        self._file = str(file)
        self.start()

    def start(self) -> None:
        """Start it, or start it again as after a power cut: nothing but its file is left."""
        self.started = self._call("start", file=self._file, key=self._key)

    def hear(self, said: Command | Control, *grants: Grant, signer: Signer = make.SIGNER) -> None:
        self._call("hear", data=seal(said, signer, grants).to_bytes())

    def work(self) -> None:
        """Let it work until nothing can go on."""
        self._call("work")

    def wait(self, seconds: float) -> None:
        self._call("wait", seconds=seconds)

    @property
    def said(self) -> list[tuple[str, str]]:
        told = self._call("told")
        self._said += [(topic, text) for topic, text in told["said"]]
        self._log += told["log"]
        return self._said

    @property
    def log(self) -> list[str]:
        assert self.said is not None
        return self._log

    @property
    def worked(self) -> list[str]:
        return [line.split()[2] for line in self.log if line.startswith("works on ")]

    @property
    def replies(self) -> list[Reply]:
        return [
            Reply.from_bytes(text.encode()) for topic, text in self.said if topic.endswith("/sent")
        ]

    @property
    def beats(self) -> list[dict[str, Any]]:
        heard = [text for topic, text in self.said if topic == f"flower/clients/{DEVICE}"]
        return [json.loads(text) for text in heard]

    @property
    def now(self) -> dict[str, Any]:
        """What a heartbeat would say now."""
        return dict(self._call("now"))


@pytest.fixture
def played(minimal: Minimal, tmp_path: Path) -> Played:
    return Played(minimal, tmp_path / "device.json", make.SIGNER.public_key)


class Store(HTTPServer):
    """A store of blobs, by key; a grant for what it does not have is dead."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Asked)
        self.blobs: dict[str, bytes] = {}
        self.put: list[bytes] = []

    def grant(self, method: Literal["GET", "PUT"], key: str) -> Grant:
        return Grant(method, key, f"http://127.0.0.1:{self.server_port}/{key}", 1 << 20, 3600.0)


class _Asked(BaseHTTPRequestHandler):
    server: Store

    def do_GET(self) -> None:
        blob = self.server.blobs.get(self.path[1:])
        self.send_response(403 if blob is None else 200)
        self.end_headers()
        self.wfile.write(blob or b"")

    def do_PUT(self) -> None:
        taken = len(self.server.put) > 0
        self.server.put.append(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(400 if self.headers["If-None-Match"] != "*" else 412 if taken else 200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def store() -> Iterator[Store]:
    with Store() as store:
        Thread(target=store.serve_forever, daemon=True).start()
        yield store
        store.shutdown()


def ack(*ids: str, epoch: int = 5, floor: int = 0) -> Control:
    return Control(DEVICE, "ack", ids, epoch=epoch, floor=floor)


def test_a_doubled_command_is_answered_again_and_not_done_again(played: Played) -> None:
    played.hear(FIT)
    played.work()
    played.start()
    played.hear(replace(FIT, epoch=6))
    played.work()

    assert [FIRST] == played.worked
    first, again = played.replies
    assert first == again
    assert 5 == again.epoch


def test_what_was_acknowledged_is_remembered_over_a_restart(played: Played) -> None:
    played.hear(FIT)
    played.work()
    played.hear(ack(FIRST))
    played.start()
    played.hear(FIT)
    played.work()
    played.hear(Control(DEVICE, "rollcall", epoch=5))

    assert [FIRST] == played.worked
    assert 1 == len(played.replies)
    assert "outbox" not in played.beats[-1]


def test_a_command_that_was_kept_and_not_worked_on_is_worked_on_after_a_restart(
    played: Played,
) -> None:
    played.hear(FIT)
    played.start()
    played.work()

    assert [FIRST] == [reply.id for reply in played.replies]


def test_an_old_epoch_an_old_run_and_a_foreign_key_are_refused(played: Played) -> None:
    played.hear(FIT)
    played.hear(replace(FIT, id=SECOND, epoch=4))
    played.hear(replace(FIT, id=make.IDS[2], run="r1", number=1))
    played.hear(replace(FIT, id=make.IDS[3]), signer=Signer(bytes(32)))
    played.work()

    assert [FIRST] == played.worked


def test_a_raised_floor_drops_all_below_it(played: Played) -> None:
    played.hear(FIT)
    played.work()
    played.hear(replace(FIT, id=SECOND))
    played.hear(ack(floor=4))
    played.work()
    played.hear(Control(DEVICE, "rollcall", epoch=5))
    beat = played.beats[-1]

    assert [FIRST] == played.worked
    assert (4, None, None) == (beat["floor"], beat.get("queued"), beat.get("outbox"))


def test_a_cancel_drops_what_was_not_answered_and_an_older_one_drops_nothing(
    played: Played,
) -> None:
    played.hear(FIT)
    played.hear(Control(DEVICE, "cancel", (FIRST,), epoch=4))
    assert [FIRST] == played.now["queued"]
    played.hear(Control(DEVICE, "cancel", (FIRST,), epoch=5))
    played.hear(FIT)
    played.work()
    assert [] == played.worked

    played.hear(replace(FIT, epoch=6))
    played.work()
    assert [FIRST] == played.worked

    played.hear(Control(DEVICE, "cancel", (FIRST,), epoch=6))
    played.hear(Control(DEVICE, "rollcall", epoch=6))
    assert 2 == len(played.replies)


def test_a_missing_grant_is_needed_once_aloud_and_holds_up_its_own_run_only(
    played: Played,
) -> None:
    other = replace(FIT, id=make.IDS[2], run="r4-other", number=4)
    later = replace(FIT, id=make.IDS[3])
    for command in (UPLOADED, later, other):
        played.hear(command)
    played.work()
    needs = [beat for beat in played.beats if beat["state"] == "need"]

    assert [other.id] == played.worked
    assert [[SECOND]] == [beat["need"] for beat in needs]


def test_a_method_that_it_does_not_do_is_answered_with_error_2(played: Played) -> None:
    played.hear(replace(make.QUERY, method="get_parameters", type="get_parameters"))
    played.work()
    (reply,) = played.replies

    assert reply.failure is not None
    assert (2, True) == (reply.failure.code, "keeps no models" in reply.failure.reason)


def test_a_device_that_was_given_no_key_pins_the_first_that_fits(
    minimal: Minimal, tmp_path: Path
) -> None:
    played, foreign = Played(minimal, tmp_path / "device.json", None), Signer(bytes(32))
    played.hear(ack(), signer=foreign)
    played.start()

    assert foreign.public_key == played.started["key"]


def test_a_rollcall_with_its_own_boot_ends_it(played: Played) -> None:
    played.hear(Control(DEVICE, "rollcall", boot=played.started["boot"], epoch=5))

    assert [f"leaves: another agent runs under the id {DEVICE}"] == played.log
    assert [] == played.beats


def test_a_command_that_waited_for_longer_than_its_ttl_is_answered_with_error_3(
    played: Played,
) -> None:
    played.hear(replace(FIT, ttl_s=10))
    played.hear(replace(FIT, id=SECOND, ttl_s=30))
    played.wait(20)
    played.work()
    first, second = played.replies

    assert first.failure is not None
    assert (3, None) == (first.failure.code, second.failure)
    assert [SECOND] == played.worked


def test_a_download_that_fails_is_needed_after_three_times_and_given_up_after_twenty(
    played: Played,
) -> None:
    assert UPLOADED.content.pack is not None
    key, size = UPLOADED.content.pack.key, UPLOADED.content.pack.size_bytes
    nobody = Grant("GET", key, f"http://127.0.0.1:{free_port()}/x", size, 3600.0)
    played.hear(replace(UPLOADED, ttl_s=10_000), nobody)
    played.work()
    played.work()  # half a second has not passed
    needs = [played.now.get("need")]
    for pause_s in (0.5, 1, *[30] * 17):
        played.wait(pause_s)
        played.work()
        needs.append(played.now.get("need"))
    assert [] == played.replies
    played.wait(30)
    played.work()
    (reply,) = played.replies

    assert [None, None, *[[SECOND]] * 18] == needs
    assert reply.failure is not None
    assert 3 == reply.failure.code


def test_a_new_grant_ends_the_wait_and_a_second_dead_one_is_not_said_aloud(
    played: Played, store: Store
) -> None:
    assert UPLOADED.content.pack is not None
    played.hear(UPLOADED)
    played.work()
    played.hear(
        Control(DEVICE, "grant", (SECOND,), epoch=5), store.grant("GET", UPLOADED.content.pack.key)
    )
    assert ([SECOND], None) == (played.now["queued"], played.now.get("need"))
    played.work()

    assert [SECOND] == played.now["need"]
    assert 1 == len([beat for beat in played.beats if beat["state"] == "need"])


def test_a_pack_goes_up_before_its_reply_and_goes_up_again_when_the_command_comes_again(
    played: Played, store: Store
) -> None:
    weights = make.npy("<f4", (20_000,), bytes(80_000))
    packing = make.packing_of(("arrays", {"w": ("float32", (20_000,), weights)}))
    blob = b"".join(packing.chunks())
    large = replace(FIT, content=finish(packing, blob_ref(blob)))
    store.blobs[blob_ref(blob).key] = blob
    played.hear(large, store.grant("GET", blob_ref(blob).key))
    played.work()
    assert ([FIRST], [FIRST], []) == (played.now["queued"], played.now["need"], played.replies)

    put = store.grant("PUT", large.reply_key)
    played.hear(Control(DEVICE, "grant", (FIRST,), epoch=5), put)
    played.work()
    played.hear(large, put)
    assert [FIRST] == played.now["queued"]
    played.work()
    first, again = played.replies

    assert first == again
    assert [first.content.pack] * 2 == [blob_ref(pack) for pack in store.put]
    assert [FIRST] == played.worked


def test_a_doubled_command_that_ends_later_is_waited_for_longer(played: Played) -> None:
    played.hear(replace(FIT, ttl_s=10))
    played.wait(5)
    played.hear(replace(FIT, ttl_s=10))
    played.wait(9)
    played.work()

    assert [FIRST] == played.worked


def test_a_pack_with_other_records_than_were_named_is_answered_with_error_3(
    played: Played,
) -> None:
    played.hear(replace(FIT, content=replace(FIT.content, records=(("other", None),))))
    played.work()
    (reply,) = played.replies

    assert reply.failure is not None
    assert 3 == reply.failure.code
