"""Measurements in the programs that they are for: MLflow, and TensorFlow's reader of records."""

from pathlib import Path
from typing import Any

import pytest

from windflower.observe.sinks import open_sink

STARTED = {"event": "run-started", "at": 4.0, "run": "1-a"}
ENDED = {"event": "run-ended", "at": 9.0, "run": "1-a", "success": True}


def measured(number: int) -> dict[str, Any]:
    """Return what a round measured."""
    return {
        "event": "round-measured",
        "at": 4.0 + number,
        "run": "1-a",
        "round": number,
        "stage": "evaluate",
        "metrics": {"accuracy": number / 4, "what? a name": 1.0},
    }


def test_mlflow_has_one_run_for_ours_also_after_a_restart(tmp_path: Path) -> None:
    mlflow = pytest.importorskip("mlflow")
    given = f"mlflow:{tmp_path / 'runs'}"
    first = open_sink(given)
    first.keep(STARTED)
    first.keep(measured(1))
    second = open_sink(given)
    second.keep(measured(2))
    second.keep(ENDED)
    client = mlflow.MlflowClient(str(tmp_path / "runs"))
    experiment = client.get_experiment_by_name("windflower")
    (run,) = client.search_runs([experiment.experiment_id])
    history = client.get_metric_history(run.info.run_id, "evaluate/accuracy")

    assert ("1-a", "FINISHED") == (run.info.run_name, run.info.status)
    assert [(1, 0.25, 5000), (2, 0.5, 6000)] == [(m.step, m.value, m.timestamp) for m in history]
    assert {"evaluate/accuracy", "evaluate/what_ a name"} == set(run.data.metrics)


def test_a_server_that_refuses_is_an_error_without_its_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    sink = open_sink("mlflow:http://me:secret@127.0.0.1:9")
    with pytest.raises(OSError, match="API request") as raised:
        sink.keep(measured(1))

    assert "secret" not in str(raised.value)
    assert not list(tmp_path.iterdir())


def test_tensorflow_reads_what_is_for_tensorboard(tmp_path: Path) -> None:
    tensorflow = pytest.importorskip("tensorflow")
    sink = open_sink(f"tensorboard:{tmp_path}")
    sink.keep(measured(1))
    (file,) = (tmp_path / "1-a").iterdir()
    records = list(tensorflow.data.TFRecordDataset(str(file)))  # it checks each checksum
    head, *events = (tensorflow.compat.v1.Event.FromString(r.numpy()) for r in records)

    assert "brain.Event:2" == head.file_version
    assert [(1, "evaluate/accuracy", 0.25), (1, "evaluate/what? a name", 1.0)] == [
        (event.step, value.tag, value.simple_value)
        for event in events
        for value in event.summary.value
    ]
