"""A small Flower-like app: what a run asks, what a device makes of it, and how its twin ends.

Everything is a hash of what it depends on, so that one lost, doubled or exchanged piece of work
changes all that follows.
"""

import hashlib
from collections.abc import Generator, Iterable
from dataclasses import dataclass
from functools import cache
from typing import Final

from windflower.core.identity import command_id
from windflower.core.policy import RoundPolicy
from windflower.wire.content import Content, blob_ref
from windflower.wire.messages import Command, Failure, Reply, method_of
from windflower.wire.values import Values

APP_ERROR: Final = 7
"""What the app's own exception is to Flower; nothing of windflower uses this code."""

_STATELESS: Final = "query"


def digest(*parts: str) -> str:
    """Hash a few strings."""
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


# ----------------------------------------------------------------------------------- the run


@dataclass(frozen=True, slots=True)
class Plan:
    """What one run is going to do.

    Attributes:
        run: its id.
        devices: the fleet.
        rounds: how many.
        starts_at: when a person starts it.
        stops_at: when a person stops it, done or not; None lets it go on.
        timeout_s: how long a phase waits.
        policy: what its phases wait for.
        has_blobs: whether models and updates are too large for a message.
    """

    run: str
    devices: tuple[str, ...]
    rounds: int
    starts_at: float
    stops_at: float | None
    timeout_s: float
    policy: RoundPolicy
    has_blobs: bool

    @property
    def works(self) -> int:
        """How many pieces of work it asks for, undisturbed: what is counted as device-rounds."""
        cohort = len(self.devices) - (len(self.devices) >= 3)
        return 3 * cohort * self.rounds


@dataclass(frozen=True, slots=True)
class Question:
    """What a phase asks of one device."""

    device: str
    type: str
    group: str
    model: str


Answers = dict[Question, str]
Script = Generator[tuple[Question, ...], Answers, str]


def script(plan: Plan) -> Script:
    """Run the app: yield what a phase asks, take its answers, return the last model."""
    model = digest("model", plan.run)
    for number in range(1, plan.rounds + 1):
        group = str(number)
        cohort = _cohort(plan.devices, model)
        model = _aggregate(model, (yield _ask(cohort, ("train",), group, model)))
        model = _aggregate(model, (yield _ask(cohort, ("evaluate", _STATELESS), group, model)))
    return model


def _cohort(devices: tuple[str, ...], model: str) -> tuple[str, ...]:
    """Leave one device out, which one depends on all that was answered so far."""
    if len(devices) < 3:
        return devices
    left_out = int(model, 16) % len(devices)
    return tuple(d for i, d in enumerate(devices) if i != left_out)


def _ask(
    devices: Iterable[str], types: tuple[str, ...], group: str, model: str
) -> tuple[Question, ...]:
    return tuple(Question(d, type_, group, model) for d in devices for type_ in types)


def _aggregate(model: str, answers: Answers) -> str:
    ordered = sorted(f"{q.device} {q.type} {answer}" for q, answer in answers.items())
    return digest(model, *ordered)


@dataclass(frozen=True, slots=True)
class Told:
    """What a device is sent: content, its digest, and the blob beside it."""

    content: Content
    digest: str
    pack: bytes | None

    @property
    def text(self) -> str:
        """What the app reads of it."""
        return _told(self.content, self.pack)


@cache
def told(model: str, *, is_blob: bool) -> Told:
    """Spell a model: all devices of a phase are sent the same."""
    pack = f"model {model}".encode() if is_blob else None
    if pack is not None:
        content = Content((("model", None),), blob_ref(pack))
    else:
        content = Content((("model", Values("configs", (("model", model),))),))
    return Told(content, content.digest, pack)


def told_by(plan: Plan, question: Question) -> Told:
    """Return what a question is sent as; only training takes a blob."""
    return told(question.model, is_blob=plan.has_blobs and question.type == "train")


def _told(content: Content, pack: bytes | None) -> str:
    if pack is not None:
        return pack.hex()
    values = content.records[0][1]
    return repr(values.items) if values is not None else ""


