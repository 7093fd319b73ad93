from windflower.observe.sentences import sentence

GIB = 2**30
FORESEEN = {
    "event": "room-foreseen",
    "run": "2-b",
    "budget_bytes": 20 * GIB,
    "free_bytes": 90 * GIB,
}


def test_what_a_run_may_keep_is_said_beside_what_an_earlier_one_kept() -> None:
    assert "may keep 20 GiB on disk to be resumable, 90 GiB are free" == sentence(FORESEEN)
    known = {**FORESEEN, "earlier": "1-a", "earlier_bytes": 3 * 2**20}
    assert sentence(known).endswith("; run 1-a of this app kept 3 MiB")


def test_a_disk_with_less_room_than_a_run_may_need_is_said_with_the_fix() -> None:
    full = {**FORESEEN, "free_bytes": 5 * GIB}
    assert sentence(full).endswith(": make room, or set resume_gb lower")
    small = {**full, "earlier": "1-a", "earlier_bytes": 2**20}
    assert not sentence(small).endswith("lower")
