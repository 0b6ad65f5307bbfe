"""Training: one budget for every method."""

import copy
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from torch.utils.data import DataLoader

from equipoise.models.balancing import Strategy, Utilization, build_strategy
from equipoise.models.baselines import SinglesEnsemble, build_baseline, single_modality_spec
from equipoise.models.losses import ClassificationLoss, SegmentationLoss
from equipoise.models.network import FusionUNet
from equipoise.models.spec import NetworkSpec
from equipoise.models.task import FusionTask

from .batch import CLASSES, Task
from .chips import BANDS, MODALITIES
from .conditions import CLEAR, Condition
from .cut import turned
from .drawing import RandomPatches
from .imagery import Imagery

Figures = dict[str, float]

#: Of the degradations that validation patches meet: not those of test patches.
VALIDATION_SEED = 50


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What every network of a task gets: steps, patches a step, epochs (validations), learning rate.

    A label a patch says less than a mask: batches are larger, and validation patches are exchanged more often.
    """

    steps: int = 400
    batch: int = 16
    epochs: int = 20
    rate: float = 3e-3
    turns: int = 3


#: What each task gets in the study.
BUDGETS: dict[Task, Budget] = {
    "segmentation": Budget(),
    "classification": Budget(batch=48, rate=1e-3, turns=6),
}


class KeepBest(Callback):
    """Keeps the weights of the best epoch of the second half by the selection figure, in memory.

    A young network has any share, the wanted one among them.
    """

    def __init__(self) -> None:
        self.best, self.epoch = float("-inf"), -1
        self.weights: dict[str, Any] = {}

    def on_validation_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Compare and copy."""
        if 2 * (trainer.current_epoch + 1) <= (trainer.max_epochs or 0):
            return
        found = float(trainer.callback_metrics["selection"])
        if found > self.best:
            self.best, self.epoch = found, trainer.current_epoch
            self.weights = copy.deepcopy(pl_module.network.state_dict())


def spec_of(task: Task) -> NetworkSpec:
    """Return the small network of the study."""
    return NetworkSpec(
        modalities=MODALITIES, in_channels=tuple(BANDS.values()), classes=len(CLASSES), task=task, encoder="resnet18",
        depth=2, decoder_channels=(32, 16), norm="layer",
    )  # fmt: skip


def fit(
    imagery: Imagery,
    task: Task,
    strategy: str | Sequence[str] | Strategy = "joint",
    *,
    seed: int,
    budget: Budget,
    conditions: Sequence[Condition] = (CLEAR,),
    utilization: Utilization | None = None,
    begin: Callable[[FusionUNet], None] | None = None,
    only: str | None = None,
    baseline: str | None = None,
    changes: Mapping[str, Any] | None = None,
) -> tuple[Any, Figures]:
    """Train one network on random patches; the epoch is chosen on validation chips.

    Parameters
    ----------
    imagery, task
        What there is to learn.
    strategy, utilization
        As for :func:`~equipoise.models.balancing.build_strategy`; or a strategy that is built already.
    begin
        Gives the network the weights that it begins with; None: random ones.
    seed
        Of initial weights and of all draws.
    budget
        Steps, patches, epochs.
    conditions
        What patches may meet, in training and in validation.
    only
        The one modality that a single network reads.
    baseline
        Name of a competitor to train in place of the fusion network.
    changes
        Of the network's description.

    Returns
    -------
    network
        In evaluation mode.
    figures
        Seconds, kept epoch, and what the strategy steers by.
    """
    torch.manual_seed(seed)
    whole = replace(spec_of(task), **(changes or {}))
    spec = whole if only is None else single_modality_spec(whole, only)
    network = FusionUNet(spec) if baseline is None else build_baseline(baseline, spec)
    if begin is not None:
        begin(network)
    built = (
        strategy if isinstance(strategy, Strategy)
        else build_strategy(strategy, modalities=spec.modalities, utilization=utilization)
    )  # fmt: skip
    module = FusionTask(
        network, loss=SegmentationLoss(dice_weight=0) if task == "segmentation" else ClassificationLoss(),
        strategy=built, learning_rate=budget.rate, total_steps=budget.steps, seed=seed, batch_modalities=MODALITIES,
    )  # fmt: skip
    keep, began = KeepBest(), time.perf_counter()
    trainer = L.Trainer(
        max_epochs=budget.epochs, accelerator="cpu", devices=1, logger=False, callbacks=[keep],
        enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False, num_sanity_val_steps=0,
    )  # fmt: skip
    drawn = RandomPatches(
        imagery, task, conditions=conditions, count=budget.steps // budget.epochs, batch=budget.batch, seed=seed
    )
    chips = imagery.division.validation
    cut = turned(imagery, chips, task, turns=budget.turns, conditions=conditions, seed=VALIDATION_SEED)
    validation = DataLoader(cut.batches, batch_size=None)  # type: ignore[arg-type]
    trainer.fit(module, drawn, validation)
    network.load_state_dict(keep.weights)
    figures = {"seconds": round(time.perf_counter() - began, 1), "epoch": float(keep.epoch)}
    return network.eval(), figures | built.figures()


def ensemble(
    imagery: Imagery, task: Task, *, seed: int, budget: Budget, conditions: Sequence[Condition] = (CLEAR,)
) -> tuple[Any, Figures]:
    """Train one network a modality, with as many steps each as a fusion network, and return their ensemble."""
    fitted = [
        fit(imagery, task, seed=seed, budget=budget, conditions=conditions, only=name) for name in MODALITIES
    ]  # fmt: skip
    seconds = sum(figures["seconds"] for _, figures in fitted)
    return SinglesEnsemble([network for network, _ in fitted]), {"seconds": round(seconds, 1)}
