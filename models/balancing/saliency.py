"""Saliency in training: where in each modality's features the answer comes from."""

import torch
from torch import Tensor

from ..losses import IGNORE
from .strategy import Step


def feature_saliency(step: Step) -> list[Tensor | None]:
    """Return how much each cell of the coarsest features moves the answers, without gradient.

    Gradient times feature (Shrikumar et al., 2016) of the log probability of the true class, or of the predicted one
    where there is no label, summed over channels, as an absolute value.

    Parameters
    ----------
    step
        Whose logits still have the history that leads to its features.

    Returns
    -------
    list
        Per modality, in the network's order, float32 (batch, y, x) of 0 or more; None where nothing leads from a
        modality's features to the answers.
    """
    maps = [step.features.maps[name][-1] for name in step.network.modalities]
    known = [number for number, value in enumerate(maps) if value.requires_grad]
    found: list[Tensor | None] = [None] * len(maps)
    if not known or not step.logits.requires_grad:
        return found
    log_probability = step.logits.float().log_softmax(dim=1)
    named = torch.where(step.target == IGNORE, step.logits.argmax(dim=1), step.target)
    score = log_probability.gather(1, named[:, None]).sum()
    gradients = torch.autograd.grad(score, [maps[number] for number in known], retain_graph=True, allow_unused=True)
    for number, gradient in zip(known, gradients, strict=True):
        if gradient is not None:
            found[number] = (gradient * maps[number]).detach().float().sum(dim=1).abs()
    return found


def most_salient(saliency: Tensor, seen: Tensor, *, fraction: float) -> Tensor:
    """Return which cells of each sample are among its most salient ones.

    Parameters
    ----------
    saliency
        float (batch, y, x).
    seen
        bool (batch, y, x): cells that count; others are never chosen.
    fraction
        Share of the cells that count, 0 to 1.

    Returns
    -------
    Tensor
        bool (batch, y, x): ``round(fraction * n)`` cells of a sample with n that count; of equal ones the first.
    """
    flat = torch.where(seen, saliency, -torch.inf).flatten(1)
    wanted = (fraction * seen.flatten(1).sum(dim=1)).round()
    rank = flat.argsort(dim=1, descending=True, stable=True).argsort(dim=1, stable=True)
    return (rank < wanted[:, None]).reshape(seen.shape) & seen
