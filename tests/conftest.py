"""Fixtures of every folder: the embedded scene, and real imagery where there is some."""

import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from forked_command import ForkedCommand, forked_command
from hypothesis import HealthCheck, settings
from made_once import made_once

from equipoise.datasets.samples import DATA_VARIABLE
from equipoise.datasets.synthetic import SyntheticScene, write_scene

if TYPE_CHECKING:
    from playwright.sync_api import Browser

settings.register_profile(
    "house",
    deadline=None,  # shared machines: a slow example is no failure
    # The fixtures that property tests use are read-only, or folders in which each example writes anew.
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
settings.load_profile("house")

#: Files that take a minute or more, longest first: of two workers, neither is left with one when the other is done.
LONG = (
    "tests/8_docs/test_blocks.py", "tests/9_end_to_end/test_batch_cluster.py", "tests/9_end_to_end/test_batch.py",
    "notebooks/02_choose_your_reliance.ipynb", "tests/3_pipeline/test_fit.py", "tests/3_pipeline/test_cli.py",
    "tests/3_pipeline/test_viewer_page.py", "notebooks/04_region_batch.ipynb", "tests/9_end_to_end/test_kill.py",
    "tests/9_end_to_end/test_run.py", "tests/2_models/test_latent_surrogate.py", "notebooks/03_when_clouds_come.ipynb",
    "notebooks/01_scene_to_map.ipynb", "tests/2_models/test_task.py",
)  # fmt: skip


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Begin with the long files where workers share the tests; elsewhere the order is that of depth."""
    if hasattr(config, "workerinput"):
        place = {name: number for number, name in enumerate(LONG)}
        items.sort(key=lambda item: place.get(item.nodeid.partition("::")[0], len(LONG)))


@pytest.fixture(scope="session", autouse=True)
def heeded_interrupts() -> None:
    """Let commands that tests start heed Ctrl-C, also where a shell began the tests in the background, deaf to it."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def embedded_scene(tmp_path_factory: pytest.TempPathFactory) -> SyntheticScene:
    """The synthetic scene, 384 x 384 pixels, written once a session: read it, do not write to it."""
    return made_once(tmp_path_factory, "embedded", lambda folder: write_scene(folder, size=384))


@pytest.fixture(scope="session")
def forked() -> Iterator[ForkedCommand]:
    """Call the command without waiting seconds for the imports of each call."""
    with tempfile.TemporaryDirectory() as folder, forked_command(Path(folder)) as command:  # sockets need short paths
        yield command


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """Folder of real imagery; tests that ask for it skip where there is none."""
    named = os.environ.get(DATA_VARIABLE)
    if not named:
        pytest.skip(f"{DATA_VARIABLE} is unset: no real imagery at hand")
    return Path(named)


@pytest.fixture(scope="module")
def chromium() -> Iterator["Browser"]:
    """A browser for the tests of a module, which skip where there is none."""
    from browser import launched

    with launched() as browser:
        yield browser
