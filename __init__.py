"""Equipoise: satellite-image fusion with a sensor reliance that the user chooses."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .pipeline.coregister_arrays import coregister
    from .pipeline.finished_batch import FinishedBatch, batch, open_batch
    from .pipeline.finished_run import FinishedRun, open_run, run
    from .pipeline.prediction import Prediction
    from .pipeline.trained_model import TrainedModel, load_model

__version__ = "0.1.0"

#: Where each public name is found: its imports take seconds, and the command line must not wait for them.
_PLACES = {
    "FinishedBatch": "finished_batch",
    "FinishedRun": "finished_run",
    "Prediction": "prediction",
    "TrainedModel": "trained_model",
    "batch": "finished_batch",
    "coregister": "coregister_arrays",
    "load_model": "trained_model",
    "open_batch": "finished_batch",
    "open_run": "finished_run",
    "run": "finished_run",
}

__all__ = [
    "FinishedBatch", "FinishedRun", "Prediction", "TrainedModel", "__version__", "batch", "coregister", "load_model",
    "open_batch", "open_run", "run",
]  # fmt: skip


def __getattr__(name: str) -> object:
    """Import a public name when it is first asked for."""
    from importlib import import_module

    if name in _PLACES:
        return getattr(import_module(f".pipeline.{_PLACES[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
