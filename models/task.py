"""FusionTask: one readable training step, repeatable to the bit after a kill."""

import hashlib
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, cast

import lightning as L
import torch
from torch import Tensor, nn
from torchmetrics.classification import MulticlassConfusionMatrix

from .balancing.share_watch import ShareWatch
from .balancing.strategy import Step, Strategy, parts_of
from .errors import require
from .losses import IGNORE
from .modality_gap import CentroidGaps
from .network import FusionUNet
from .scores import full_precision
from .three_steps import ThreeSteps

Batch = Mapping[str, Any]

_WARM_UP = 0.05

#: What a share that is off by 1 costs in units of the validation score when the best epoch is chosen.
MISS_COST = 10.0


class FusionTask(L.LightningModule):
    """Train a network with a loss and a balancing strategy.

    All randomness of a step (subsets, dropout) is drawn from ``(seed, global step, batch number)``, never from a
    stream that a restart would lose. AdamW; the learning rate rises linearly over the first 5 % of the steps and
    falls to 0 along a cosine. Losses and scores are computed in float32, whatever precision the trainer gives the
    network. Where gradients are accumulated, strategies see every batch, and gradients once they are complete.
    Logs ``train_loss``, ``validation_loss`` and ``validation_score`` (mean IoU over the classes present, or accuracy
    for classification; higher is better), and ``gap/<a>-<b>``: how far apart two modalities' coarsest features lie
    (:class:`~equipoise.models.modality_gap.ModalityGap`).

    Parameters
    ----------
    network
        What to train: the fusion network or a competitor.
    loss
        ``loss(logits, target) -> scalar``.
    strategy
        Decides what the network sees in a training step.
    learning_rate
        Peak of the schedule.
    weight_decay
        Of AdamW.
    total_steps
        Number of optimiser steps of the whole training, at least 1; the rate stays 0 beyond it.
    seed
        Of the randomness within steps.
    batch_modalities
        Order of the columns of a batch's ``available`` where it differs from the network's, as for a
        single-modality network on the batches of a fusion network.

    Raises
    ------
    ModelError
        ``total_steps`` is below 1, the network reads a modality that the batches lack, or the strategy works on the
        encoder of each modality and the network has none.
    """

    def __init__(
        self,
        network: ThreeSteps,
        *,
        loss: nn.Module,
        strategy: Strategy,
        learning_rate: float = 1e-3,
        weight_decay: float = 1e-2,
        total_steps: int,
        seed: int = 0,
        batch_modalities: tuple[str, ...] | None = None,
    ) -> None:
        super().__init__()
        require(total_steps >= 1, f"{total_steps} total steps", "at least 1", "check epochs and batch size")
        _check_encoders(network, strategy)
        strategy.attach(network)
        self.network = network
        self.loss = loss
        self.strategy = strategy
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.total_steps = total_steps
        self.seed = seed
        self.columns = _columns(network.modalities, batch_modalities or network.modalities)
        self.target = "mask" if network.spec.task == "segmentation" else "label"
        self.confusion = MulticlassConfusionMatrix(network.spec.classes, ignore_index=IGNORE, validate_args=False)
        self.watch = ShareWatch(network.modalities, kinds=strategy.watches, seed=seed)
        # Early fusion has no features of a modality.
        self.gaps = CentroidGaps(network.modalities if network.modality_encoders() else ())
        #: Task loss of the last training batch, a detached scalar; None before the first one.
        self.latest_loss: Tensor | None = None
        self._epoch_began = 0.0

    @property
    def settled(self) -> bool:
        """Whether the epoch at work began after the warm-up of every strategy, so that its validation counts."""
        return self._epoch_began >= max(part.warm_up for part in parts_of(self.strategy))

    def targets(self) -> dict[str, tuple[float, float]]:
        """Return modality -> lowest and highest wanted share, 0 to 1, of what a strategy steers towards."""
        found = {column: pair for part in parts_of(self.strategy) for column, pair in part.targets().items()}
        return {name: found[column] for column, name in enumerate(self.network.modalities) if column in found}

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Hide what the strategy hides, predict, compare, and let the strategy have its say.

        Parameters
        ----------
        batch
            ``image``, ``mask`` or ``label``, and where present ``valid`` and ``available``.
        batch_idx
            Number of the batch within the epoch.

        Returns
        -------
        Tensor
            The loss, a scalar.
        """
        with self._seeded(batch_idx) as generator:
            available = self.strategy.available(self._present(batch), generator=generator)
            features = self.network.encode(batch["image"], valid=batch.get("valid"), available=available)
            features = self.strategy.adapt(features, modalities=self.network.modalities)
            logits = full_precision(self.network.decode(self.network.fuse(features, available), size=features.size))
            task_loss = self._criterion(logits, batch[self.target])
            step = Step(
                network=self.network, features=features, available=available, logits=logits,
                target=batch[self.target], criterion=self._criterion, generator=generator,
                progress=self.global_step / self.total_steps, condition=batch.get("condition"),
                batch=batch,
            )  # fmt: skip
            loss = self.strategy.loss(step, task_loss)
        self.latest_loss = task_loss.detach()
        self.log("train_loss", task_loss, on_step=False, on_epoch=True, batch_size=len(available))
        return loss

    def on_train_epoch_start(self) -> None:
        """Let the strategy freeze or free parts of the network."""
        self._epoch_began = self.global_step / self.total_steps
        self.strategy.begin_epoch(self.network, progress=self._epoch_began)

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:  # noqa: ARG002 (Lightning's)
        """Let the strategy change the gradients; they are complete and unscaled here."""
        self.strategy.gradients(self.network)

    def on_train_epoch_end(self) -> None:
        """Log what the strategy steers by."""
        for name, value in self.strategy.figures().items():
            self.log(f"strategy/{name}", value, sync_dist=True)

    def on_validation_epoch_start(self) -> None:
        """Forget the counts of an earlier epoch or of an interrupted one."""
        self.confusion.reset()
        self.watch.reset()
        self.gaps.reset()

    def validation_step(self, batch: Batch, batch_idx: int) -> None:  # noqa: ARG002 (Lightning's signature)
        """Count what the network gets right when it sees everything that is present."""
        available, target = self._present(batch), batch[self.target]
        features = self.network.encode(batch["image"], valid=batch.get("valid"), available=available)
        logits = full_precision(self.network.decode(self.network.fuse(features, available), size=features.size))
        # The watch needs the three steps alone, whichever network has them.
        self.watch.update(cast("FusionUNet", self.network), features, available=available, logits=logits, target=target)
        self.gaps.update(features, available)
        self.confusion.update(logits.argmax(dim=1), target)
        self.log("validation_loss", self._criterion(logits, target), batch_size=len(available))

    def on_validation_epoch_end(self) -> None:
        """Turn the counts of the epoch into one score."""
        counts = self.confusion.compute()
        score = mean_iou(counts) if self.network.spec.task == "segmentation" else accuracy(counts)
        self.log("validation_score", score, prog_bar=True)
        found = self.watch.compute()
        miss = self.strategy.observe(found)
        for kind, values in found.items():
            for name, value in zip(self.network.modalities, values, strict=True):
                self.log(f"{kind}/{name}", value)
        for (first, second), distance in self.gaps.compute().items():
            self.log(f"gap/{first}-{second}", distance)
        # A better score is no gain where the shares are not what was asked for.
        self.log("selection", score - MISS_COST * miss)

    def configure_optimizers(self) -> dict[str, Any]:  # type: ignore[override]  # Lightning's union is wider
        """Return AdamW and its schedule, stepped once per optimiser step."""
        # Modalities of one sensor may share an encoder.
        read = {id(item): item for encoder in self.network.modality_encoders() for item in encoder.parameters()}
        encoders = list(read.values())
        own = {id(parameter) for parameter in encoders}
        rest = [*self.network.parameters(), *self.strategy.parameters()]
        groups: list[dict[str, Any]] = [{"params": [item for item in rest if id(item) not in own]}]
        if encoders:
            groups.append({"params": encoders, "lr": self.learning_rate * self.strategy.encoder_rate})
        optimizer = torch.optim.AdamW(groups, lr=self.learning_rate, weight_decay=self.weight_decay)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, partial(warm_cosine, total=self.total_steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _criterion(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the task loss in float32, a scalar."""
        with torch.autocast(logits.device.type, enabled=False):
            loss: Tensor = self.loss(full_precision(logits), target)
        return loss

    def _present(self, batch: Batch) -> Tensor:
        """Return bool (batch, modality) in the network's order."""
        available: Tensor | None = batch.get("available")
        if available is None:
            image = batch["image"][self.network.modalities[0]]
            return torch.ones(len(image), len(self.columns), dtype=torch.bool, device=image.device)
        return available[:, self.columns]

    @contextmanager
    def _seeded(self, batch_idx: int) -> Iterator[torch.Generator]:
        """Seed a generator, and for dropout the global ones, by the step alone; the global ones are put back."""
        name = f"{self.seed}/{self.global_step}/{batch_idx}".encode()
        seed = int.from_bytes(hashlib.sha256(name).digest()[:7])
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(seed)
            yield torch.Generator().manual_seed(seed)


