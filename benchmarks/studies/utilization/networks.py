"""Training and measuring on the oracle scene: one budget for every method."""

import copy
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from torch import nn

from equipoise.models.balancing import Strategy, Utilization, build_strategy
from equipoise.models.baselines import SinglesEnsemble, build_baseline, single_modality_spec
from equipoise.models.losses import ClassificationLoss
from equipoise.models.network import FusionUNet
from equipoise.models.spec import NetworkSpec
from equipoise.models.task import FusionTask
from equipoise.models.utilization import permutation_reliance

from oracle.loader import oracle_loader  # isort: skip
from oracle.scene import OracleScene  # isort: skip


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What every method gets: steps, patches a step, epochs (validations)."""

    steps: int = 400
    batch: int = 32
    epochs: int = 10
    rate: float = 3e-3


#: Batches of 128 patches on which every epoch is compared, and on which shares are measured at the end: one label a
#: patch says less than a mask does.
VALIDATION = {"segmentation": 12, "classification": 48}
TEST = {"segmentation": 16, "classification": 64}


class KeepBest(Callback):
    """Keeps the weights of the epoch with the best selection figure, in memory."""

    def __init__(self) -> None:
        self.best, self.weights = float("-inf"), None

    def on_validation_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Compare and copy."""
        found = float(trainer.callback_metrics["selection"])
        if found > self.best:
            self.best, self.weights = found, copy.deepcopy(pl_module.network.state_dict())


class CellLoss(nn.Module):
    """Cross entropy over labelled places, without the Dice term: calibration is compared with exact posteriors."""

    def forward(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """As the package's losses."""
        return ClassificationLoss()(logits.flatten(2).movedim(1, -1).flatten(0, 1), target.flatten())


def spec_of(scene: OracleScene) -> NetworkSpec:
    """Return the small network of the studies."""
    return NetworkSpec(
        modalities=scene.modalities, in_channels=tuple(scene.bands[name] for name in scene.modalities),
        classes=len(scene.classes), task=scene.task, encoder="resnet18", depth=2, decoder_channels=(32, 16),
        norm="layer",
    )  # fmt: skip


def fit(
    scene: OracleScene,
    strategy: str | Sequence[str] | Strategy,
    *,
    seed: int,
    budget: Budget,
    conditions: str | Sequence[str] = "clear",
    utilization: Utilization | None = None,
    begin: Callable[[FusionUNet], None] | None = None,
    only: str | None = None,
    baseline: str | None = None,
    changes: Mapping[str, Any] | None = None,
) -> tuple[Any, dict[str, float]]:
    """Train one network, of one modality or a competitor where named; return it with seconds and final figures.

    ``changes`` are those of the network's description; ``begin`` gives the network the weights that it begins with.
    """
    torch.manual_seed(seed)
    whole = replace(spec_of(scene), **(changes or {}))
    spec = whole if only is None else single_modality_spec(whole, only)
    network: Any = FusionUNet(spec) if baseline is None else build_baseline(baseline, spec)
    if begin is not None:
        begin(network)
    built = (
        strategy if isinstance(strategy, Strategy)
        else build_strategy(strategy, modalities=spec.modalities, utilization=utilization)
    )  # fmt: skip
    loss = CellLoss() if scene.task == "segmentation" else ClassificationLoss()
    task = FusionTask(
        network, loss=loss, strategy=built, learning_rate=budget.rate, total_steps=budget.steps, seed=seed,
        batch_modalities=scene.modalities,
    )  # fmt: skip
    keep, began = KeepBest(), time.perf_counter()
    trainer = L.Trainer(
        max_epochs=budget.epochs, accelerator="cpu", devices=1, logger=False, callbacks=[keep],
        enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False, num_sanity_val_steps=0,
    )  # fmt: skip
    # Every epoch draws new patches: the loader is one run of all steps, cut into epochs.
    per_epoch = budget.steps // budget.epochs
    data = Stretches(scene, conditions, count=per_epoch, batch=budget.batch, seed=seed)
    validation = oracle_loader(scene, conditions, count=VALIDATION[scene.task], batch_size=128, seed=10_000 + seed)
    trainer.fit(task, Reloaded(data), validation)
    network.load_state_dict(keep.weights)
    return network.eval(), {"seconds": time.perf_counter() - began, **built.figures()}


class Stretches:
    """Loaders of one epoch each; every epoch has a seed of its own."""

    def __init__(
        self, scene: OracleScene, conditions: str | Sequence[str], *, count: int, batch: int, seed: int
    ) -> None:
        self.scene, self.conditions, self.count, self.batch, self.seed = scene, conditions, count, batch, seed
        self.epoch = 0

    def next(self) -> Any:
        """Return the next epoch's loader."""
        self.epoch += 1
        return oracle_loader(
            self.scene, self.conditions, count=self.count, batch_size=self.batch, seed=1000 * self.seed + self.epoch
        )


class Reloaded:
    """An iterable that is another stretch each time it is iterated."""

    def __init__(self, stretches: Stretches) -> None:
        self.stretches = stretches

    def __iter__(self) -> Any:
        return iter(self.stretches.next())

    def __len__(self) -> int:
        return self.stretches.count


def ensemble(
    scene: OracleScene, *, seed: int, budget: Budget, conditions: str | Sequence[str]
) -> tuple[Any, dict[str, float]]:
    """Train one network for each modality, with as many steps each as a fusion network, and return their ensemble."""
    fitted = [
        fit(scene, "joint", seed=seed, budget=budget, conditions=conditions, only=name) for name in scene.modalities
    ]
    return SinglesEnsemble([network for network, _ in fitted]), {"seconds": sum(item["seconds"] for _, item in fitted)}


@torch.inference_mode()
def hits(network: Any, scene: OracleScene, condition: str, *, patches: int, seed: int) -> torch.Tensor:
    """Share of the places of each test patch that are named rightly under a condition, float (patch,)."""
    found = []
    for batch in oracle_loader(scene, condition, count=max(1, patches // 256), batch_size=256, seed=seed):
        logits = network(batch["image"], available=batch["available"], valid=batch["valid"])
        target = batch["mask"] if scene.task == "segmentation" else batch["label"]
        found.append((logits.argmax(dim=1) == target).float().reshape(len(target), -1).mean(dim=1))
    return torch.cat(found)


def shares(network: Any, scene: OracleScene, *, seed: int, condition: str = "clear") -> Mapping[str, Any]:
    """Bounded and cross-entropy shares on test patches, with the bounded interval."""
    found = {
        score: permutation_reliance(
            network, oracle_loader(scene, condition, count=TEST[scene.task], batch_size=128, seed=seed), score=score,
            rolls=3, bootstrap=300, seed=0,
        )
        for score in ("brier", "cross_entropy")
    }  # fmt: skip
    bounded = found["brier"]
    return {"share": bounded.share, "interval": bounded.share_interval, "ce_share": found["cross_entropy"].share}
