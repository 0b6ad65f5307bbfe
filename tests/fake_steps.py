"""One step of a training on invented patches, for strategies that are looked at by themselves."""

import torch

from equipoise.models.balancing.strategy import Step
from equipoise.models.losses import ClassificationLoss, SegmentationLoss
from equipoise.models.network import NetworkSpec

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
