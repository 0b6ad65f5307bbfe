"""Fixtures of the end-to-end tests: the installed command, and one finished run that many tests look at."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
import yaml
from batch_runs import Run, write_inputs
from made_once import made_once

from equipoise.datasets.synthetic import SyntheticScene
from equipoise.pipeline.templates import template_record

COMMAND = Path(sys.executable).with_name("equipoise")

#: Longest wait for a process, s: generous, for machines that do much else.
PATIENCE = 280


class Equipoise:
    """Calls the installed command as a user does, on one thread, so that bits can be compared."""

    @staticmethod
    def start(*arguments: object) -> subprocess.Popen:
        return subprocess.Popen(
            [COMMAND, *map(str, arguments)], env={**os.environ, "OMP_NUM_THREADS": "1"}, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def __call__(self, *arguments: object) -> subprocess.CompletedProcess:
        with self.start(*arguments) as process:
            out, error = process.communicate(timeout=PATIENCE)
        return subprocess.CompletedProcess(arguments, process.returncode, out, error)

    def killed_when(self, there: Callable[[], bool], *arguments: object) -> None:
        """Start, and send SIGKILL as soon as ``there()`` is true."""
        with self.start(*arguments) as process:
            until = time.monotonic() + PATIENCE
            while not there():
                if process.poll() is not None or time.monotonic() > until:
                    process.kill()
                    pytest.fail(f"ended before it could be killed: {process.communicate()}")
                time.sleep(0.002)
            process.kill()
            process.communicate()
        assert process.returncode == -9


@pytest.fixture(scope="session")
def equipoise() -> Equipoise:
    return Equipoise()


@dataclass(frozen=True, kw_only=True)
class Finished:
    """A run of all stages; read it, do not write into it."""

    config: Path
    root: Path
    done: subprocess.CompletedProcess


@pytest.fixture(scope="session")
def finished(tmp_path_factory, embedded_scene, equipoise) -> Finished:
    """``equipoise run`` on the embedded scene with little training."""
    return made_once(tmp_path_factory, "finished", partial(_finish, embedded_scene, equipoise))


def _finish(embedded_scene: SyntheticScene, equipoise: Equipoise, folder: Path) -> Finished:
    record = template_record("demo")
    scene = record["scenes"][0]
    scene["files"] = {name: str(path) for name, path in embedded_scene.paths.items()}
    scene |= {"labels": str(embedded_scene.labels), "informative": str(embedded_scene.informative)}
    record["tile"] = {"patch_size": 64, "block_size": 96, "buffer": 8}
    record["train"] = {
        "depth": 2, "decoder_channels": [16, 8], "epochs": 3, "batch_size": 6, "learning_rate": 0.002, "device": "cpu",
    }  # fmt: skip
    record["evaluate"] = {"single_modality": False, "rolls": 1, "bootstrap": 100, "robustness_patches": 4}
    # Small windows: many rows, among which the run can be killed.
    record["predict"] = {"tile": 64, "overlap": 32, "reliance_tile": 16, "device": "cpu"}
    config = folder / "config.yaml"
    config.write_text(yaml.safe_dump(record, sort_keys=False))
    return Finished(config=config, root=folder / "run", done=equipoise("run", config, "-o", folder / "run"))


@pytest.fixture(scope="session")
def batch_run(tmp_path_factory) -> Run:
    """Inputs of a batch run, and the run that :func:`batch_done` lets through; do not write into it."""
    return made_once(tmp_path_factory, "batch", write_inputs)


@pytest.fixture(scope="session")
def batch_done(tmp_path_factory, batch_run) -> subprocess.CompletedProcess:
    """``equipoise batch`` without any disturbance: what it printed."""
    done = made_once(tmp_path_factory, "batch_done", lambda _: batch_run("--workers", "2"))
    assert done.returncode == 0, done.stderr  # else every comparison with it would fail
    return done
