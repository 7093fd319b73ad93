"""Measurements in MLflow: one run of the experiment "windflower" for each run of ours."""

import os
import re
from typing import Any, Final

# Whoever asks for MLflow has not asked to be counted by it, and MLflow wants to be told that a
# folder is meant.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")

from mlflow import MlflowClient
from mlflow.entities import Metric

from windflower.observe.sinks import measurements, without_user

_EXPERIMENT: Final = "windflower"
_TAG: Final = "windflower.run"
_NOT_IN_A_NAME: Final = re.compile(r"[^\w\-. /]")


class MLflow:
    """A tracking server of MLflow, or a folder in which MLflow keeps its files.

    Args:
        where: a folder or a tracking URI.
    """

    def __init__(self, where: str) -> None:
        self._where = where
        self._runs: dict[str, str] = {}

    def keep(self, line: dict[str, Any]) -> None:
        """Log what an event measures, and the end of a run."""
        try:
            self._log(line)
        except Exception as error:
            # Its errors hold the whole URI, which may hold a password.
            first = (str(error).splitlines() or [""])[0].replace(self._where, "MLflow")
            raise OSError(without_user(first)) from error

    def _log(self, line: dict[str, Any]) -> None:
        client = MlflowClient(self._where)
        run = self._runs.get(line["run"]) or self._begin(client, line["run"])
        self._runs[line["run"]] = run
        metrics = [
            Metric(
                _NOT_IN_A_NAME.sub("_", f"{one.stage}/{one.name}"),
                one.value,
                int(one.at * 1000),
                one.step,
            )
            for one in measurements(line)
        ]
        if metrics:
            client.log_batch(run, metrics=metrics)
        if line["event"] == "run-ended":
            client.set_terminated(run, "FINISHED" if line["success"] else "FAILED")
            del self._runs[line["run"]]

    def _begin(self, client: MlflowClient, run: str) -> str:
        """Return MLflow's run for ours: the one from before this gateway was started, or a new."""
        there = client.get_experiment_by_name(_EXPERIMENT)
        experiment = there.experiment_id if there else client.create_experiment(_EXPERIMENT)
        found = client.search_runs([experiment], f"tags.`{_TAG}` = '{run}'", max_results=1)
        if found:
            return str(found[0].info.run_id)
        tags = {_TAG: run}
        return str(client.create_run(experiment, run_name=run, tags=tags).info.run_id)