def mean_iou(confusion: Tensor) -> Tensor:
    """Mean intersection over union of the classes that occur in the truth.

    Parameters
    ----------
    confusion
        Counts (class, class), truth in rows.

    Returns
    -------
    Tensor
        Scalar in [0, 1]; NaN without any count.
    """
    counts = confusion.float()
    hits, truth = counts.diagonal(), counts.sum(dim=1)
    union = truth + counts.sum(dim=0) - hits
    return (hits / union)[truth > 0].mean()


def accuracy(confusion: Tensor) -> Tensor:
    """Return the share of hits among counts (class, class); NaN without any count."""
    return confusion.diagonal().sum() / confusion.sum()


def warm_cosine(step: int, *, total: int) -> float:
    """Return the factor of the learning rate: linear over the first 5 % of ``total`` steps, then a cosine to 0."""
    warm = max(1, round(_WARM_UP * total))
    if step < warm:
        return (step + 1) / warm
    progress = min(1.0, (step - warm) / max(1, total - warm))
    return 0.5 * (1 + math.cos(math.pi * progress))


def _check_encoders(network: ThreeSteps, strategy: Strategy) -> None:
    """Refuse what works on the encoder of each modality where there is none."""
    wish = "a network with an encoder for each modality (fusion, late or i2m2)"
    for part in () if network.modality_encoders() else parts_of(strategy):
        what = f"a network of kind {network.kind!r}"
        require(not part.needs_encoders, f"{what} for {type(part).__name__}", wish, "choose another strategy")
        require(
            part.encoder_rate == 1.0, f"{what} and encoders that learn at {part.encoder_rate:g} of the rate", wish,
            "choose `depth: decoder`",
        )  # fmt: skip
    shared = len({id(encoder) for encoder in network.modality_encoders()}) < len(network.modality_encoders())
    for part in parts_of(strategy) if shared else ():
        require(
            not part.needs_own_encoders, f"an encoder that modalities share for {type(part).__name__}",
            "one for each, since it steers how fast each learns", "choose another strategy, or do not share encoders",
        )  # fmt: skip


def _columns(wanted_order: tuple[str, ...], batch_order: tuple[str, ...]) -> list[int]:
    require(
        set(wanted_order) <= set(batch_order),
        f"batches of {batch_order}",
        f"all of {wanted_order}",
        "train on batches that hold the network's modalities",
    )
    return [batch_order.index(modality) for modality in wanted_order]
