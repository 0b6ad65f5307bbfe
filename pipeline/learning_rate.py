"""Learning rate: a range test before the training, for those who do not want to choose one."""

import contextlib
import copy
import io
import math
import sys
from collections.abc import Sequence
from tempfile import TemporaryDirectory
from typing import Any

import lightning
import torch
from lightning.pytorch.tuner.tuning import Tuner
from torch.utils.data import DataLoader

from ..models.task import FusionTask
from .errors import RunFolderError

#: Steps of the test, and the rates of the first and the last one.
STEPS, LOWEST, HIGHEST = 100, 1e-6, 1.0

#: Steps whose mean loss says nothing yet, the part of the best rate that is taken, and the weight of a new loss.
_FIRST, _PART, _WEIGHT = 10, 0.1, 0.1


def find_learning_rate(task: FusionTask, batches: DataLoader[dict[str, Any]], **settings: Any) -> float:
    """Raise the rate step by step on a copy of the task, and return a tenth of the rate where the loss was lowest.

    The range test of Smith (WACV 2017), as Lightning's ``Tuner.lr_find`` runs it, with the task loss as a running mean.
    The task itself, its randomness included, is as it was. The copy stays at the beginning of its training, so that
    no strategy comes to a later phase.

    Parameters
    ----------
    task
        With its initial weights.
    batches
        Training batches; they are repeated until the test is over.
    settings
        Of Lightning's trainer: device, precision.

    Returns
    -------
    float
        Between 1e-7 and 0.1.

    Raises
    ------
    RunFolderError
        If the loss never falls.
    """
    trial = copy.deepcopy(task)
    trial.total_steps = STEPS * STEPS
    losses: list[float] = []

    def note(*_: Any) -> None:
        losses.append(math.nan if trial.latest_loss is None else float(trial.latest_loss))

    # Lightning's own mean over the steps starts at half the loss, so that a later loss cannot be compared with it.
    trial.on_train_batch_end = note  # type: ignore[method-assign, assignment]
    # Its bar is for people.
    quiet = contextlib.nullcontext() if sys.stderr.isatty() else contextlib.redirect_stderr(io.StringIO())
    with torch.random.fork_rng(devices=[]), quiet, TemporaryDirectory() as folder:
        trainer = lightning.Trainer(**settings, max_epochs=STEPS, default_root_dir=folder)
        found = Tuner(trainer).lr_find(
            trial, train_dataloaders=batches, min_lr=LOWEST, max_lr=HIGHEST, num_training=STEPS
        )
    return suggested(found.results["lr"] if found else (), losses)


def suggested(rates: Sequence[float], losses: Sequence[float]) -> float:
    """Return a tenth of the rate at which the running mean of the loss is lowest.

    Parameters
    ----------
    rates, losses
        One a step.

    Raises
    ------
    RunFolderError
        If the loss is not finite, or lowest among the first ten steps.
    """
    pairs = [(loss, rate) for rate, loss in zip(rates, losses, strict=False) if math.isfinite(loss)]
    means, mean = [], 0.0
    for step, (loss, _) in enumerate(pairs):
        mean += _WEIGHT * (loss - mean)
        means.append(mean / (1 - (1 - _WEIGHT) ** (step + 1)))
    lowest = min(range(len(means)), key=means.__getitem__, default=0)
    if lowest < _FIRST:
        raise RunFolderError(
            f"found no learning rate from {LOWEST:g} to {HIGHEST:g} at which the loss falls; wanted one for "
            "`train.learning_rate: find`; give a number, or look at labels and inputs"
        )
    return _PART * pairs[lowest][1]
