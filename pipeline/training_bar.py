"""The bar of a training: moves with every batch where a person watches, and is silent elsewhere."""

import time
from collections.abc import Mapping
from typing import Any

import lightning
from lightning.pytorch.callbacks import Callback
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import Tensor

from ..models.task import FusionTask
from .callbacks import KeepProgress

#: Seconds between two readings of the loss: each one waits for the device.
_EVERY = 0.5


class ShowTraining(Callback):
    """Shows batches done, the mean training loss of the epoch so far, and what the last validation found.

    It comes behind :class:`~equipoise.pipeline.callbacks.KeepProgress`.

    Parameters
    ----------
    keep
        Holds the history and the best score.
    label
        Shown before the bar.
    console
        Where to; None for standard error.
    """

    def __init__(self, keep: KeepProgress, *, label: str, console: Console | None = None) -> None:
        self.keep, self.label = keep, label
        console = console or Console(stderr=True)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
                   TimeRemainingColumn(), TextColumn("{task.fields[loss]}{task.fields[figures]}"))  # fmt: skip
        self._watched = console.is_terminal
        self._progress = Progress(*columns, console=console, transient=True, disable=not self._watched)
        self._bar = self._progress.add_task(label, total=None, loss="", figures="")
        self._sum: Tensor | float = 0.0
        self._count, self._read = 0, 0.0

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Show the bar."""
        batches = int(trainer.num_training_batches)
        total = batches * (trainer.max_epochs or 0)
        self._progress.update(self._bar, total=total, completed=batches * trainer.current_epoch)
        self._progress.start()

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Begin a new mean."""
        self._sum, self._count = 0.0, 0
        self._progress.update(self._bar, description=f"{self.label} {trainer.current_epoch + 1}/{trainer.max_epochs}")

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Move on."""
        if not self._watched:
            return
        assert isinstance(pl_module, FusionTask)  # noqa: S101 (tells the type checker; fit() makes no other)
        if pl_module.latest_loss is not None:
            self._sum, self._count = self._sum + pl_module.latest_loss, self._count + 1
        self._progress.advance(self._bar)
        if time.monotonic() - self._read >= _EVERY and self._count:
            self._progress.update(self._bar, loss=f"loss {float(self._sum) / self._count:.3f}  ")
            self._read = time.monotonic()

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Show the epoch's score, and shares with what is wanted of them."""
        if self.keep.history:
            self._progress.update(self._bar, figures=line(self.keep.history[-1], best=self.keep.best_score))

    def on_train_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Take the bar away."""
        self._progress.stop()

    def on_exception(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, error: Any) -> None:
        """Take the bar away."""
        self._progress.stop()


def line(row: Mapping[str, float], *, best: float) -> str:
    """Put the figures of an epoch in words: score, and the shares and their wanted ranges where they are known."""
    shares = []
    for key, share in row.items():
        kind, _, name = key.partition("/")
        if kind == "share":
            low, high = (row.get(f"target_{end}/{name}") for end in ("low", "high"))
            wish = "" if low is None or high is None else f" ({100 * low:.0f}-{100 * high:.0f}%)"
            shares.append(f"{name} {share:.0%}{wish}")
    score = f"score {row.get('validation_score', float('nan')):.3f}, best {best:.3f}"
    return score + (f", shares {' '.join(shares)}" if shares else "")
