import hashlib
from dataclasses import replace

import pytest
from vectors import make

from windflower.errors import LocalProtocolError, MalformedMessage
from windflower.wire.blobs import BlobRef, Grant
from windflower.wire.content import ArrayEntry, Arrays, Content, Packing, pack_inline, pack_records
from windflower.wire.limits import (
    GRANTS_BYTES,
    IDS,
    INLINE_PACK_BYTES,
    LABELS_BYTES,
    MESSAGE_BYTES,
    REASON_BYTES,
    REASON_CHARS,
)
from windflower.wire.messages import (
    METHODS,
    Command,
    Control,
    Envelope,
    Failure,
    Heartbeat,
    Reply,
    check_labels,
    method_of,
    seal,
)
from windflower.wire.strict_json import dumps, loads
from windflower.wire.values import Value, Values

NAME = "d" * 128
RUN = "r" * 128
ID = "0" * 32
MANY = tuple(format(n, "032x") for n in range(300))


def _fullest_content() -> Content:
    """Return the largest content that is sent: the pack inline, and as many values as stay."""
    size = INLINE_PACK_BYTES - 128
    arrays = Arrays((ArrayEntry("w", "u1", (size,), "raw", size),))

    def packing(count: int) -> Packing:
        values = Values("metrics", tuple((f"\\{n}", 1.1) for n in range(count)))
        return pack_records([("a", arrays), ("m", values)], [bytes(size)])

    count = 0
    while packing(count + 1).inline[1][1] is not None:
        count += 1
    content = pack_inline(packing(count))
    assert INLINE_PACK_BYTES == len(content.inline or b"")
    return content


CONTENT = _fullest_content()
LONGEST_GRANT = Grant("PUT", "k" * 512, "https://h/" + "u" * 4086, 1 << 40, 123456789.12345678)
COMMAND = Command(
    id=ID,
    client=NAME,
    method="set_parameters",
    type="get_parameters",
    group="g" * 1024,
    run=RUN,
    number=1 << 53,
    epoch=1 << 53,
    floor=1 << 53,
    ttl_s=123456789.12345678,
    created_at=123456789012.34567,
    content=CONTENT,
    bundle=BlobRef("f" * 64, 1 << 40),
    seed="0" * 16,
)


# ----------------------------------------------------------------------------------- the sizes


def test_the_largest_command_fits_into_a_message_with_its_grants() -> None:
    COMMAND.check_sendable()

    for count in (1, 2, 3):
        grants = (LONGEST_GRANT,) * count
        assert len(seal(COMMAND, make.SIGNER, grants).to_bytes()) <= MESSAGE_BYTES


def test_a_command_that_passes_the_check_fits_whatever_it_is_made_of() -> None:
    def command(size: int) -> Command:
        return replace(COMMAND, config=Values("configs", (("x", '"' * size),)))

    def is_sendable(size: int) -> bool:
        try:
            command(size).check_sendable()
        except LocalProtocolError:
            return False
        return True

    fits, too_much = 0, 1 << 17
    while too_much - fits > 1:
        middle = (fits + too_much) // 2
        fits, too_much = (middle, too_much) if is_sendable(middle) else (fits, middle)

    assert MESSAGE_BYTES - GRANTS_BYTES - 4 < len(dumps(command(fits).to_body()))
    assert len(seal(command(fits), make.SIGNER, (LONGEST_GRANT,) * 3).to_bytes()) <= MESSAGE_BYTES
    with pytest.raises(LocalProtocolError, match="can be sent"):
        command(too_much).check_sendable()


@pytest.mark.parametrize(
    "changed",
    [
        {"type": "t" * 257},
        {"group": "g" * 1025},
        {"group": "\ud800"},
        {"ttl_s": -1.0},
        {"run": "a/b"},
        {"client": "gateway"},
        {"config": Values("configs", (("x" * 5000, 1),))},
        {"config": Values("metrics", (("x", 1),))},
    ],
)
def test_a_command_that_devices_would_refuse_is_not_sent(changed: dict[str, object]) -> None:
    with pytest.raises(LocalProtocolError, match="devices refuse"):
        replace(COMMAND, **changed).check_sendable()  # type: ignore[arg-type]


def test_the_largest_reply_fits_into_a_message() -> None:
    reply = Reply(NAME, ID, "get_parameters", RUN, 1 << 53, CONTENT, worked_s=123456789.12345678)
    for method in METHODS:
        assert len(replace(reply, method=method).to_bytes()) <= MESSAGE_BYTES


