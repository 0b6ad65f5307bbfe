"""One step of a training on invented patches, for strategies that are looked at by themselves."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning as L
import torch

from equipoise.models.balancing.strategy import Step, Strategy
from equipoise.models.baselines import build_network
from equipoise.models.losses import ClassificationLoss, SegmentationLoss
from equipoise.models.network import NetworkSpec
from equipoise.models.task import FusionTask

NAMES = ("eo", "sar")
SPEC = NetworkSpec(modalities=NAMES, in_channels=(2, 1), classes=3, depth=2, decoder_channels=(8, 4))


def batch_of(count=8, *, seed=0, task="segmentation"):
    """Every modality shows the class, each with noise of its own that averaging over the patch does not remove."""
    generator = torch.Generator().manual_seed(seed)
    mask = torch.randint(0, 3, (count, 1, 1), generator=generator).expand(-1, 8, 8).clone()
    image = {
        name: mask[:, None].float() + 0.6 * torch.randn(count, bands, 1, 1, generator=generator)
        + 0.2 * torch.randn(count, bands, 8, 8, generator=generator)
        for name, bands in (("eo", 2), ("sar", 1))
    }  # fmt: skip
    return image, mask if task == "segmentation" else mask[:, 0, 0]


def step_of(network, *, image=None, target=None, available=None, seed=0, progress=0.5, condition=None):
    """Take a network as far as its answer, on what it is given or on the batch of its task."""
    task = network.spec.task
    if image is None:
        image, target = batch_of(task=task)
    if available is None:
        available = torch.ones(len(target), 2, dtype=torch.bool)
    features = network.encode(image, available=available)
    logits = network.decode(network.fuse(features, available), size=features.size)
    return Step(
        network=network, features=features, available=available, logits=logits, target=target,
        criterion=SegmentationLoss() if task == "segmentation" else ClassificationLoss(),
        generator=torch.Generator().manual_seed(seed), progress=progress, condition=condition,
    )  # fmt: skip


def task_of(strategy: Strategy, *, spec: NetworkSpec = SPEC, steps: int = 8) -> FusionTask:
    """Return a task on a new network, the same each time, whose steps can be taken without a trainer."""
    torch.manual_seed(0)
    loss = SegmentationLoss() if spec.task == "segmentation" else ClassificationLoss()
    task = FusionTask(build_network(spec), loss=loss, strategy=strategy, total_steps=steps, learning_rate=3e-3)
    task.log = lambda *_, **__: None
    return task


def fitted(
    folder: Path, strategy: Strategy, batches: Sequence[Mapping[str, Any]], *, spec: NetworkSpec, epochs: int,
    **options: Any,
) -> tuple[FusionTask, L.Trainer]:  # fmt: skip
    """Train for some epochs of these batches; options are those of the trainer's ``fit``."""
    task = task_of(strategy, spec=spec, steps=6)
    trainer = L.Trainer(
        max_epochs=epochs, accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False,
        enable_checkpointing=False, default_root_dir=folder,
    )  # fmt: skip
    loader = torch.utils.data.DataLoader(batches, batch_size=None)
    trainer.fit(task, loader, loader, **options)
    return task, trainer


def same_tensors(first: Mapping[str, torch.Tensor], second: Mapping[str, torch.Tensor]) -> bool:
    """Whether all of the first are in the second, to the bit."""
    return all(torch.equal(value, second[name]) for name, value in first.items())
