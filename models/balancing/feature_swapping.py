"""Feature swapping: two modalities of one sample trade their features, so that what they say lies in one space."""

from dataclasses import dataclass, replace
from itertools import combinations

import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import require
from ..features import Features
from .strategy import Strategy

#: Cells along the side of the grid from which parts of an image are drawn.
_CELLS = 4


@dataclass(frozen=True, kw_only=True)
class Swap:
    """What trades places.

    Attributes
    ----------
    first, second
        int64 (batch,): columns of the two modalities, ``first < second``; -1 where the sample stays as it is.
    masks
        Per scale bool (batch, channel, y, x): what moves where both modalities are valid.
    """

    first: Tensor
    second: Tensor
    masks: list[Tensor]

    @property
    def chosen(self) -> Tensor:
        """Samples in which something may trade places, bool (batch,)."""
        return self.first >= 0


class FeatureSwapping(Strategy):
    """For some samples, two present modalities trade features at random cells, or in random channels, of every scale.

    Yaras et al. (2024) swap features between the modalities of a pair to bring modalities that lie apart nearer to
    each other. Here the swap is hard and happens in encoded maps, the loss is the task's, and labels stay: ours. Half
    of the swaps take cells (of a grid of four by four, the same at all scales), half take channels, each a random share
    of them. Only cells that both modalities saw move; valid shares stay.

    A mean does not ask from which modality a summand comes. So that a swap says something there, too, the second of the
    two modalities is hidden in some of the swapped samples: what is left holds features of both (ours).

    Parameters
    ----------
    probability
        Share of the samples that are changed, 0 to 1; those with one modality stay.
    hidden
        Share of the changed samples, 0 to 1, in which the second modality is hidden after the swap.

    Raises
    ------
    ModelError
        A share is outside of 0 to 1.
    """

    # Early fusion keeps images, whose bands are not the same.
    needs_encoders = True

    def __init__(self, probability: float = 0.3, *, hidden: float = 0.5) -> None:
        super().__init__()
        for name, share in (("probability", probability), ("hidden", hidden)):
            require(0 <= share <= 1, f"{name} {share}", "a share of 0 to 1", "correct it")
        self.probability, self.hidden = probability, hidden

    def adapt(self, features: Features, *, modalities: tuple[str, ...]) -> Features:
        """Swap; see the class. Drawn from torch's own stream, which a training step seeds."""
        if len(modalities) < 2:
            return features
        draw = drawn(features, modalities, probability=self.probability)
        after = swapped(features, draw, modalities)
        hidden = draw.chosen & (torch.rand(features.batch) < self.hidden).to(features.device)
        shares = dict(after.shares)
        for column, name in enumerate(modalities):
            kept = ~(hidden & (draw.second == column))[:, None, None, None]
            shares[name] = [share * kept for share in shares[name]]
        earlier = draw.chosen if features.changed is None else features.changed | draw.chosen
        return replace(after, shares=shares, changed=earlier)


def drawn(features: Features, modalities: tuple[str, ...], *, probability: float) -> Swap:
    """Draw, for a share of the samples that have two modalities, which two trade what.

    Parameters
    ----------
    features
        Of the batch; their valid shares say what is present.
    modalities
        The network's, in order; at least two.
    probability
        Share of the samples, 0 to 1.

    Returns
    -------
    Swap
        On the device of the features.
    """
    batch, device = features.batch, features.device
    present = torch.stack([(features.shares[name][-1] > 0).flatten(1).any(dim=1) for name in modalities], dim=1)
    order = torch.rand(batch, len(modalities)).to(device).masked_fill(~present, -1.0)
    first, second = order.topk(2, dim=1).indices.sort(dim=1).values.T
    stays = (torch.rand(batch).to(device) >= probability) | (present.sum(dim=1) < 2)
    cover, by_cells = torch.rand(batch, 1, 1, 1), torch.rand(batch, 1, 1, 1) < 0.5
    grid = (torch.rand(batch, 1, _CELLS, _CELLS) < cover).float()
    masks = []
    for feature in features.maps[modalities[0]]:
        cells = F.interpolate(grid, size=feature.shape[-2:], mode="nearest") > 0
        channels = torch.rand(batch, feature.shape[1], 1, 1) < cover
        masks.append(torch.where(by_cells, cells, channels).to(device))
    return Swap(first=first.masked_fill(stays, -1), second=second.masked_fill(stays, -1), masks=masks)


def swapped(features: Features, draw: Swap, modalities: tuple[str, ...]) -> Features:
    """Return the features after a swap; the same swap again gives back what was there, to the bit.

    Parameters
    ----------
    features
        Of the batch.
    draw
        What trades places.
    modalities
        The network's, in order.

    Returns
    -------
    Features
        New maps; valid shares and ``changed`` stay.
    """
    maps = {name: list(features.maps[name]) for name in features.maps}
    for (i, one), (j, other) in combinations(enumerate(modalities), 2):
        rows = ((draw.first == i) & (draw.second == j)).nonzero().flatten()
        for level, mask in enumerate(draw.masks) if len(rows) else ():
            both = (features.shares[one][level][rows] > 0) & (features.shares[other][level][rows] > 0)
            moves = mask[rows] & both
            a, b = maps[one][level][rows], maps[other][level][rows]
            maps[one][level] = maps[one][level].index_copy(0, rows, torch.where(moves, b, a))
            maps[other][level] = maps[other][level].index_copy(0, rows, torch.where(moves, a, b))
    return replace(features, maps=maps)
