"""Fusion: join the features of the modalities that are present, one scale at a time."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class MaskedMeanFusion(nn.Module):
    """Weighted mean over modalities; a modality of weight 0 changes nothing downstream.

    ``mean = sum_m w_m f_m / sum_m w_m`` where ``sum_m w_m > 0``, else 0.
    """

    def forward(self, maps: Sequence[Tensor], weights: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Fuse one scale.

        Parameters
        ----------
        maps
            Per modality (batch, channel, y, x), all of one shape.
        weights
            Per modality float (batch, 1, y, x) in [0, 1]: availability times the valid share of the cell.

        Returns
        -------
        fused : Tensor
            (batch, channel, y, x).
        total : Tensor
            (batch, 1, y, x): the sum of the weights; 0 where nothing was seen.
        """
        total = torch.stack(list(weights)).sum(dim=0)
        # Dividing the one-channel weights is cheaper than dividing the many-channel sum.
        scale = total.clamp_min(torch.finfo(total.dtype).tiny).reciprocal() * (total > 0)
        fused = maps[0] * (weights[0] * scale)
        for feature, weight in zip(maps[1:], weights[1:], strict=True):
            fused = fused + feature * (weight * scale)
        return fused, total


FUSIONS: dict[str, type[nn.Module]] = {"mean": MaskedMeanFusion}
