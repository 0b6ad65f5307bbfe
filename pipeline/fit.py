"""Fitting: one network on one data module, resumable after a kill with the same result."""

import hashlib
import logging
import math
import pickle
import shutil
import warnings
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback
from safetensors import SafetensorError
from safetensors.torch import load

from ..datasets.datamodule import PatchDataModule
from ..models.balancing import Strategy, Utilization, build_strategy
from ..models.baselines import build_network
from ..models.losses import ClassificationLoss, SegmentationLoss
from ..models.spec import NetworkSpec
from ..models.task import FusionTask
from ..models.three_steps import ThreeSteps
from .callbacks import KeepProgress, Patience, SaveState
from .errors import RunFolderError
from .learning_rate import find_learning_rate
from .run_folder import write_text
from .stage_options import TrainOptions
from .training_bar import ShowTraining
from .training_logs import WriteLogs

log = logging.getLogger(__name__)

#: Beside the checkpoints: the logs of every epoch, and the learning rate where it was found.
_LOGS, _RATE = "logs", "learning_rate.txt"


@dataclass(frozen=True, kw_only=True)
class FitResult:
    """A trained network and how it got there.

    Attributes
    ----------
    network
        A :class:`~equipoise.models.three_steps.ThreeSteps` with the weights of the best epoch by validation score, in
        evaluation mode, on the CPU.
    history
        One dict an epoch: ``train_loss``, ``validation_loss``, ``validation_score``, and where a strategy steers
        shares, what it steers by.
    best_epoch
        0-based.
    best_score
        Mean IoU or accuracy on the validation split.
    learning_rate
        Peak of the schedule, chosen or found.
    ended
        Why the training ended, in words.
    """

    network: Any
    history: Sequence[dict[str, float]]
    best_epoch: int
    best_score: float
    learning_rate: float
    ended: str


def fit(
    spec: NetworkSpec,
    data: PatchDataModule,
    *,
    options: TrainOptions,
    strategies: Sequence[str] | Strategy,
    network: ThreeSteps | None = None,
    class_weights: Sequence[float] | None,
    batch_modalities: tuple[str, ...],
    batches_per_epoch: int,
    seed: int,
    folder: Path,
    resume: str,
    label: str,
) -> FitResult:
    """Train a network; an interrupted fit of the same ``resume`` mark goes on after its last complete epoch.

    Parameters
    ----------
    spec, data, options
        What to train, on what, how.
    strategies
        Names, or a strategy that is built already.
    network
        What the training begins with, of that description; None: a new one.
    class_weights
        One a class, or None.
    batch_modalities
        Order of the columns of the batches' ``available``.
    batches_per_epoch
        Training batches of one epoch.
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
        If a checkpoint is damaged, there is no GPU or no TensorBoard where they are asked for, or no learning rate
        is found.
    ModelError
        If network, weights and strategy do not fit each other.
    """
    if options.device == "cuda" and not torch.cuda.is_available():
        raise RunFolderError(
            "found no usable GPU; wanted one for `device: cuda`; use auto or cpu, or ask `equipoise doctor`"
        )
    keep = KeepProgress(folder)
    logs = [WriteLogs(folder / _LOGS, keep, kinds=options.logs)] if options.logs else []
    last = _prepare(folder, resume)
    lightning.seed_everything(seed, verbose=False)
    loss = SegmentationLoss if spec.task == "segmentation" else ClassificationLoss
    wanted = Utilization(**options.utilization.settings(encoders=spec.kind != "early"))
    strategy = (
        strategies if isinstance(strategies, Strategy)
        else build_strategy(strategies, modalities=spec.modalities, utilization=wanted)
    )  # fmt: skip
    # A network of one sensor starts from the weights of that sensor.
    pretrained = {name: value for name, value in options.weights.items() if name in spec.modalities}
    task = FusionTask(
        network or build_network(spec, weights=pretrained), loss=loss(class_weights=class_weights), strategy=strategy,
        weight_decay=options.weight_decay, seed=seed, batch_modalities=batch_modalities,
        total_steps=options.epochs * math.ceil(batches_per_epoch / options.accumulate),
    )  # fmt: skip
    task.learning_rate = _learning_rate(task, data, options=options, folder=folder)
    patience = [Patience(options.patience)] if options.patience is not None else []
    callbacks = [keep, *patience, *logs, ShowTraining(keep, label=label), SaveState(folder)]
    _run(task, data, options=options, callbacks=callbacks, checkpoint=last)
    ended = next((item.ended for item in patience if item.ended), "all epochs done")
    log.info("training ended after %d epochs: %s", len(keep.history), ended)
    return FitResult(
        network=_best(task, keep, folder), history=keep.history, best_epoch=keep.best_epoch,
        best_score=keep.best_score, learning_rate=task.learning_rate, ended=ended,
    )  # fmt: skip


def _best(task: FusionTask, keep: KeepProgress, folder: Path) -> Any:
    """Return the network with the weights of the best epoch."""
    network = task.network.cpu().eval()
    best = folder / "best.safetensors"
    try:
        weights = best.read_bytes()
        if hashlib.sha256(weights).hexdigest() != keep.best_digest:
            raise ValueError("other bytes than were written")
        network.load_state_dict(load(weights))
    except (OSError, SafetensorError, RuntimeError, ValueError) as error:
        raise _damaged(best, error) from error
    return network


def _learning_rate(task: FusionTask, data: PatchDataModule, *, options: TrainOptions, folder: Path) -> float:
    """Return the rate that is chosen, or was found when this training began, or is found now."""
    if options.learning_rate != "find":
        return options.learning_rate
    known = folder / _RATE
    if known.is_file():
        try:
            return float(known.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise _damaged(known, error) from error
    with _quiet_lightning():
        rate = find_learning_rate(task, data.loader("train", epoch=0), **_settings(options))
    write_text(known, repr(rate))
    log.info("found learning rate %.2e", rate)
    return rate


def _settings(options: TrainOptions) -> dict[str, Any]:
    """Return the arguments of Lightning's trainer that every use of it shares."""
    return {
        "accelerator": {"auto": "auto", "cpu": "cpu", "cuda": "gpu"}[options.device], "devices": 1, "logger": False,
        "precision": {"32": "32-true", "bf16": "bf16-mixed"}[options.precision], "deterministic": "warn",
        "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False,
        "num_sanity_val_steps": 0,
    }  # fmt: skip


@contextmanager
def _quiet_lightning() -> Iterator[None]:
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    with warnings.catch_warnings():
        # Lightning advises more loader workers; on two cores they only compete with the network.
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        warnings.filterwarnings("ignore", message=".*GPU available but not used.*")
        # Lightning 2.6 asks torch 2.14 for a class in a way that torch no longer likes.
        warnings.filterwarnings("ignore", message=".*LeafSpec.* is deprecated", category=FutureWarning)
        # The search for a learning rate validates nothing.
        warnings.filterwarnings("ignore", message=".*but have no `val_dataloader`.*")
        yield


def _run(
    task: FusionTask,
    data: PatchDataModule,
    *,
    options: TrainOptions,
    callbacks: list[Callback],
    checkpoint: Path | None,
) -> None:
    with _quiet_lightning():
        trainer = lightning.Trainer(
            **_settings(options), max_epochs=options.epochs, callbacks=callbacks, reload_dataloaders_every_n_epochs=1,
            accumulate_grad_batches=options.accumulate,
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
        for old in (last, folder / "best.safetensors", folder / _RATE):
            old.unlink(missing_ok=True)
        shutil.rmtree(folder / _LOGS, ignore_errors=True)
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
