"""Utilization training as published: one focus modality, cross entropy, a weight that grows; a reconstruction."""

import math

import torch
from torch import Tensor

from ..errors import require
from ..scores import cross_entropy_score
from .exchange import kept_statistics
from .share_target import ShareTarget
from .strategy import Step, Strategy


class MuLegacy(Strategy):
    """``L_task + lambda(t) |MU_f - target|`` after Singh et al. (Sensors 2024, 24(18), 6054).

    ``MU_f = (L_f - L) / sum_i (L_i - L)`` by cross entropy on the batch, with gradients through all passes, and
    ``lambda(t) = min(most, a exp(b t))``. The publication leaves open whether the distance is absolute or squared, and
    the constants: this is a reconstruction. It belongs behind
    :class:`~equipoise.models.balancing.frozen_head.FrozenHead`, and does nothing before ``start``.

    Parameters
    ----------
    target
        One modality with a narrow range is the focus, and the middle of the range the target; the others must be free.
    start
        Share of the training after which the weight begins to grow.
    most, first, growth
        Of the weight: its limit, ``a``, and ``b`` with ``t`` running from 0 to 1 over the rest of the training.
    """

    def __init__(
        self, target: ShareTarget, *, start: float = 0.5, most: float = 1.0, first: float = 0.01, growth: float = 10.0
    ) -> None:
        super().__init__()
        bound = [m for m, pair in enumerate(zip(target.low, target.high, strict=True)) if pair != (0.0, 1.0)]
        require(
            len(bound) == 1, f"share targets for {len(bound)} modalities", "one for `mu_legacy`, which has one focus",
            "leave the others free, or use `mu_bounded`",
        )  # fmt: skip
        self.focus = bound[0]
        self.wanted = (target.low[self.focus] + target.high[self.focus]) / 2
        self.start, self.most, self.first, self.growth = start, most, first, growth
        self.share = math.nan

    def loss(self, step: Step, loss: Tensor) -> Tensor:
        """Add the weighted distance."""
        if step.progress < self.start or len(step.target) < 2:
            return loss
        base = cross_entropy_score(step.logits.float(), step.target).nanmean()
        rises = torch.stack([self._permuted(step, m) - base for m in range(step.available.shape[1])])
        total = rises.sum()
        if not bool(total.detach() > torch.finfo(total.dtype).eps):
            return loss
        share = rises[self.focus] / total
        self.share = float(share.detach())
        time = (step.progress - self.start) / max(1e-9, 1 - self.start)
        return loss + min(self.most, self.first * math.exp(self.growth * time)) * (share - self.wanted).abs()

    def _permuted(self, step: Step, column: int) -> Tensor:
        """Cross entropy with one modality permuted over the whole batch, at random, as published."""
        order = torch.randperm(len(step.target), generator=step.generator, device=step.generator.device)
        features = step.features.rolled(step.network.modalities[column], order.to(step.target.device))
        with kept_statistics(step.network):
            mixed = step.decode(step.available, features=features).float()
        return cross_entropy_score(mixed, step.target).nanmean()

    def figures(self) -> dict[str, float]:
        """Return the focus modality's share in the last batch."""
        return {} if math.isnan(self.share) else {"legacy_share": self.share}
