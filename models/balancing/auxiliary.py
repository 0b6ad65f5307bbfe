"""Auxiliary predictions: each modality alone through the shared decoder, each coarser scale through its head."""

import torch
from torch import Tensor

from ..errors import require
from .exchange import kept_statistics
from .strategy import Step, Strategy
from .unimodal import unimodal_losses


class Auxiliary(Strategy):
    """Let every modality, and every coarser scale, answer for itself in training.

    ``loss + unimodal sum_m L(decode(only m)) + deep sum_s L(side_s)``, after mmFormer (Zhang et al., MICCAI 2022),
    whose weights are 1. A modality answers for the samples in which the network saw it. No pass but the main one
    enters the running statistics of batch normalisation.

    Parameters
    ----------
    unimodal
        Weight of each modality's own loss, 0 or more; 0 runs no such pass.
    deep
        Weight of the loss of each side head, 0 or more; without effect where ``spec.deep_supervision`` is off.

    Raises
    ------
    ModelError
        A weight is negative.
    """

    def __init__(self, *, unimodal: float = 1.0, deep: float = 1.0) -> None:
        super().__init__()
        for name, weight in (("unimodal", unimodal), ("deep", deep)):
            require(0 <= weight < float("inf"), f"{name} weight {weight}", "a finite number of 0 or more", "correct it")
        self.unimodal, self.deep = unimodal, deep

    def loss(self, step: Step, loss: Tensor) -> Tensor:
        """Add the auxiliary losses."""
        if self.unimodal > 0:
            loss = loss + self.unimodal * sum(own for _, own in unimodal_losses(step))
        if self.deep > 0 and step.network.spec.deep_supervision:
            loss = loss + self.deep * deep_loss(step)
        return loss


def deep_loss(step: Step) -> Tensor:
    """Return the sum, over the coarser scales, of the task loss of their side heads.

    Parameters
    ----------
    step
        Where the main pass has got to.

    Returns
    -------
    Tensor
        Scalar, 0 where the network has no side heads.
    """
    with kept_statistics(step.network):
        fused = step.network.fuse(step.features, step.available)
        answers = step.network.side_logits(fused, size=step.features.size)
    losses = [step.criterion(logits, step.target) for logits in answers]
    return torch.stack(losses).sum() if losses else step.logits.new_zeros(())