def command_of(
    plan: Plan,
    question: Question,
    *,
    number: int,
    epoch: int,
    now: float,
    ttl_s: float,
    reuses_ids: bool = False,
) -> Command:
    """Spell a question as a command; asked again by a later epoch it has the same id."""
    sent = told_by(plan, question)
    return Command(
        id=command_id(
            run=plan.run,
            device=question.device,
            message_type=question.type,
            group="" if reuses_ids else question.group,
            content_digest="" if reuses_ids else sent.digest,
            occurrence=0,
        ),
        client=question.device,
        method=method_of(question.type),
        type=question.type,
        group=question.group,
        run=plan.run,
        number=number,
        epoch=epoch,
        floor=0,
        ttl_s=ttl_s,
        created_at=now,
        content=sent.content,
    )


# -------------------------------------------------------------------------------- the device


@dataclass(frozen=True, slots=True)
class Result:
    """What a worker hands over: an answer or a failure, the pack beside it, the new state."""

    content: Content | Failure
    pack: bytes | None
    state: str

    @property
    def answer(self) -> str:
        """What the run will see of it."""
        if isinstance(self.content, Failure):
            return failure_text(self.content)
        return answer_text(self.content, self.pack)


def first_state(device: str, run: str) -> str:
    """Return the state in which an app starts on a device."""
    return digest("state", device, run)


def work(command: Command, pack: bytes | None, state: str) -> Result:
    """Do what a command says: the result depends on all that the device was told and did before.

    Args:
        command: the command.
        pack: the bytes that its content names, as the device holds them.
        state: what earlier work of the same run left behind.
    """
    question = Question(command.client, command.type, command.group, "")
    return _work(command.run, question, _told(command.content, pack), state, has_pack=bool(pack))


def _work(run: str, asked: Question, text: str, state: str, *, has_pack: bool) -> Result:
    known = "" if asked.type == _STATELESS else state
    made = digest(run, asked.device, asked.type, asked.group, text, known)
    after = state if asked.type == _STATELESS else digest("after", state, made)
    if made.startswith("0"):
        return Result(Failure(APP_ERROR, f"the app raised {made[:8]}"), None, state)
    values = Values("metrics", (("loss", int(made[:8], 16) / 7), ("num-examples", 3)))
    if asked.type == "train" and made[1] < ("c" if has_pack else "2"):
        update = f"update {made}".encode()
        content = Content((("update", None), ("metrics", values)), blob_ref(update))
        return Result(content, update, after)
    said = Values("configs", (("answer", made),))
    return Result(Content((("said", said), ("metrics", values))), None, after)


def answer_text(content: Content, pack: bytes | None) -> str:
    """Return what an app reads from a reply's content."""
    held = "" if pack is None else pack.decode(errors="replace")
    return digest(repr(content.records), held)


def failure_text(failure: Failure) -> str:
    """Return what an app sees of a failure."""
    return f"failed {failure.code} {failure.reason}"


def reply_text(reply: Reply, blobs: dict[str, bytes]) -> str:
    """Return what an app reads from a reply."""
    if reply.failure is not None:
        return failure_text(reply.failure)
    path = reply.path
    return answer_text(reply.content, None if path is None else blobs.get(path, b"nothing"))


# ----------------------------------------------------------------------------------- the twin


@dataclass(frozen=True, slots=True)
class Ending:
    """How a run ended: its last model, and the state on each device that did anything."""

    model: str
    states: dict[str, str]


def undisturbed(plan: Plan) -> Ending:
    """Run the app in a plain loop: no network, no clock, no fault."""
    states: dict[str, str] = {}
    running = script(plan)
    asked = next(running)
    while True:
        answers: Answers = {}
        for question in asked:
            device = question.device
            sent = told_by(plan, question)
            state = states.get(device) or first_state(device, plan.run)
            has_pack = sent.pack is not None
            result = _work(plan.run, question, sent.text, state, has_pack=has_pack)
            states[device] = result.state
            answers[question] = result.answer
        try:
            asked = running.send(answers)
        except StopIteration as ended:
            return Ending(str(ended.value), states)
