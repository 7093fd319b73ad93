"""What the gateway's half says, where the simulator would only see its consequences."""

from windflower.core.exchange import Exchanges
from windflower.core.gateway_effects import Effect, Tell
from windflower.core.roster import Roster
from windflower.wire.messages import Heartbeat


def told(effects: list[Effect]) -> list[Tell]:
    return [effect for effect in effects if isinstance(effect, Tell)]


def heartbeat(*, floor: int = 0) -> Heartbeat:
    return Heartbeat("d1", 0.0, "boot", "interval", 60.0, floor=floor)


def test_a_device_that_keeps_runs_that_are_over_is_told_the_floor_once() -> None:
    exchanges = Exchanges(Roster())
    exchanges.begin(epoch=5, last_number=3)

    assert [Tell("d1", "ack", epoch=5, floor=4)] == told(exchanges.heard(heartbeat(), 1.0))
    assert [] == told(exchanges.heard(heartbeat(floor=4), 2.0))


def test_the_floor_is_the_first_run_that_is_open() -> None:
    exchanges = Exchanges(Roster())
    exchanges.begin(epoch=5, last_number=3)
    exchanges.open_run("2-a", number=2, epoch=5)
    exchanges.open_run("3-b", number=3, epoch=6)

    assert (2, 6) == (exchanges.floor, exchanges.epoch)
