"""Callbacks of a fit: progress on the terminal, the best weights, and a state to go on from."""

import hashlib
import logging
from collections.abc import Mapping
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
        self._best_selection = float("-inf")
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
        found = {name: float(value) for name, value in trainer.callback_metrics.items()}
        shares = {name: value for name, value in found.items() if name.startswith(("share/", "information/"))}
        figures = {name: found[name] for name in names if name in found}
        self.history.append({"epoch": trainer.current_epoch, **figures, **shares})
        score, selection = (found.get(name, float("nan")) for name in ("validation_score", "selection"))
        if selection > self._best_selection or self.best_epoch < 0:
            self.best_epoch, self.best_score, self._best_selection = trainer.current_epoch, score, selection
            assert isinstance(pl_module, FusionTask)  # noqa: S101 (tells the type checker; fit() makes no other)
            network = pl_module.network
            weights = save({name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()})
            self.best_digest = hashlib.sha256(weights).hexdigest()
            temporary = self.folder / ".best.tmp"
            temporary.write_bytes(weights)
            temporary.replace(self.folder / "best.safetensors")
        self._progress.update(self._bar, advance=1, figures=_line(score, self.best_score, shares))

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Complete the epoch's figures; Lightning reports the training loss only now."""
        if self.history and "train_loss" in trainer.callback_metrics:
            self.history[-1]["train_loss"] = float(trainer.callback_metrics["train_loss"])
            assert isinstance(pl_module, FusionTask)  # noqa: S101 (as above)
            self.history[-1] |= {f"strategy/{name}": value for name, value in pl_module.strategy.figures().items()}
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
        best["best_selection"] = self._best_selection
        return {"history": self.history, **best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over what an interrupted run knew."""
        self.history = list(state_dict["history"])
        self.best_epoch, self.best_score = state_dict["best_epoch"], state_dict["best_score"]
        self.best_digest, self._best_selection = state_dict["best_digest"], state_dict["best_selection"]


def _line(score: float, best: float, shares: Mapping[str, float]) -> str:
    """Put the figures of an epoch in words: score, and the shares where they are watched."""
    watched = " ".join(f"{name.split('/')[1]} {x:.0%}" for name, x in shares.items() if name.startswith("share/"))
    return f"score {score:.3f}, best {best:.3f}" + (f", shares {watched}" if watched else "")


class SaveState(Callback):
    """Writes ``last.ckpt`` when an epoch is complete; it comes last, so that it holds what the others noted."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Save under a temporary name and rename."""
        temporary = self.folder / ".last.tmp"
        trainer.save_checkpoint(temporary)
        temporary.replace(self.folder / "last.ckpt")
