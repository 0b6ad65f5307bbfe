"""Surrogate: features for a modality that is absent, predicted from those present at the same place."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .fusion_mean import MaskedMeanFusion
from .norm import ChannelNorm

#: Logit at which confidences begin: .12.
_BEGINNING = -2.0


@dataclass(frozen=True, kw_only=True)
class ShownScale:
    """What one scale gives to fusion.

    Attributes
    ----------
    maps
        Per modality (batch, channel, y, x): its features, or what stands for them.
    weights
        Per modality float (batch, 1, y, x) in [0, 1].
    total
        (batch, 1, y, x): the sum of the weights of what was really seen; None where that is the sum of ``weights``.
    """

    maps: list[Tensor]
    weights: list[Tensor]
    total: Tensor | None = None


class SurrogateFeatures(nn.Module):
    """Fill in, at one scale, the cells in which a modality is absent and another is present.

    For each modality a predictor of two 1x1 convolutions reads the masked mean of the features present and their
    weights, and says what the absent one would show and how much that shall count, c in (0, 1). Of n absent modalities
    each gets the weight ``c w / n``, with w the largest weight present: all surrogates together weigh no more than the
    strongest of what was seen. c begins at .12. A cell of which nothing was seen stays so.

    Absent features are never read, so that the answer from a subset is one from that subset alone. Inference of a
    missing modality in latent space is that of MFM (Tsai et al., ICLR 2019), there by a generative model; the form of
    the predictor and the confidence are ours.

    Parameters
    ----------
    width
        Channels of the maps.
    modalities
        Their number.
    """

    def __init__(self, width: int, *, modalities: int) -> None:
        super().__init__()
        self.mean = MaskedMeanFusion()
        self.predictors = nn.ModuleList(FeaturePredictor(width, modalities=modalities) for _ in range(modalities))

    def forward(self, maps: Sequence[Tensor], weights: Sequence[Tensor]) -> ShownScale:
        """Complete one scale.

        Parameters
        ----------
        maps, weights
            As for :meth:`~equipoise.models.fusion_mean.MaskedMeanFusion.forward`.

        Returns
        -------
        ShownScale
            Where a modality was seen, its features and weight are as given.
        """
        # What nothing is missing from needs no mean, either.
        if _nowhere(torch.stack(list(weights)) <= 0):
            return ShownScale(maps=list(maps), weights=list(weights))
        mean, total = self.mean(maps, weights)
        absent = [(weight <= 0) & (total > 0) for weight in weights]
        most = torch.stack(list(weights)).amax(dim=0) / torch.stack(absent).sum(dim=0).clamp_min(1)
        inputs = torch.cat([mean, *weights], dim=1)
        shown = ShownScale(maps=list(maps), weights=list(weights), total=total)
        for column, (predict, missing) in enumerate(zip(self.predictors, absent, strict=True)):
            if _nowhere(missing):
                continue
            predicted, confidence = predict(inputs)
            shown.maps[column] = torch.where(missing, predicted.to(maps[column].dtype), maps[column])
            shown.weights[column] = torch.where(missing, confidence.to(most.dtype) * most, weights[column])
        return shown


class FeaturePredictor(nn.Module):
    """Two 1x1 convolutions with layer normalisation between them: features of one modality, and a confidence.

    Parameters
    ----------
    width
        Channels of the features.
    modalities
        Their number: one channel of presence each.
    """

    def __init__(self, width: int, *, modalities: int) -> None:
        super().__init__()
        self.hidden = nn.Sequential(nn.Conv2d(width + modalities, width, 1), ChannelNorm(width), nn.ReLU())
        self.features = nn.Conv2d(width, width, 1)
        self.confidence = nn.Conv2d(width, 1, 1)
        nn.init.zeros_(self.confidence.weight)
        if self.confidence.bias is not None:  # never so; the type allows it
            nn.init.constant_(self.confidence.bias, _BEGINNING)

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Return features (batch, width, y, x) and confidence (batch, 1, y, x) in (0, 1)."""
        hidden = self.hidden(inputs)
        return self.features(hidden), self.confidence(hidden).sigmoid()


def _nowhere(condition: Tensor) -> bool:
    """Whether a condition holds nowhere; nobody looks where a device would be waited for, nor while a graph is made."""
    looks = condition.device.type == "cpu" and not torch.compiler.is_compiling()
    return looks and not bool(condition.any())