def test_the_fullest_heartbeat_fits_into_a_message() -> None:
    labels = {f"{n}": "🌬" * 20 for n in range(64)}
    heartbeat = Heartbeat(
        NAME,
        -1e15 / 3,
        "b" * 64,
        "rollcall",
        1e9 / 3,
        ID,
        MANY,
        MANY,
        MANY,
        1 << 53,
        (255,) * 16,
        labels,
    )

    data = heartbeat.to_bytes()

    assert LABELS_BYTES - 1000 < len(dumps(labels)) <= LABELS_BYTES
    assert len(data) <= MESSAGE_BYTES
    assert MANY[:IDS] == Heartbeat.from_bytes(data).queued


def test_the_longest_control_fits_into_a_message() -> None:
    control = Control(NAME, "grant", MANY[:IDS], "🌬" * 64, epoch=1 << 53, floor=1 << 53)

    assert len(seal(control, make.SIGNER, (LONGEST_GRANT,) * 3).to_bytes()) <= MESSAGE_BYTES


# ----------------------------------------------------------------------------------- failures


@pytest.mark.parametrize(
    "character", ["a", "\n", '"', "\\", "\0", "\x7f", "ü", "日", "🌬", chr(0xD800)]
)
@pytest.mark.parametrize("count", [0, 1, REASON_CHARS, REASON_CHARS + 1, 10 * REASON_CHARS])
def test_a_reason_of_any_length_and_letters_fits_and_arrives(character: str, count: int) -> None:
    failure = Failure(2, character * count)
    reply = Reply(NAME, ID, "get_parameters", RUN, 1 << 53, failure=failure)

    data = reply.to_bytes()

    assert len(data) <= MESSAGE_BYTES
    assert reply == Reply.from_bytes(data)
    assert len(failure.reason) <= REASON_CHARS
    assert len(dumps(failure.reason)) <= REASON_BYTES


