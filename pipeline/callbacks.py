"""Callbacks of a fit: progress on the terminal, the best weights, and a state to go on from."""

import hashlib
import logging
from pathlib import Path
from typing import Any

import lightning
from lightning.pytorch.callbacks import Callback
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from safetensors.torch import save

from ..models.task import FusionTask

log = logging.getLogger(__name__)


class KeepProgress(Callback):
    """Keeps the best weights, the history and a resumable state after every epoch; every file is renamed into place.

    Parameters
    ----------
    folder
        Receives ``best.safetensors`` and ``last.ckpt``.
    label
        Shown before the epoch's figures.
    """

    def __init__(self, folder: Path, *, label: str) -> None:
        self.folder = folder
        self.history: list[dict[str, float]] = []
        self.best_epoch, self.best_score, self.best_digest = -1, float("-inf"), ""
        console = Console(stderr=True)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
                   TimeRemainingColumn(), TextColumn("{task.fields[figures]}"))  # fmt: skip
        self._progress = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._bar = self._progress.add_task(label, total=None, figures="")

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Show the bar."""
        self._progress.update(self._bar, total=trainer.max_epochs, completed=trainer.current_epoch)
        self._progress.start()

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Note the epoch's figures and keep its weights if they are the best so far."""
        names = ("train_loss", "validation_loss", "validation_score")
        figures = {name: float(trainer.callback_metrics[name]) for name in names if name in trainer.callback_metrics}
        self.history.append({"epoch": trainer.current_epoch, **figures})
        score = figures.get("validation_score", float("nan"))
        if score > self.best_score or self.best_epoch < 0:
            self.best_epoch, self.best_score = trainer.current_epoch, score
            assert isinstance(pl_module, FusionTask)  # noqa: S101 (tells the type checker; fit() makes no other)
            network = pl_module.network
            weights = save({name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()})
            self.best_digest = hashlib.sha256(weights).hexdigest()
            temporary = self.folder / ".best.tmp"
            temporary.write_bytes(weights)
            temporary.replace(self.folder / "best.safetensors")
        self._progress.update(self._bar, advance=1, figures=f"score {score:.3f}, best {self.best_score:.3f}")

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Complete the epoch's figures; Lightning reports the training loss only now."""
        if self.history and "train_loss" in trainer.callback_metrics:
            self.history[-1]["train_loss"] = float(trainer.callback_metrics["train_loss"])
            log.info("epoch %d: %s", trainer.current_epoch, self.history[-1])

    def on_train_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Take the bar away."""
        self._progress.stop()

    def on_exception(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, error: Any) -> None:
        """Take the bar away."""
        self._progress.stop()

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run must know."""
        best = {"best_epoch": self.best_epoch, "best_score": self.best_score, "best_digest": self.best_digest}
        return {"history": self.history, **best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over what an interrupted run knew."""
        self.history = list(state_dict["history"])
        self.best_epoch, self.best_score = state_dict["best_epoch"], state_dict["best_score"]
        self.best_digest = state_dict["best_digest"]


class SaveState(Callback):
    """Writes ``last.ckpt`` when an epoch is complete; it comes last, so that it holds what the others noted."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Save under a temporary name and rename."""
        temporary = self.folder / ".last.tmp"
        trainer.save_checkpoint(temporary)
        temporary.replace(self.folder / "last.ckpt")
