"""Both systems of the comparison, for one round over a good link."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from chaos.tunnel import missing
from processes import ENVIRONMENT, MOSQUITTO

ROOT = Path(__file__).parents[2]
MODULES = [str(ROOT / "tests"), str(ROOT / "bench"), os.environ.get("PYTHONPATH", "")]
MISSING = "mosquitto is not installed" if MOSQUITTO is None else missing()


@pytest.mark.slow
@pytest.mark.skipif(MISSING is not None, reason=str(MISSING))
def test_flower_and_windflower_finish_and_lose_nothing_when_nothing_befalls_them() -> None:
    command = [sys.executable, "-m", "compare", "--systems", "flower,windflower"]
    calm = ["--rounds", "1", "--idle-s", "0", "--loss", "0", "--delay-ms", "0"]
    words = [*command, *calm, "--without", "cut,kill,crash", "--format", "json"]
    environment = {**ENVIRONMENT, "PYTHONPATH": os.pathsep.join(filter(None, MODULES))}
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert 0 == done.returncode, done.stderr
    outcomes = json.loads(done.stdout)["outcomes"]

    assert ["Flower", "windflower"] == [outcome["system"] for outcome in outcomes]
    for outcome in outcomes:
        assert {"begun": 1, "finished": 1, "executed": 3, "lost": 0, "is_over": True} == outcome[
            "account"
        ]
        # Three devices each got the model and gave it back, and it has 248,024 bytes.
        assert 6 * 248_024 < outcome["sent_bytes"]
        assert 0 < outcome["idle_mb"] <= outcome["peak_mb"]