def test_a_reason_of_exactly_the_limit_is_kept_whole() -> None:
    assert "a" * REASON_CHARS == Failure(1, "a" * REASON_CHARS).reason
    assert "\n[ ... ]\n" in Failure(1, "a" * (REASON_CHARS + 1)).reason
    fits = "🌬" * ((REASON_BYTES - 2) // 12)
    assert fits == Failure(1, fits).reason
    assert "\n[ ... ]\n" in Failure(1, fits + "🌬").reason


def test_a_long_reason_keeps_its_first_and_its_last_words() -> None:
    for filling in ("a", "🌬", "\0", "a\n"):
        reason = Failure(1, f"first {filling * 20_000} last").reason

        assert reason.startswith("first ")
        assert reason.endswith(" last")


def test_half_of_a_surrogate_pair_in_a_reason_becomes_a_question_mark() -> None:
    assert "no file ?.txt" == Failure(1, "no file \udcff.txt").reason


@pytest.mark.parametrize("code", [-1, (1 << 31) + 1, 10**30])
def test_a_code_that_no_reader_takes_becomes_unknown(code: int) -> None:
    assert 0 == Failure(code, "").code


# ----------------------------------------------------------------------------------- heartbeats


@pytest.mark.parametrize(
    "labels",
    [
        {str(n): "" for n in range(65)},
        {"k" * 65: ""},
        {"k": "v" * 257},
        {"k": 1},
        {"\ud800": ""},
        {str(n): "v" * 256 for n in range(64)},
        [],
        None,
    ],
)
def test_labels_that_a_gateway_would_refuse_are_refused(labels: object) -> None:
    with pytest.raises(MalformedMessage):
        check_labels(labels)


def test_labels_at_their_limits_are_taken() -> None:
    labels = {f"{n:064}": "v" * 180 for n in range(64)}

    assert labels == check_labels(labels)


def test_what_a_device_holds_is_what_it_has_and_has_not_answered() -> None:
    heartbeat = Heartbeat("d", 0, "b", "task", 60, MANY[0], (MANY[1],), (MANY[2],), (MANY[1],))

    assert MANY[:2] == heartbeat.holds
    assert () == Heartbeat("d", 0, "b", "task", 60).holds


def test_a_later_versions_progress_is_skipped() -> None:
    data = make.HEARTBEATS["the first of a device"].to_bytes()

    for progress in (0.5, {"epoch": [1, 2]}, None):
        more = dumps({**loads(data), "progress": progress}).encode()
        assert Heartbeat.from_bytes(data) == Heartbeat.from_bytes(more)


# ------------------------------------------------------------------------------------ commands


@pytest.mark.parametrize(
    ("message_type", "method"),
    [
        ("train", "fit"),
        ("train.warm_up", "fit"),
        ("evaluate", "evaluate"),
        ("query", "query"),
        ("query.a.b", "query"),
        ("get_properties", "query"),
        ("get_parameters", "get_parameters"),
    ],
)
def test_every_type_of_flower_has_its_method(message_type: str, method: str) -> None:
    assert method == method_of(message_type)


@pytest.mark.parametrize("message_type", ["", "system", "Train", ".train", "set_parameters"])
def test_a_type_that_no_method_carries_is_refused(message_type: str) -> None:
    with pytest.raises(MalformedMessage):
        method_of(message_type)


def test_a_device_must_hold_the_bundle_and_a_pack_that_is_elsewhere() -> None:
    everything = make.COMMANDS["everything"]
    assert (make.BUNDLE, make.BLOB) == everything.blobs
    assert (make.BUNDLE,) == replace(everything, content=CONTENT).blobs
    assert () == make.QUERY.blobs


def test_an_envelopes_control_is_opened_as_a_control_and_a_command_as_a_command() -> None:
    messages: list[Command | Control] = [*make.COMMANDS.values(), *make.CONTROLS.values()]
    for message in messages:
        opened = seal(message, make.SIGNER).open(pinned_key=make.SIGNER.public_key)

        assert type(message) is type(opened)


def test_an_envelope_carries_at_most_as_many_grants_as_ids() -> None:
    grant = Grant("GET", "k", "http://h", 0, 0)
    envelope = seal(Control("d", "grant"), make.SIGNER, (grant,) * IDS)

    assert envelope == Envelope.from_bytes(envelope.to_bytes())
    with pytest.raises(MalformedMessage):
        Envelope.from_bytes(replace(envelope, grants=(grant,) * (IDS + 1)).to_bytes())


# ------------------------------------------------------------------------------------- replies


def _reply(method: str, *items: tuple[str, Value]) -> dict[str, object]:
    values = Values("metrics", items)
    content = pack_inline(pack_records([("m", values)], []))
    reply = Reply("d", ID, method, "r", 1, content)  # type: ignore[arg-type]
    read: dict[str, object] = loads(reply.to_bytes())
    return {k: read[k] for k in ("train_len", "dict", "loss", "accuracy") if k in read}


def test_a_fit_says_in_the_originals_words_what_it_did() -> None:
    assert {"train_len": 40, "dict": {"loss": 0.5, "acc": 1.0}} == _reply(
        "fit", ("num-examples", 40), ("loss", 0.5), ("acc", 1)
    )


def test_an_evaluation_says_in_the_originals_words_what_it_found() -> None:
    assert {"train_len": 8, "loss": 0.25, "accuracy": {"accuracy": 0.875}} == _reply(
        "evaluate", ("loss", 0.25), ("accuracy", 0.875), ("num-examples", 8.0)
    )
    assert {"train_len": 8} == _reply("evaluate", ("num-examples", 8))


def test_a_query_says_nothing_in_the_originals_words_but_its_examples() -> None:
    assert {} == _reply("query", ("loss", 0.5))
    assert {"train_len": 0.5} == _reply("query", ("num-examples", 0.5))


def test_what_json_cannot_say_is_left_out_of_the_originals_words() -> None:
    nan, inf = float("nan"), float("inf")

    assert {} == _reply("fit", ("a", nan), ("b", inf), ("c", -inf), ("d", 1.5e308), ("e", (1, 2)))
    assert {"train_len": 1e200} == _reply("fit", ("num-examples", 1e200))


def test_an_answer_without_metrics_has_none_of_the_originals_words() -> None:
    values = Values("configs", (("num-examples", 3),))
    content = pack_inline(pack_records([("c", values)], []))

    assert {} == Reply("d", ID, "fit", "r", 1, content).metrics()
    assert {} == _reply("fit")


def test_a_reply_names_the_key_of_its_pack_exactly_when_it_is_elsewhere() -> None:
    uploaded = make.REPLIES["a pack that was uploaded"]

    assert make.COMMANDS["everything"].reply_key == uploaded.path
    assert None is make.REPLIES["an inline pack"].path
    assert None is make.REPLIES["a failure"].path


def test_a_failure_has_the_digest_of_nothing() -> None:
    read = loads(make.REPLIES["a failure"].to_bytes())

    assert hashlib.sha256(b"[[],null]").hexdigest() == read["digest"]
