"""Callbacks of a fit: the history, the best weights, patience, and a state to go on from."""

import hashlib
import logging
from pathlib import Path
from typing import Any

import lightning
from lightning.pytorch.callbacks import Callback, EarlyStopping
from safetensors.torch import save

from ..models.task import FusionTask

log = logging.getLogger(__name__)


class KeepProgress(Callback):
    """Keeps the best weights, the history and a resumable state after every epoch; every file is renamed into place.

    Parameters
    ----------
    folder
        Receives ``best.safetensors``.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.history: list[dict[str, float]] = []
        self.best_epoch, self.best_score, self.best_digest = -1, float("-inf"), ""
        self._best_selection = float("-inf")

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Note the epoch's figures and keep its weights if they are the best so far."""
        names = ("train_loss", "validation_loss", "validation_score")
        found = {name: float(value) for name, value in trainer.callback_metrics.items()}
        shares = {name: value for name, value in found.items() if name.startswith(("share/", "information/", "gap/"))}
        figures = {name: found[name] for name in names if name in found}
        assert isinstance(pl_module, FusionTask)  # noqa: S101 (tells the type checker; fit() makes no other)
        for name, (low, high) in pl_module.targets().items():
            shares |= {f"target_low/{name}": low, f"target_high/{name}": high}
        self.history.append({"epoch": trainer.current_epoch, **figures, **shares})
        score, selection = (found.get(name, float("nan")) for name in ("validation_score", "selection"))
        if selection > self._best_selection or self.best_epoch < 0:
            self.best_epoch, self.best_score, self._best_selection = trainer.current_epoch, score, selection
            network = pl_module.network
            weights = save({name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()})
            self.best_digest = hashlib.sha256(weights).hexdigest()
            temporary = self.folder / ".best.tmp"
            temporary.write_bytes(weights)
            temporary.replace(self.folder / "best.safetensors")

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Complete the epoch's figures; Lightning reports the training loss only now."""
        if self.history and "train_loss" in trainer.callback_metrics:
            self.history[-1]["train_loss"] = float(trainer.callback_metrics["train_loss"])
            assert isinstance(pl_module, FusionTask)  # noqa: S101 (as above)
            self.history[-1] |= {f"strategy/{name}": value for name, value in pl_module.strategy.figures().items()}
            log.info("epoch %d: %s", trainer.current_epoch, self.history[-1])

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


class Patience(EarlyStopping):
    """Stops after some epochs without a better ``selection``; a resumed training stops where the whole one would.

    Epochs that began within a strategy's warm-up are not counted, and not what later ones must be better than: their
    selection is that of another network, or of one whose shares nothing holds yet.

    Parameters
    ----------
    epochs
        How many, at least 1.
    """

    def __init__(self, epochs: int) -> None:
        # A selection that is no number is no better one.
        super().__init__("selection", patience=epochs, mode="max", check_finite=False, check_on_train_epoch_end=False)

    @property
    def ended(self) -> str | None:
        """Why it stopped the training, or None."""
        return f"no better epoch in {self.patience}" if self.stopped_epoch else None

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Stop at once where the state is that of a training that was stopped."""
        trainer.should_stop = trainer.should_stop or self.stopped_epoch > 0

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Count the epoch where it counts."""
        assert isinstance(pl_module, FusionTask)  # noqa: S101 (as above)
        if pl_module.settled:
            super().on_validation_end(trainer, pl_module)


class SaveState(Callback):
    """Writes ``last.ckpt`` when an epoch is complete; it comes last, so that it holds what the others noted."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Save under a temporary name and rename."""
        temporary = self.folder / ".last.tmp"
        trainer.save_checkpoint(temporary)
        temporary.replace(self.folder / "last.ckpt")
