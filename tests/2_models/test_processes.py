"""Training in several processes: what they know of reliance is what all of them saw."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from share_processes import watched

SCRIPT = Path(__file__).parents[1] / "share_processes.py"


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """Two processes that find each other through a file and talk over loopback."""
    place = tmp_path_factory.mktemp("processes") / "meet"
    environment = {**os.environ, "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}
    children = [
        subprocess.Popen(
            [sys.executable, SCRIPT, str(rank), "2", str(place)], stdout=subprocess.PIPE, text=True, env=environment
        )
        for rank in range(2)
    ]
    printed = [child.communicate(timeout=120)[0] for child in children]
    assert [child.returncode for child in children] == [0, 0]
    return [json.loads(text.splitlines()[-1]) for text in printed]


def test_a_measurement_is_the_mean_over_processes(answers):
    """First step: .1 and 1.1 are .6. Second: only one process shows anything, 3, and both take it in by half."""
    assert answers[0]["measured"] == answers[1]["measured"]
    assert answers[0]["measured"][0] == pytest.approx([(0.6 + 3.0) / 2, 0.5])


def test_shares_of_validation_are_those_of_one_process_that_saw_everything(answers):
    alone = watched([0, 1, 2, 3])
    for kind in ("share", "information"):
        assert answers[0]["watched"][kind] == answers[1]["watched"][kind]
        assert answers[0]["watched"][kind] == pytest.approx(alone[kind], abs=1e-6)
