"""Fusions that project: concatenation with presence channels, and shared beside private projections."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .fusion_mean import MaskedMeanFusion, seen


class ConcatFusion(nn.Module):
    """One 1x1 convolution over all masked maps and one presence channel per modality.

    ``fused = W [w_1 f_1, ..., w_M f_M, w_1, ..., w_M]``. It has no bias: the presence channels carry one per
    modality, so that a cell that nothing was seen of is 0.

    Parameters
    ----------
    width
        Channels of the maps.
    modalities
        Their number.
    """

    def __init__(self, width: int, *, modalities: int) -> None:
        super().__init__()
        self.projection = nn.Conv2d(modalities * (width + 1), width, 1, bias=False)

    def forward(self, maps: Sequence[Tensor], weights: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Fuse one scale, as :meth:`~equipoise.models.fusion_mean.MaskedMeanFusion.forward` does."""
        masked = [seen(feature, weight) * weight for feature, weight in zip(maps, weights, strict=True)]
        return self.projection(torch.cat([*masked, *weights], dim=1)), torch.stack(list(weights)).sum(dim=0)


class SharedPrivateFusion(nn.Module):
    """A shared projection, averaged over the modalities present, plus each present modality's private one.

    ``fused = mean_m S(f_m) + sum_m w_m P_m(f_m)``. What any modality can say goes through ``S`` and keeps its scale
    however many are present; what one alone can say goes through ``P_m`` and is 0 where that modality is absent.
    The split into shared and private factors is that of MFM (Tsai et al., ICLR 2019); its generative decoders and
    its inference of missing factors are not part of this layer.

    Parameters
    ----------
    width
        Channels of the maps.
    modalities
        Their number.
    """

    def __init__(self, width: int, *, modalities: int) -> None:
        super().__init__()
        self.shared = nn.Conv2d(width, width, 1)
        self.private = nn.ModuleList(nn.Conv2d(width, width, 1) for _ in range(modalities))
        self.mean = MaskedMeanFusion()

    def forward(self, maps: Sequence[Tensor], weights: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Fuse one scale, as :meth:`~equipoise.models.fusion_mean.MaskedMeanFusion.forward` does."""
        features = [seen(feature, weight) for feature, weight in zip(maps, weights, strict=True)]
        mean, total = self.mean(features, weights)
        # A projection of the mean is the mean of the projections, at the price of one.
        fused = self.shared(mean) * (total > 0)
        for project, feature, weight in zip(self.private, features, weights, strict=True):
            fused = fused + project(feature) * weight
        return fused, total
