"""Ledger entries as JSON, for journals that are a sequence of entries."""

from base64 import b64decode, b64encode
from dataclasses import asdict
from typing import Any

from windflower.core.gateway_effects import RecordCommands, RecordMissing, RecordReply, RecordTerms
from windflower.core.ledger import (
    AggregateRecord,
    CheckpointRecord,
    DropRecord,
    Entry,
    EpochRecord,
    ForgetRecord,
    PhaseRecord,
    PullRecord,
    RosterRecord,
    RunRecord,
    SpareRecord,
)
from windflower.core.policy import Terms
from windflower.core.roster import Presence
from windflower.wire.blobs import BlobRef
from windflower.wire.messages import Command, Failure, Reply


def entry_to_json(entry: Entry) -> list[object]:  # noqa: C901, PLR0911, PLR0912 - one case a kind
    """Return an entry as a list: what it is, and what it says."""
    match entry:
        case RecordCommands(commands, batch, terms):
            return ["commands", [c.to_body() for c in commands], batch, asdict(terms)]
        case RecordTerms(batch, terms):
            return ["terms", batch, asdict(terms)]
        case RecordReply(reply):
            return ["reply", reply.to_bytes().decode()]
        case RecordMissing(command, failure):
            return ["missing", command.to_body(), failure.code, failure.reason]
        case RunRecord():
            return ["run", entry.to_json()]
        case PhaseRecord(run, phase, ids, number):
            return ["phase", run, phase, list(ids), number]
        case RosterRecord(run, call, devices):
            return ["roster", run, call, list(devices)]
        case PullRecord(run, call, ids):
            return ["pull", run, call, list(ids)]
        case AggregateRecord(run, key, ref):
            return ["aggregate", run, key, ref.to_json()]
        case SpareRecord(run, ids, header):
            return ["spare", run, list(ids), b64encode(header).decode()]
        case CheckpointRecord(run, name, number, ref, waiting_for, phases):
            kept = [run, name, number, ref.to_json(), list(waiting_for), phases]
            return ["checkpoint", *kept]
        case DropRecord(run, ids):
            return ["drop", run, list(ids)]
        case ForgetRecord(run):
            return ["forget", run]
        case EpochRecord(epoch):
            return ["epoch", epoch]
        case Presence():
            fields = asdict(entry)
            del fields["clock_ahead_s"], fields["agent"]  # no use to whoever reads it later
            return ["presence", fields]


def entry_from_json(value: list[Any]) -> Entry:  # noqa: C901, PLR0911, PLR0912 - one case a kind
    """Read what `entry_to_json` wrote; raises ValueError where it is of another release."""
    match value:
        case ["commands", bodies, batch, terms]:
            commands = tuple(Command.from_body(body) for body in bodies)
            return RecordCommands(commands, batch, Terms(**terms))
        case ["terms", batch, terms]:
            return RecordTerms(batch, Terms(**terms))
        case ["reply", text]:
            return RecordReply(Reply.from_bytes(text.encode()))
        case ["missing", body, code, reason]:
            return RecordMissing(Command.from_body(body), Failure(code, reason))
        case ["run", record]:
            return RunRecord.from_json(record)
        case ["phase", run, phase, ids, number]:
            return PhaseRecord(run, phase, tuple(ids), number)
        case ["roster", run, call, devices]:
            return RosterRecord(run, call, tuple(devices))
        case ["pull", run, call, ids]:
            return PullRecord(run, call, tuple(ids))
        case ["aggregate", run, key, ref]:
            return AggregateRecord(run, key, BlobRef.from_json(ref))
        case ["spare", run, ids, header]:
            return SpareRecord(run, tuple(ids), b64decode(header))
        case ["checkpoint", run, name, number, ref, waiting_for, phases]:
            ref = BlobRef.from_json(ref)
            return CheckpointRecord(run, name, number, ref, tuple(waiting_for), phases)
        case ["drop", run, ids]:
            return DropRecord(run, tuple(ids))
        case ["forget", run]:
            return ForgetRecord(run)
        case ["epoch", epoch]:
            return EpochRecord(epoch)
        case ["presence", fields]:
            return Presence(**fields)
        case _:
            raise ValueError(f"no entry of this release: {str(value[:1])[:40]}")


def run_of(entry: Entry) -> str | None:
    """Return the run that an entry belongs to, so that it may go when that is forgotten."""
    match entry:
        case RecordCommands(commands, _, _):
            return commands[0].run if commands else None
        case RecordReply(reply):
            return reply.run
        case RecordMissing(command, _):
            return command.run
        case (
            PhaseRecord(run=run)
            | RosterRecord(run=run)
            | PullRecord(run=run)
            | AggregateRecord(run=run)
            | SpareRecord(run=run)
            | CheckpointRecord(run=run)
            | DropRecord(run=run)
        ):
            return run
        case _:
            return None
