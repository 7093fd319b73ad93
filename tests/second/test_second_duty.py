"""The second implementation does its duty: each command once, whatever is lost, doubled or old."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from second.minimal import device as minimal
from vectors import make

from windflower.wire.blobs import Grant
from windflower.wire.content import finish
from windflower.wire.messages import Command, Control, Reply, seal
from windflower.wire.sealing import Signer

DEVICE, RUN, FIRST, SECOND = make.DEVICE, make.RUN, make.IDS[0], make.IDS[1]
FIT = replace(make.COMMANDS["an inline pack"], id=FIRST, method="fit", type="train", epoch=5)
UPLOADED = replace(FIT, id=SECOND, content=finish(make.MODEL, make.BLOB))


class Played:
    """A device whose file outlives it, and what it said."""

    def __init__(self, folder: Path) -> None:
        self.said: list[tuple[str, dict[str, Any]]] = []
        self.worked: list[str] = []
        self._file = str(folder / "device.db")
        self.start()

    def start(self) -> None:
        """Start it, or start it again as after a power cut: nothing but its file is left."""
        key = make.SIGNER.public_key
        self.device = minimal.Device(DEVICE, self._file, key=key, say=self._say)

    def _say(self, topic: str, text: str, _qos: int) -> None:
        self.said.append((topic, json.loads(text)))

    def hear(self, said: Command | Control, *grants: Grant, signer: Signer = make.SIGNER) -> None:
        self.device.receive(seal(said, signer, grants).to_bytes())

    def work(self) -> None:
        """Let it work until nothing can go on."""
        while self.device.step():
            pass

    @property
    def replies(self) -> list[Reply]:
        return [
            Reply.from_bytes(json.dumps(said).encode())
            for topic, said in self.said
            if topic.endswith("/sent")
        ]

    @property
    def last_beat(self) -> dict[str, Any]:
        return [said for topic, said in self.said if topic == f"flower/clients/{DEVICE}"][-1]


@pytest.fixture
def played(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Played:
    played = Played(tmp_path)
    real: Callable[..., Any] = minimal.work

    def counted(command: dict[str, Any], pack: bytes | None) -> Any:  # noqa: ANN401
        played.worked.append(command["id"])
        return real(command, pack)

    monkeypatch.setattr(minimal, "work", counted)
    return played


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
    assert "outbox" not in played.last_beat


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
    beat = played.last_beat

    assert [FIRST] == played.worked
    assert (4, None, None) == (beat["floor"], beat.get("queued"), beat.get("outbox"))


def test_a_cancel_drops_what_was_not_answered_and_an_older_one_drops_nothing(
    played: Played,
) -> None:
    played.hear(FIT)
    played.hear(Control(DEVICE, "cancel", (FIRST,), epoch=4))
    assert [FIRST] == json.loads(played.device.heartbeat("interval"))["queued"]
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
    needs = [said for _, said in played.said if said.get("state") == "need"]

    assert [other.id] == played.worked
    assert [[SECOND]] == [beat["need"] for beat in needs]


def test_a_method_that_it_does_not_do_is_answered_with_error_2(played: Played) -> None:
    played.hear(replace(make.QUERY, method="get_parameters", type="get_parameters"))
    played.work()
    (reply,) = played.replies

    assert reply.failure is not None
    assert (2, True) == (reply.failure.code, "keeps no models" in reply.failure.reason)


def test_a_device_that_was_given_no_key_pins_the_first_that_fits(tmp_path: Path) -> None:
    file = str(tmp_path / "device.db")
    foreign = Signer(bytes(32))
    minimal.Device(DEVICE, file).receive(seal(ack(), foreign).to_bytes())

    assert foreign.public_key == minimal.Device(DEVICE, file).own["key"]


def test_a_rollcall_with_its_own_boot_ends_it(played: Played) -> None:
    with pytest.raises(SystemExit):
        played.hear(Control(DEVICE, "rollcall", boot=played.device.boot, epoch=5))
