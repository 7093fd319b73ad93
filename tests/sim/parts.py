"""What a simulation is built of, so that a planted bug can take the place of a sound part."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from sim.journal import KeepPresence
from sim.process import Commit, records_first
from windflower.core.device_effects import Effect as DeviceEffect
from windflower.core.duty import Duty
from windflower.core.exchange import Exchanges
from windflower.core.gateway_effects import RECORDS
from windflower.core.gateway_effects import Effect as GatewayEffect
from windflower.core.roster import Roster

GatewayFilter = Callable[[Iterable[GatewayEffect]], list[GatewayEffect]]
DeviceFilter = Callable[[Iterable[DeviceEffect]], list[DeviceEffect]]

GatewayStep = GatewayEffect | KeepPresence
GatewaySteps = Callable[[Iterable[GatewayStep]], list[GatewayStep | Commit[GatewayStep]]]


def in_one_commit(effects: Iterable[GatewayStep]) -> list[GatewayStep | Commit[GatewayStep]]:
    """Write all records of a batch together, then do the rest in its order."""
    return records_first(effects, (*RECORDS, KeepPresence))


@dataclass(frozen=True, slots=True)
class Parts:
    """The core as it is, and the promises that whoever carries out its effects has to keep.

    Attributes:
        exchanges: the gateway's half.
        roster: who is there.
        duty: the device's half.
        gateway_filter: applied to the effects of each call of the gateway's half.
        gateway_steps: in which order a batch of them is carried out, and what shares a commit.
        device_filter: applied to the effects of each call of the device's half.
        waits_for_records: whether later effects wait until a record is durable.
        inspects: whether the gateway looks at blobs.
        commits_state: when a device writes the app's state: with the reply, before or after it.
        reuses_ids: whether a command's id leaves out which round it belongs to.
        restores_settled: whether a gateway takes up what its journal holds settled.
        remembers_done: whether a device takes up what was acknowledged.
        counts_boots: whether a start of the agent counts as a start of the first that waits.
        sweeps: what a cleaning gateway leaves in the blob store: "live" is what runs rest on,
            "settled" forgets those that are open, "all" never cleans.
        orphaned_s: a blob to which nothing refers stays for so long.
        checks_downloads: whether a device compares what it fetched with its digest.
        checks_cache: whether it does so with its cache, after a power loss.
        uses_cache: whether it downloads only what it does not have.
        empties_cache: whether it begins each life without a cache.
        discards: whether the gateway removes a blob that is not what its reply names.
        drops_damaged: whether it drops the beginning of a download that came to other bytes.
    """

    exchanges: type[Exchanges] = Exchanges
    roster: type[Roster] = Roster
    duty: type[Duty] = Duty
    gateway_filter: GatewayFilter = field(default=list)
    gateway_steps: GatewaySteps = in_one_commit
    device_filter: DeviceFilter = field(default=list)
    waits_for_records: bool = True
    inspects: bool = True
    commits_state: str = "with"
    reuses_ids: bool = False
    restores_settled: bool = True
    remembers_done: bool = True
    counts_boots: bool = False
    sweeps: str = "live"
    orphaned_s: float = 30.0
    checks_downloads: bool = True
    checks_cache: bool = True
    drops_damaged: bool = True
    uses_cache: bool = True
    empties_cache: bool = False
    discards: bool = True


SOUND = Parts()
