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


def test_a_failure_is_one_line_and_below_it_where() -> None:
    failed = {"event": "reply-failed", "device": "d1"}
    trace = 'Traceback (most recent call last):\n  File "a.py", line 1, in f\nValueError: no'

    assert "d1 failed: no room" == sentence({**failed, "reason": "d1: no room"})
    expected = [
        "d1 failed: a:app does not import: ValueError: no",
        "    Traceback (most recent call last):",
        '      File "a.py", line 1, in f',
    ]
    loading = {**failed, "reason": f"a:app does not import:\n{trace}"}
    assert expected == sentence(loading).splitlines()
    assert "d1 failed: ValueError: no" == sentence({**failed, "reason": trace}).splitlines()[0]


def test_what_was_lost_and_is_back_is_said() -> None:
    connected = {"event": "broker-connected", "broker": "mqtt://b"}

    assert ["", "the broker is back"] == [
        sentence({**connected, "again": again}) for again in (False, True)
    ]


def test_the_end_of_a_run_is_said_with_its_reason() -> None:
    ended = {"event": "run-ended", "run": "1-a", "seconds": 4.04}

    assert "run 1-a is done after 4.0 s: the ServerApp ended" == sentence(
        {**ended, "success": True, "reason": "the ServerApp ended"}
    )
    assert "run 1-a failed after 4.0 s: ValueError: no" == sentence(
        {**ended, "success": False, "reason": "ValueError: no"}
    )


def test_a_metric_that_is_no_number_is_said_and_shown() -> None:
    reply = {"event": "reply-accepted", "device": "d1", "not_finite": ["loss", "norm"]}
    measured = {"event": "round-measured", "round": 1, "stage": "train", "metrics": {"loss": None}}

    assert sentence(reply).startswith("d1 sent loss, norm as NaN or infinite: ")
    assert "" == sentence({**reply, "not_finite": []})
    assert "round 1, train: loss nan" == sentence(measured)


def test_a_disk_with_less_room_than_a_run_may_need_is_said_with_the_fix() -> None:
    full = {**FORESEEN, "free_bytes": 5 * GIB}
    assert sentence(full).endswith(": make room, or set resume_gb lower")
    small = {**full, "earlier": "1-a", "earlier_bytes": 2**20}
    assert not sentence(small).endswith("lower")


def test_a_gateway_that_is_gone_is_waited_for_so_long_or_started_again() -> None:
    lost = {"event": "gateway-lost"}

    assert "the gateway is gone, and is started again" == sentence(lost)
    assert sentence({**lost, "timeout-s": 60.0}).endswith(
        "waiting at most 60 s for it to come back"
    )
