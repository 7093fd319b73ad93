"""Ids and seeds follow from what they stand for, and from nothing else."""

import inspect

from hypothesis import given
from hypothesis import strategies as st
from vectors.values import BOUNDED, devices

from windflower.core.identity import command_id, device_seed, node_of, run_integer
from windflower.wire.identifiers import check_command

parts = st.text("ab:0", max_size=4)
asked = st.tuples(parts, parts, parts, parts, parts, st.integers(0, 12))


def _command_id(given: tuple[str, str, str, str, str, int]) -> str:
    run, device, message_type, group, content_digest, occurrence = given
    return command_id(
        run=run,
        device=device,
        message_type=message_type,
        group=group,
        content_digest=content_digest,
        occurrence=occurrence,
    )


@BOUNDED
@given(asked, asked)
def test_two_commands_share_an_id_exactly_when_all_their_parts_are_equal(
    one: tuple[str, str, str, str, str, int], other: tuple[str, str, str, str, str, int]
) -> None:
    assert (one == other) == (_command_id(one) == _command_id(other))


@BOUNDED
@given(asked, st.integers(0, 3), st.integers(0, 4))
def test_letters_that_move_from_one_part_to_the_next_make_another_command(
    given: tuple[str, str, str, str, str, int], part: int, letters: int
) -> None:
    texts = list(given[:5])
    moved = texts[part][len(texts[part]) - letters :] if letters else ""
    texts[part] = texts[part].removesuffix(moved)
    texts[part + 1] = moved + texts[part + 1]
    shifted = (texts[0], texts[1], texts[2], texts[3], texts[4], given[5])

    assert (given == shifted) == (_command_id(given) == _command_id(shifted))


@BOUNDED
@given(asked)
def test_a_command_id_is_what_the_wire_takes(given: tuple[str, str, str, str, str, int]) -> None:
    id_ = _command_id(given)

    assert id_ == check_command(id_)


@BOUNDED
@given(devices, devices)
def test_a_node_id_is_63_bits_and_never_the_superlinks(one: str, other: str) -> None:
    assert 2 <= node_of(one) < 1 << 63
    assert (one == other) == (node_of(one) == node_of(other))


@BOUNDED
@given(devices)
def test_a_run_integer_is_63_bits_and_never_none(run: str) -> None:
    assert 1 <= run_integer(run) < 1 << 63


def test_a_devices_seed_does_not_know_its_run() -> None:
    given = ["run_seed", "device", "message_type", "occurrence"]

    assert given == list(inspect.signature(device_seed).parameters)


@BOUNDED
@given(st.integers(0, 1 << 64), devices, parts, st.integers(0, 99), st.integers(1, 9))
def test_a_devices_seed_follows_from_all_that_it_is_made_of(
    run_seed: int, device: str, message_type: str, occurrence: int, step: int
) -> None:
    def seed(run_seed: int, device: str, message_type: str, occurrence: int) -> str:
        return device_seed(
            run_seed=run_seed, device=device, message_type=message_type, occurrence=occurrence
        )

    first = seed(run_seed, device, message_type, occurrence)

    assert first == seed(run_seed, device, message_type, occurrence)
    assert first != seed(run_seed + step, device, message_type, occurrence)
    assert first != seed(run_seed, f"{device}x", message_type, occurrence)
    assert first != seed(run_seed, device, f"{message_type}x", occurrence)
    assert first != seed(run_seed, device, message_type, occurrence + step)
    assert 16 == len(first)
