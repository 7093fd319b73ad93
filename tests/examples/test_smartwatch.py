"""The smartwatch example is a true Flower app, and its README's numbers hold."""

import importlib
import itertools
import os
import re
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NoReturn, cast

import numpy as np
import pytest
from typing_extensions import override

with warnings.catch_warnings():
    # Here warnings are errors, and flwr imports typer, which uses names that click deprecates.
    warnings.simplefilter("ignore", DeprecationWarning)
    from flwr.app import Context, Error, Message, Metadata, RecordDict
    from flwr.serverapp import Grid
    from flwr.serverapp.strategy import Result

EXAMPLE = Path(__file__).parents[2] / "examples" / "01-smartwatch"
RUN_ID = 7

# The example is an app beside the project, not a part of it: found the way Flower finds it.
sys.path.insert(0, str(EXAMPLE))
make_data, prepare, study, client_app, server_app = map(
    importlib.import_module,
    ("make_data", "prepare", "study", "smartwatch.client_app", "smartwatch.server_app"),
)

Config = dict[str, bool | float | str]
APP_CONFIG: Config = {
    "num-server-rounds": 20,
    "local-epochs": 2,
    "learning-rate": 0.02,
    "momentum": 0.9,
    "batch-size": 32,
    "new-wearer": True,
    "min-nodes": 2,
    "connect-timeout-s": 0,
    "round-pause-s": 0.0,
    "round-timeout-s": 60,
}


class InProcessGrid(Grid):
    """A fleet without a network: each message is a call of the real ClientApp."""

    def __init__(self, contexts: Iterable[Context]) -> None:
        self.contexts = {context.node_id: context for context in contexts}
        self.is_failing: Callable[[str, int], bool] = lambda _type, _node: False
        self.sent: list[tuple[str, int]] = []
        self.message_ids = map(str, itertools.count())

    @override
    def get_node_ids(self) -> Iterable[int]:
        return reversed(self.contexts)  # in no useful order, like a real fleet's

    @override
    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        del timeout
        return [self.answer(message) for message in messages]

    def answer(self, message: Message) -> Message:
        node, message_type = message.metadata.dst_node_id, message.metadata.message_type
        self.sent.append((message_type, node))
        request = request_to(node, message_type, message.content, next(self.message_ids))
        if self.is_failing(message_type, node):
            return Message(Error(code=5, reason="gone"), reply_to=request)
        return cast("Message", client_app.app(request, self.contexts[node]))

    @override
    def set_run(self, run: object) -> NoReturn:
        raise NotImplementedError

    @property
    @override
    def run(self) -> NoReturn:
        raise NotImplementedError

    @override
    def create_message(self, *_: object, **__: object) -> NoReturn:
        raise NotImplementedError

    @override
    def push_messages(self, messages: Iterable[Message]) -> NoReturn:
        raise NotImplementedError

    @override
    def pull_messages(self, message_ids: Iterable[str]) -> NoReturn:
        raise NotImplementedError


def request_to(node: int, message_type: str, content: RecordDict, message_id: str) -> Message:
    """Give a message the id that a strategy leaves to the grid."""
    metadata = Metadata(RUN_ID, message_id, 1, node, "", "", time.time(), 60.0, message_type)
    return Message(content=content, metadata=metadata)  # type: ignore[call-overload,no-any-return]


