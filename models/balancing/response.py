"""Response: where a sensor tells nothing of a place, the network shall not rely on it, whatever the reason."""

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from ..features import Features
from .strategy import Strategy

#: Cells along the side of the grid from which parts of an image are drawn.
_CELLS = 4


class Response(Strategy):
    """For some samples one modality is replaced by what tells nothing of them, on encoded features.

    What takes its place is what the modality said of another sample, or, for half of them, its own features scaled down
    by a random factor under a random offset that is the same everywhere, of about the spread of the features (times a
    log-normal factor). Half of the replacements cover all of the image, half a random part of it. There the modality
    informs of nothing, its matched share is 0, and the task loss teaches the network to answer so: to notice what does
    not fit the other modalities or is unlike anything seen, and to let no modality outvote all others. It needs no
    model of how a sensor fails, and costs no further pass.

    The exchange is that of permutation reliance (Singh et al., IEEE CAI 2023), here as an augmentation.

    Parameters
    ----------
    probability
        Share of the samples that are changed, 0 to 1.
    """

    def __init__(self, probability: float = 0.4) -> None:
        super().__init__()
        self.probability = probability

    def adapt(self, features: Features, *, modalities: tuple[str, ...]) -> Features:
        """Replace; see the class. Drawn from torch's own stream, which a training step seeds."""
        batch, device = features.batch, features.device
        chosen = torch.randint(len(modalities), (batch,))
        chosen[torch.rand(batch) >= self.probability] = -1
        if len(modalities) < 2 or batch < 2:
            return features
        maps, shares = dict(features.maps), dict(features.shares)
        for column, name in enumerate(modalities):
            rows = (chosen == column).nonzero().flatten().to(device)
            if len(rows) > 0:
                donors = (rows + 1 + torch.randint(batch - 1, (len(rows),)).to(device)) % batch
                part, drifts = _parts(len(rows)).to(device), torch.rand(len(rows)).to(device) < 0.5
                maps[name] = [_replaced(value, rows, donors, part=part, drifts=drifts) for value in maps[name]]
                nowhere = torch.zeros_like(drifts)
                kept = part * ~drifts[:, None, None, None]  # an offset changes no validity
                shares[name] = [_replaced(value, rows, donors, part=kept, drifts=nowhere) for value in shares[name]]
        return replace(features, maps=maps, shares=shares, changed=(chosen >= 0).to(device))


def _parts(count: int) -> Tensor:
    """Draw what is covered: all, or cells of a random share; float (n, 1, cells, cells) of 0 and 1."""
    cover = torch.rand(count, 1, 1, 1)
    cells = torch.rand(count, 1, _CELLS, _CELLS) < cover
    return (cells | (torch.rand(count, 1, 1, 1) < 0.5)).float()


def _replaced(value: Tensor, rows: Tensor, donors: Tensor, *, part: Tensor, drifts: Tensor) -> Tensor:
    """Return a map (batch, channel, y, x) with the parts of some rows replaced."""
    own, count = value[rows], len(rows)
    strength = value.detach().std() * torch.randn(count, 1, 1, 1).exp().to(value)
    offset = strength * torch.randn(count, value.shape[1], 1, 1).to(value)
    drifted = own * torch.rand(count, 1, 1, 1).to(value) + offset
    foreign = torch.where(drifts[:, None, None, None], drifted, value[donors])
    covered = F.interpolate(part, size=value.shape[-2:], mode="nearest") > 0
    return value.index_copy(0, rows, torch.where(covered, foreign, own))
