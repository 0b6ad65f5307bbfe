"""Latent surrogate: a network that guesses the features of an absent modality learns to guess well."""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor

from ..errors import require
from ..evaluation import present
from ..features import Features
from ..fusion_mean import seen
from ..fusion_projected import SharedPrivateFusion
from ..network import FusionUNet
from ..scores import full_precision
from ..surrogate import ShownScale
from ..three_steps import ThreeSteps
from .exchange import kept_statistics
from .strategy import Step, Strategy
from .subset_sampling import SubsetSampling


class LatentSurrogate(Strategy):
    """Hide some modalities of each sample, predict their features from the others, and answer with the prediction.

    With task loss ``L`` and a random subset ``S`` of what is present, ``A``::

        loss = (1 - likeness) (L(A) + partial L(S, others predicted)) + likeness D + difference O

    ``D`` is the mean square of predicted minus real features, which are constants here, over the valid cells of the
    samples that really have a hidden modality; each scale counts alike. ``O`` is the overlap of shared and private
    projections at the coarsest scale, and 0 for any other fusion.

    Surrogate inference in latent space, and factors shared and private, are those of MFM (Tsai et al., ICLR 2019); the
    weights .99 and .01 those of Hafner & Ban (2023), who regress optical features from radar. Ours: several modalities
    and scales, the masks, the loss of the answer itself with the prediction, and the form of ``O``
    (:meth:`~equipoise.models.fusion_projected.SharedPrivateFusion.overlap`). Pixels are not reconstructed.

    Experimental.

    Parameters
    ----------
    partial
        Weight of the loss of the subset, 0 or more.
    likeness
        Weight of ``D``, 0 to 1.
    difference
        Weight of ``O``, 0 or more.

    Raises
    ------
    ModelError
        A setting is out of range.
    """

    def __init__(self, *, partial: float = 1.0, likeness: float = 0.01, difference: float = 0.01) -> None:
        super().__init__()
        for name, value in (("partial", partial), ("difference", difference)):
            require(0 <= value < float("inf"), f"{name} {value}", "0 or more", "correct it")
        require(0 <= likeness <= 1, f"likeness {likeness}", "0 to 1", "correct it")
        self.partial, self.likeness, self.difference = partial, likeness, difference
        self.subsets = SubsetSampling()

    def attach(self, network: ThreeSteps) -> None:
        """Look whether the network can guess.

        Raises
        ------
        ModelError
            It has no surrogates.
        """
        require(
            network.spec.surrogate, f"strategy latent_surrogate for kind {network.kind!r} without surrogate",
            "a network of kind 'fusion' with surrogate: true", "set it (train.surrogate), or choose another strategy",
        )  # fmt: skip

    def loss(self, step: Step, loss: Tensor) -> Tensor:
        """Return the sum that the class describes."""
        network = cast("FusionUNet", step.network)  # a network without surrogates was refused
        shown = present(step.features, step.available, modalities=network.modalities)
        drawn = self.subsets.available(shown, generator=step.generator)
        rows = (shown & ~drawn).any(dim=1).nonzero().flatten()
        if len(rows) > 0 and (self.partial > 0 or self.likeness > 0):
            loss = self._with_guesses(step, loss, rows, drawn=drawn[rows], hidden=(shown & ~drawn)[rows])
        elif self.likeness > 0:
            loss = (1 - self.likeness) * loss
        if self.difference > 0 and isinstance(network.fusion[-1], SharedPrivateFusion):
            loss = loss + self.difference * _overlap(network, step.features, step.available)
        return loss

    def _with_guesses(self, step: Step, loss: Tensor, rows: Tensor, *, drawn: Tensor, hidden: Tensor) -> Tensor:
        """Add what is said with predicted features, and how far they are from the real ones."""
        network, features = cast("FusionUNet", step.network), step.features.of(rows)
        # No pass but the main one enters the running statistics of batch normalisation.
        with kept_statistics(network):
            scales = network.shown(features, drawn)
            if self.partial > 0:
                logits = full_precision(network.decode(network.join(scales), size=features.size))
                loss = loss + self.partial * step.criterion(logits, step.target[rows])
        if self.likeness == 0:
            return loss
        distance = guess_distance(scales, features, hidden=hidden, modalities=network.modalities)
        return (1 - self.likeness) * loss + self.likeness * distance


def guess_distance(
    scales: Sequence[ShownScale], features: Features, *, hidden: Tensor, modalities: Sequence[str]
) -> Tensor:
    """Return the mean square difference of predicted and real features.

    Parameters
    ----------
    scales
        With predictions in the place of what was hidden.
    features
        The real ones; they get no gradient.
    hidden
        bool (batch, modality): what was there and hidden.
    modalities
        Names of the columns.

    Returns
    -------
    Tensor
        float32 scalar: the mean over channels, over cells by their valid share, and over scales. Cells of which nothing
        else was seen do not count.
    """
    found = []
    for level, scale in enumerate(scales):
        if scale.total is None:  # nothing was guessed
            continue
        squares, total = scale.total.new_zeros(()), scale.total.new_zeros(())
        for column, name in enumerate(modalities):
            asked = hidden[:, column, None, None, None].to(scale.total.device) & (scale.total > 0)
            weight = features.shares[name][level] * asked
            # What is not valid is not even multiplied by 0: it may be no number.
            real, guess = (seen(m, weight).float() for m in (features.maps[name][level].detach(), scale.maps[column]))
            squares = squares + ((guess - real).square().mean(dim=1, keepdim=True) * weight).sum()
            total = total + weight.sum()
        found.append(squares / total.clamp_min(torch.finfo(total.dtype).tiny))
    return torch.stack(found).mean() if found else torch.zeros((), device=features.device)


def _overlap(network: FusionUNet, features: Features, available: Tensor) -> Tensor:
    maps = [features.maps[name][-1] for name in network.modalities]
    weights = [
        features.shares[name][-1] * available[:, column, None, None, None].to(features.device)
        for column, name in enumerate(network.modalities)
    ]
    return cast("SharedPrivateFusion", network.fusion[-1]).overlap(maps, weights)