@pytest.fixture(scope="session")
def devices(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("devices")
    prepare.write_folders(folder, 10)
    return folder


@pytest.fixture(autouse=True)
def identity() -> None:
    """Do what whoever runs a ServerApp in its own process must do from flwr 1.38 on."""
    try:
        from flwr.supercore.task_identity import TaskIdentity  # noqa: PLC0415
    except ImportError:
        return
    TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = RUN_ID, 1, 0


@pytest.fixture
def results(monkeypatch: pytest.MonkeyPatch) -> list[Result]:
    """Collect what the app's strategy returns, which a ServerApp keeps to itself."""
    collected: list[Result] = []
    start = server_app.FleetAveraging.start

    def start_and_collect(*args: object, **kwargs: object) -> Result:
        collected.append(start(*args, **kwargs))
        return collected[-1]

    monkeypatch.setattr(server_app.FleetAveraging, "start", start_and_collect)
    return collected


def context_of(node_id: int, node_config: Config, **run: bool | float) -> Context:
    run_config = APP_CONFIG | {key.replace("_", "-"): value for key, value in run.items()}
    return Context(RUN_ID, node_id, node_config, RecordDict(), run_config)


def fleet(devices: Path, people: int = 10, **run: bool | float) -> InProcessGrid:
    return InProcessGrid(
        context_of(
            100 + person,
            {
                "partition-id": person,
                "num-partitions": people,
                "data-dir": str(devices / f"{person:02}"),
            },
            **run,
        )
        for person in range(people)
    )


def seed_numpy() -> None:
    np.random.seed(0)  # noqa: NPY002 - the app draws from numpy's global source on purpose


def run_server(grid: InProcessGrid, **run: bool | float) -> None:
    seed_numpy()
    server_app.app(grid=grid, context=context_of(1, {}, **run))


def test_the_data_file_is_what_the_script_builds_from_the_published_wheel(tmp_path: Path) -> None:
    wheel = os.environ.get("WINDFLOWER_SEGLEARN_WHEEL")
    if not wheel:
        pytest.skip("WINDFLOWER_SEGLEARN_WHEEL does not name a wheel of seglearn 1.2.5")

    make_data.build(Path(wheel).read_bytes(), tmp_path)

    committed = make_data.content_digest(EXAMPLE / "data" / "watch.npz")
    assert committed == make_data.content_digest(tmp_path / "watch.npz")
    notice = (EXAMPLE / "data" / "NOTICE.md").read_text(encoding="utf-8")
    assert notice == (tmp_path / "NOTICE.md").read_text(encoding="utf-8")


def test_the_script_refuses_another_wheel(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"not the wheel of seglearn==1\.2\.5"):
        make_data.build(b"another wheel", tmp_path)


def test_the_data_needs_no_pickle_and_holds_ten_people_with_two_recordings_of_each_exercise() -> (
    None
):
    people = prepare.read_people()  # reads with allow_pickle=False

    two_of_each = [[2] * 7] * 10
    assert two_of_each == [np.bincount(person.exercises).tolist() for person in people]
    for person in people:
        assert (6, person.lengths.sum()) == person.samples.shape


def test_a_prepared_folder_holds_one_persons_data_and_nothing_else(tmp_path: Path) -> None:
    command = [sys.executable, EXAMPLE / "prepare.py", "--out", tmp_path, "--devices", "3"]
    subprocess.run(list(map(str, command)), check=True)

    assert [f"{i:02}/recordings.npz" for i in range(3)] == sorted(
        str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()
    )
    for i, person in enumerate(prepare.read_people()[:3]):
        with np.load(tmp_path / f"{i:02}" / "recordings.npz", allow_pickle=False) as stored:
            assert {"samples", "lengths", "exercises"} == set(stored.files)
            np.testing.assert_array_equal(person.samples, stored["samples"])
            np.testing.assert_array_equal(person.lengths, stored["lengths"])
            np.testing.assert_array_equal(person.exercises, stored["exercises"])


@pytest.mark.parametrize("devices", [2, 10, 11, 25])
def test_the_person_on_the_last_device_is_on_no_other(devices: int) -> None:
    people = [prepare.person_of(device, devices, 10) for device in range(devices)]

    assert people[-1] not in people[:-1]
    assert min(devices, 10) == len(set(people))


def test_twenty_rounds_teach_the_fleet_its_own_wearers_and_a_new_one(
    devices: Path, results: list[Result], capsys: pytest.CaptureFixture[str]
) -> None:
    grid = fleet(devices)
    run_server(grid)

    (result,) = results
    rounds = result.evaluate_metrics_clientapp
    assert list(range(1, 21)) == sorted(rounds)
    assert {"accuracy", "loss", "accuracy-new-wearer"} == set(rounds[20])
    assert {"train-loss"} == set(result.train_metrics_clientapp[20])
    first, last, new = (
        cast("float", rounds[number][key])
        for number, key in ((1, "accuracy"), (20, "accuracy"), (20, "accuracy-new-wearer"))
    )
    assert last >= max(0.87, first + 0.08)
    assert new >= 0.75

    said = re.findall(r"accuracy on the (\w+).*: (\d\.\d+)", capsys.readouterr().out)
    assert [("wearers", f"{last:.3f}"), ("new", f"{new:.3f}")] == said


def test_flowers_fedavg_agrees_with_plain_loops(devices: Path, results: list[Result]) -> None:
    run_server(fleet(devices, num_server_rounds=3), num_server_rounds=3)

    seed_numpy()
    parts = [study.load_wearer(devices / f"{person:02}").train for person in range(9)]
    twin = study.federated_average(parts, rounds=3)
    assert list(twin) == list(results[0].arrays)
    for name, array in results[0].arrays.items():
        np.testing.assert_allclose(twin[name], array.numpy(), rtol=1e-5, atol=1e-7)


def test_the_new_wearer_is_asked_and_tested_but_never_trains(devices: Path) -> None:
    grid = fleet(devices, people=3)
    run_server(grid, num_server_rounds=2)

    one_round = [("train", 100), ("train", 101)] + [("evaluate", 100 + i) for i in range(3)]
    assert [("query", 100 + i) for i in range(3)] + one_round * 2 == grid.sent


def test_without_a_new_wearer_everybody_trains(devices: Path, results: list[Result]) -> None:
    grid = fleet(devices, people=3, new_wearer=False)
    run_server(grid, num_server_rounds=1)

    assert {"accuracy", "loss"} == set(results[0].evaluate_metrics_clientapp[1])
    assert {100, 101, 102} == {node for message_type, node in grid.sent if message_type == "train"}


def test_a_device_that_is_gone_takes_no_part(devices: Path, results: list[Result]) -> None:
    grid = fleet(devices, people=4)
    grid.is_failing = lambda _type, node: node == 101
    run_server(grid, num_server_rounds=1)

    assert "accuracy" in results[0].evaluate_metrics_clientapp[1]
    assert {"query"} == {message_type for message_type, node in grid.sent if node == 101}


def test_a_run_in_which_no_evaluation_arrives_still_ends(
    devices: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    grid = fleet(devices, people=3)
    grid.is_failing = lambda message_type, _node: message_type == "evaluate"
    run_server(grid, num_server_rounds=1)

    assert "accuracy on the new wearer: no result" in capsys.readouterr().out


def test_too_few_devices_end_the_run_with_their_number(devices: Path) -> None:
    with pytest.raises(TimeoutError, match="needs 3 devices, 2 connected after 0 s"):
        run_server(fleet(devices, people=2), min_nodes=3)


@pytest.mark.parametrize("node_config", [{}, {"data-dir": "nowhere"}])
def test_a_device_without_data_says_in_one_line_how_to_get_some(
    node_config: Config,
) -> None:
    request = request_to(100, "train", RecordDict(), "0")

    with pytest.raises(LookupError, match=r"prepare\.py --out .* --node-config 'part") as caught:
        client_app.app(request, context_of(100, node_config))

    assert "\n" not in str(caught.value)


def test_for_a_new_wearer_the_fleets_model_beats_another_wearers() -> None:
    seed_numpy()
    rows = study.study(study.load_everybody())

    fleets, anothers = np.mean(rows[study.FLEET_ON_NEW]), np.mean(rows[study.ANOTHER_ON_NEW])
    assert fleets >= anothers + 0.08
    # ... and the README's other sentence: on its own wearer, a device alone is the better one.
    assert np.mean(rows[study.ALONE_ON_OWN]) > np.mean(rows[study.FLEET_ON_OWN])
