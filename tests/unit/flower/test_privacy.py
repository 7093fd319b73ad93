"""An app that draws noise for privacy is recognised by its source, or says so itself."""

from pathlib import Path

import pytest

from windflower.flower.app_folder import AppFolder
from windflower.flower.privacy import noisy_name

PROJECT = """
[project]
name = "x"
[tool.flwr.app.components]
serverapp = "x:app"
clientapp = "x:app"
"""


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("from flwr.clientapp.mod import LocalDpMod", "LocalDpMod"),
        ("from flwr.clientapp import mod\nx = mod.LocalDpMod(1, 2, 3, 4)", "LocalDpMod"),
        ("from flwr.client.mod import secaggplus_mod as plain", "secaggplus_mod"),
        ("import flwr\nflwr.server.workflow.SecAggPlusWorkflow()", "SecAggPlusWorkflow"),
        ("from flwr.serverapp.strategy import FedAvg  # no LocalDpMod", None),
        ("'LocalDpMod'", None),
        ("this is no python", None),
    ],
)
def test_a_name_of_flower_that_draws_noise_is_found(
    tmp_path: Path, source: str, name: str | None
) -> None:
    (tmp_path / "client.py").write_text(source)

    assert name == noisy_name(tmp_path)


@pytest.mark.parametrize(
    ("said", "expected"), [("", "LocalDpMod"), ("true", "private = true"), ("false", None)]
)
def test_what_the_pyproject_says_wins(tmp_path: Path, said: str, expected: str | None) -> None:
    (tmp_path / "client.py").write_text("from flwr.clientapp.mod import LocalDpMod")
    own = f"[tool.windflower]\nprivate = {said}\n" if said else ""
    (tmp_path / "pyproject.toml").write_text(PROJECT + own)

    assert expected == AppFolder.read(tmp_path).noise
