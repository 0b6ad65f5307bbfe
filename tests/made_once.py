"""What is the same for every worker of a test session is made once, by the one that needs it first."""

import fcntl
import os
import pickle
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest

Made = TypeVar("Made")


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], Made]) -> Made:
    """Return what ``make(folder)`` gives, in whichever worker it is called; others wait meanwhile, and read it then.

    Parameters
    ----------
    factory
        Knows the folder of the session.
    name
        Names it among the workers.
    make
        Receives an empty folder; what it gives is pickled. Nobody writes into that folder afterwards.
    """
    base = factory.getbasetemp()
    # A worker has a folder of its own in that of the session.
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    kept = shared / f"{name}.pickle"
    with (shared / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not kept.exists():
            # Not under the name alone: whoever comes after one that failed begins anew.
            made = make(Path(tempfile.mkdtemp(prefix=f"{name}-", dir=shared)))
            kept.write_bytes(pickle.dumps(made))
        return pickle.loads(kept.read_bytes())  # noqa: S301 (written above)
