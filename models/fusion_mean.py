"""Masked mean: the fusion without parameters, and the masking that every other fusion shares with it."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class MaskedMeanFusion(nn.Module):
    """Weighted mean over modalities; a modality of weight 0 changes nothing downstream.

    ``mean = sum_m w_m f_m / sum_m w_m`` where ``sum_m w_m > 0``, else 0.

    Parameters
    ----------
    width
        Channels of the maps; taken, and not needed, because all fusions are built alike.
    modalities
        Their number; likewise.
    """

    def __init__(self, width: int = 0, *, modalities: int = 0) -> None:  # noqa: ARG002 (all fusions are built alike)
        super().__init__()

    def forward(self, maps: Sequence[Tensor], weights: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Fuse one scale.

        Parameters
        ----------
        maps
            Per modality (batch, channel, y, x), all of one shape; what lies where the weight is 0 is never read.
        weights
            Per modality float (batch, 1, y, x) in [0, 1]: availability times the valid share of the cell.

        Returns
        -------
        fused : Tensor
            (batch, channel, y, x); 0 where nothing was seen.
        total : Tensor
            (batch, 1, y, x): the sum of the weights; 0 where nothing was seen.
        """
        total = torch.stack(list(weights)).sum(dim=0)
        # Dividing the one-channel weights is cheaper than dividing the many-channel sum.
        scale = total.clamp_min(torch.finfo(total.dtype).tiny).reciprocal() * (total > 0)
        # What is nowhere present would add zeros: it is left out where looking is cheap and nothing is learned.
        pairs = [pair for pair in zip(maps, weights, strict=True) if not _known(pair[1] == 0)]
        if not pairs:
            return torch.zeros_like(maps[0]), total
        parts = [_times(seen(feature, weight), weight * scale) for feature, weight in pairs]
        fused = parts[0]
        for part in parts[1:]:
            fused = fused + part
        return fused, total


def seen(feature: Tensor, weight: Tensor) -> Tensor:
    """Return a map with zeros where its weight is 0: multiplying would let NaN and infinity through.

    Parameters
    ----------
    feature
        (batch, channel, y, x).
    weight
        (batch, 1, y, x) in [0, 1].

    Returns
    -------
    Tensor
        (batch, channel, y, x).
    """
    return feature if _known(weight > 0) else torch.where(weight > 0, feature, 0)


def _times(feature: Tensor, weight: Tensor) -> Tensor:
    return feature if _known(weight == 1) else feature * weight


def _known(condition: Tensor) -> bool:
    """Whether a condition holds everywhere; nobody looks in training, nor where a device would be waited for."""
    return condition.device.type == "cpu" and not torch.is_grad_enabled() and bool(condition.all())
