"""Fusions that project: concatenation with presence channels, and shared beside private projections."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .fusion_mean import MaskedMeanFusion, seen

#: Of two variances: channels that hardly vary correlate with nothing.
_LEAST_PRODUCT = 1e-12


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

    def overlap(self, maps: Sequence[Tensor], weights: Sequence[Tensor]) -> Tensor:
        """Return how much the shared and the private projections of a modality say the same.

        The mean square of the correlation coefficients, over cells by weight, between each channel of ``S(f_m)`` and
        each of ``P_m(f_m)``; then the mean over the modalities that are anywhere present. That the two factors should
        not overlap is the difference loss of domain separation networks (Bousmalis et al., NIPS 2016), there a squared
        Frobenius norm of products; correlations, which no scale can make small, are ours. It teaches the projections
        alone: what comes in is detached.

        Parameters
        ----------
        maps, weights
            As for :meth:`forward`.

        Returns
        -------
        Tensor
            float32 scalar in [0, 1]; 0 where nothing was seen.
        """
        found = []
        for project, feature, weight in zip(self.private, maps, weights, strict=True):
            known = seen(feature, weight).detach()
            found.append(_mean_square_correlation(self.shared(known), project(known), weight))
        there = torch.stack([(weight > 0).any() for weight in weights]).float()
        return (torch.stack(found) * there).sum() / there.sum().clamp_min(1)


def _mean_square_correlation(first: Tensor, second: Tensor, weight: Tensor) -> Tensor:
    """Return the mean of the squared correlations between channels of two (batch, channel, y, x), by weight."""
    share = weight.float().movedim(1, 0).flatten(1)
    share = share / share.sum().clamp_min(torch.finfo(share.dtype).tiny)
    one, other = (values.float().movedim(1, 0).flatten(1) for values in (first, second))
    one, other = (values - (values * share).sum(dim=1, keepdim=True) for values in (one, other))
    variances = [(values.square() * share).sum(dim=1) for values in (one, other)]
    # Not the root of a variance: its gradient has no bound near 0.
    product = (variances[0][:, None] * variances[1]).clamp_min(_LEAST_PRODUCT)
    return (((one * share) @ other.T).square() / product).mean()
