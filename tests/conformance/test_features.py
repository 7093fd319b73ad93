"""What an app may do with the Grid, a ClientApp and a Context, on the fleet and on a twin."""

from pathlib import Path
from typing import Any

from flwr.common.config import flatten_dict, fuse_dicts, get_project_config, parse_config_args
from processes import events, until

from conformance.fleet import DEVICES, ConformanceFleet, as_flower_spells, node_config
from conformance.twin import APPS, SEED, Account, Config, on_the_fleet, on_the_twin, read_account
from windflower.core.identity import node_of

NODES = {node_of(device): number for number, device in enumerate(DEVICES)}


def both(
    fleet: ConformanceFleet, folder: Path, scene: str, *arguments: str, config: Config | None = None
) -> tuple[dict[str, Any], Account]:
    """Play a scene twice, and compare; return the answer of the real run, and its account."""
    played = {"scene": scene, **(config or {})}
    answer, real = on_the_fleet(fleet, "features", folder / "real", played, *arguments)
    twin = on_the_twin("features", folder / "twin", played)

    assert twin == real
    return answer, real


def values(line: dict[str, Any], record: int = 0) -> list[dict[str, Any]]:
    """Return the values of one record of each reply, by partition."""
    replies = sorted(line["replies"], key=lambda reply: NODES[reply["from"]])
    return [{key: value[1] for key, value in reply["records"][record][2]} for reply in replies]


def test_categories_and_actions_reach_their_functions(
    fleet: ConformanceFleet, tmp_path: Path
) -> None:
    answer, real = both(fleet, tmp_path, "actions", "--min-replies", "0")
    *known, unknown, _ = real["server"]
    told = {value["name"] for line in known for value in values(line)}

    assert {"train", "train.foo", "evaluate", "evaluate.foo_2", "query", "query.status"} == told
    assert [2] * 4 == [reply["code"] for reply in unknown["replies"]]
    assert {"ValueError: No query function registered with name 'nobody'"} == {
        reply["says"] for reply in unknown["replies"]
    }
    assert {"ok": 24, "failed": 4, "late": 0} == answer["replies"]


def test_an_app_pushes_and_pulls_by_hand(fleet: ConformanceFleet, tmp_path: Path) -> None:
    _, real = both(fleet, tmp_path, "by_hand")
    replies = real["server"][0]["replies"]

    assert [*["one"] * 4, *["two"] * 4] == [reply["group"] for reply in replies]
    assert sorted(NODES) * 2 == [reply["from"] for reply in replies]


def test_the_state_of_a_context_lives_over_rounds(fleet: ConformanceFleet, tmp_path: Path) -> None:
    _, real = both(fleet, tmp_path, "state")
    first, second, memory, _ = real["server"]

    assert [[1] * 4, [2] * 4] == [[v["times"] for v in values(line)] for line in (first, second)]
    assert ["ArrayRecord", "MetricRecord", "ConfigRecord"] == [
        record[1] for record in memory["replies"][0]["records"]
    ]


def test_the_state_of_a_context_lives_over_a_restart_of_its_agent(
    fleet: ConformanceFleet, tmp_path: Path
) -> None:
    pause, out = tmp_path / "pause", tmp_path / "real"
    pause.touch()
    out.mkdir()
    config = {"scene": "state", "out": str(out), "pause": str(pause)}
    run = fleet.run(APPS / "features", config, "--seed", str(SEED), "--strict")
    until((out / "server.jsonl").exists, "the first replies")
    fleet.agents["device-1"].kill()
    fleet.start("device-1")
    pause.unlink()
    assert 0 == run.wait(), run.err

    assert on_the_twin("features", tmp_path / "twin", {"scene": "state"}) == read_account(out)


def test_records_of_all_kinds_come_and_go_bit_for_bit(
    fleet: ConformanceFleet, tmp_path: Path
) -> None:
    _, real = both(fleet, tmp_path, "records")
    full, empty, _ = real["server"]

    assert 8 == len(full["replies"][0]["records"])
    assert [] == empty["replies"][0]["records"]


def test_a_node_that_fails_is_an_error_with_its_type_for_the_app_and_a_line_for_the_person(
    fleet: ConformanceFleet, tmp_path: Path
) -> None:
    before = len(events(fleet.state))
    answer, real = both(fleet, tmp_path, "errors")
    failed = [e for e in events(fleet.state)[before:] if e["event"] == "reply-failed"]
    by_partition = {NODES[reply["from"]]: reply for reply in real["server"][0]["replies"]}

    assert {"ok": 7, "failed": 1, "late": 0} == answer["replies"]
    assert 2 == by_partition[2]["code"]
    assert "LookupError: the data of node 2 is not there" == by_partition[2]["says"]
    assert ["device-2"] == [event["device"] for event in failed]
    assert "client_app.py" in failed[0]["reason"]
    assert failed[0]["reason"].endswith("LookupError: the data of node 2 is not there")


def test_the_lifespans_of_both_apps_are_entered_and_left(
    fleet: ConformanceFleet, tmp_path: Path
) -> None:
    _, real = both(fleet, tmp_path, "living")
    life, end = real["server"]

    assert [[f"begun on {n}"] for n in range(4)] == [
        [text for _, text in value["lived"]] for value in lists(life)
    ]
    assert ["begun", "ended"] == end["lived"]


def lists(line: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the values of the first record of each reply, which are lists, by partition."""
    replies = sorted(line["replies"], key=lambda reply: NODES[reply["from"]])
    return [dict(reply["records"][0][2]) for reply in replies]


def test_a_node_is_told_of_itself_and_of_the_run_in_all_types(
    fleet: ConformanceFleet, tmp_path: Path
) -> None:
    given: Config = {"share": 0.25, "is-on": False, "text": "two words", "table.number": 8}
    _, real = both(fleet, tmp_path, "configs", config=given)
    nodes, server, _ = real["server"]
    defaults = get_project_config(str(APPS / "features"))["tool"]["flwr"]["app"]["config"]
    asked = {"scene": "configs", **given}
    flowers = fuse_dicts(flatten_dict(defaults), parse_config_args([as_flower_spells(asked)]))
    of_themselves = [[text for _, text in value["node_config"]] for value in lists(nodes)]

    del flowers["out"]

    assert {key: repr(value) for key, value in flowers.items()} == dict(server["run_config"])
    assert {bool, int, float, str} == {type(value) for value in flowers.values()}
    for number, told in enumerate(of_themselves):
        config = {"device-id": DEVICES[number], **node_config(number)}
        assert [f"{key} = {value!r}" for key, value in sorted(config.items())] == told
