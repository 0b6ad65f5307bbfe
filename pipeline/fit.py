"""Fitting: one network on one data module, resumable after a kill with the same result."""

import hashlib
import logging
import pickle
import warnings
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import lightning
import torch
from lightning.pytorch.callbacks import Callback
from safetensors import SafetensorError
from safetensors.torch import load

from ..datasets.datamodule import PatchDataModule
from ..models.balancing import Utilization, build_strategy
from ..models.losses import ClassificationLoss, SegmentationLoss
from ..models.network import FusionUNet
from ..models.spec import NetworkSpec
from ..models.task import FusionTask
from .callbacks import KeepProgress, SaveState
from .errors import RunFolderError
from .run_folder import write_text
from .stage_options import TrainOptions

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class FitResult:
    """A trained network and how it got there.

    Attributes
    ----------
    network
        With the weights of the best epoch by validation score, in evaluation mode, on the CPU.
    history
        One dict an epoch: ``train_loss``, ``validation_loss``, ``validation_score``.
    best_epoch
        0-based.
    best_score
        Mean IoU or accuracy on the validation split.
    """

    network: FusionUNet
    history: Sequence[dict[str, float]]
    best_epoch: int
    best_score: float


def fit(
    spec: NetworkSpec,
    data: PatchDataModule,
    *,
    options: TrainOptions,
    strategies: Sequence[str],
    class_weights: Sequence[float] | None,
    batch_modalities: tuple[str, ...],
    steps_per_epoch: int,
    seed: int,
    folder: Path,
    resume: str,
    label: str,
) -> FitResult:
    """Train a network; an interrupted fit of the same ``resume`` mark goes on after its last complete epoch.

    Parameters
    ----------
    spec, data, options, strategies
        What to train, on what, how.
    class_weights
        One a class, or None.
    batch_modalities
        Order of the columns of the batches' ``available``.
    steps_per_epoch
        Optimiser steps of one epoch.
    seed
        Of initial weights and of every random choice.
    folder
        Receives the checkpoints.
    resume
        Fingerprint: checkpoints of another one are thrown away.
    label
        Shown with the progress.

    Raises
    ------
    RunFolderError
        If a checkpoint is damaged.
    """
    if options.device == "cuda" and not torch.cuda.is_available():
        raise RunFolderError(
            "found no usable GPU; wanted one for `device: cuda`; use auto or cpu, or ask `equipoise doctor`"
        )
    last = _prepare(folder, resume)
    lightning.seed_everything(seed, verbose=False)
    loss = SegmentationLoss if spec.task == "segmentation" else ClassificationLoss
    strategy = build_strategy(
        strategies, modalities=spec.modalities, utilization=Utilization(**options.utilization.settings())
    )
    # A network of one sensor starts from the weights of that sensor.
    pretrained = {name: value for name, value in options.weights.items() if name in spec.modalities}
    task = FusionTask(
        FusionUNet(spec, weights=pretrained), loss=loss(class_weights=class_weights), strategy=strategy,
        learning_rate=options.learning_rate, weight_decay=options.weight_decay,
        total_steps=options.epochs * steps_per_epoch, seed=seed, batch_modalities=batch_modalities,
    )  # fmt: skip
    keep = KeepProgress(folder, label=label)
    _run(task, data, options=options, callbacks=[keep, SaveState(folder)], checkpoint=last)
    network = task.network.cpu().eval()
    best = folder / "best.safetensors"
    try:
        weights = best.read_bytes()
        if hashlib.sha256(weights).hexdigest() != keep.best_digest:
            raise ValueError("other bytes than were written")
        network.load_state_dict(load(weights))
    except (OSError, SafetensorError, RuntimeError, ValueError) as error:
        raise _damaged(best, error) from error
    return FitResult(network=network, history=keep.history, best_epoch=keep.best_epoch, best_score=keep.best_score)


def _run(
    task: FusionTask,
    data: PatchDataModule,
    *,
    options: TrainOptions,
    callbacks: list[Callback],
    checkpoint: Path | None,
) -> None:
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    with warnings.catch_warnings():
        # Lightning advises more loader workers; on two cores they only compete with the network.
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        warnings.filterwarnings("ignore", message=".*GPU available but not used.*")
        # Lightning 2.6 asks torch 2.14 for a class in a way that torch no longer likes.
        warnings.filterwarnings("ignore", message=".*LeafSpec.* is deprecated", category=FutureWarning)
        trainer = lightning.Trainer(
            max_epochs=options.epochs, accelerator={"auto": "auto", "cpu": "cpu", "cuda": "gpu"}[options.device],
            devices=1, callbacks=callbacks, logger=False, enable_checkpointing=False, enable_progress_bar=False,
            enable_model_summary=False, num_sanity_val_steps=0, reload_dataloaders_every_n_epochs=1,
            deterministic="warn",
        )  # fmt: skip
        try:
            trainer.fit(task, datamodule=data, ckpt_path=checkpoint, weights_only=True)
        except SystemExit as stop:
            # Lightning turns Ctrl-C into exit code 1 without a word; the command line tells it from a failure.
            raise KeyboardInterrupt from stop


def _prepare(folder: Path, resume: str) -> Path | None:
    """Return the checkpoint to go on from; an older run's files are removed."""
    folder.mkdir(parents=True, exist_ok=True)
    mark, last = folder / "resume.txt", folder / "last.ckpt"
    if not mark.is_file() or mark.read_text(encoding="utf-8") != resume:
        for old in (last, folder / "best.safetensors"):
            old.unlink(missing_ok=True)
        write_text(mark, resume)
    if not last.is_file():
        return None
    _check_state(last)
    log.info("going on from %s", last)
    return last


def _check_state(path: Path) -> None:
    try:
        # torch itself does not look at the checksums of the tensors.
        with zipfile.ZipFile(path) as archive:
            if (broken := archive.testzip()) is not None:
                raise zipfile.BadZipFile(broken)
        torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, OSError, LookupError, ValueError, pickle.PickleError, zipfile.BadZipFile) as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> RunFolderError:
    return RunFolderError(
        f"{path}: found a damaged checkpoint ({type(error).__name__}); wanted one that Equipoise wrote; run with "
        "--force to train anew"
    )
