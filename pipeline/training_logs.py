"""Logs of a training: every epoch's figures as a table and for TensorBoard, never one of them twice."""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import lightning
from lightning.pytorch.callbacks import Callback

from .callbacks import KeepProgress
from .errors import RunFolderError
from .run_folder import write_text


class WriteLogs(Callback):
    """Writes the history that :class:`~equipoise.pipeline.callbacks.KeepProgress` holds, which it comes behind.

    A resumed training begins with the history of its state, so that an epoch which it does again stands there once.

    Parameters
    ----------
    folder
        Receives ``metrics.csv`` (one row an epoch, a column a figure) and TensorBoard's event files.
    keep
        Holds the history.
    kinds
        Of ``csv`` and ``tensorboard``.

    Raises
    ------
    RunFolderError
        If TensorBoard is wanted and cannot be imported.
    """

    def __init__(self, folder: Path, keep: KeepProgress, *, kinds: Sequence[str]) -> None:
        self.folder, self.keep, self.kinds = folder, keep, tuple(kinds)
        self._event_writer = event_writer() if "tensorboard" in kinds else None
        self._events: Any = None

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Write what the state holds; events of epochs that it does not hold go away."""
        self.folder.mkdir(exist_ok=True)
        if self._event_writer is not None:
            for old in self.folder.glob("events.*"):
                old.unlink()
            self._events = self._event_writer(str(self.folder))
            for row in self.keep.history:
                self._add(row)

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Add the epoch."""
        if "csv" in self.kinds:
            write_text(self.folder / "metrics.csv", table(self.keep.history))
        if self._events is not None:
            self._add(self.keep.history[-1])
            self._events.flush()

    def on_train_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Close the event file."""
        self._close()

    def on_exception(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, error: Any) -> None:
        """Close the event file."""
        self._close()

    def _add(self, row: Mapping[str, float]) -> None:
        for name, value in row.items():
            if name != "epoch" and math.isfinite(value):
                self._events.add_scalar(name, value, int(row["epoch"]))

    def _close(self) -> None:
        if self._events is not None:
            self._events.close()
            self._events = None


def table(history: Sequence[Mapping[str, float]]) -> str:
    """Return epochs as comma-separated values; figures that an epoch lacks stay empty."""
    names = list(dict.fromkeys(name for row in history for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    return text.getvalue()


def event_writer() -> Any:
    """Return TensorBoard's writer class, of whichever package has it.

    Raises
    ------
    RunFolderError
        If neither can be imported.
    """
    for module in ("torch.utils.tensorboard", "tensorboardX"):
        try:
            return import_module(module).SummaryWriter
        except ImportError:
            continue
    raise RunFolderError(
        "found no TensorBoard; wanted it for `train.logs: [tensorboard]`; install it (`pip install tensorboard`), or "
        "take it out of `train.logs`"
    )
