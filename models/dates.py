"""DateEncoding: what the day of the year and the time gap of an image add to its features before they are fused."""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from .errors import require

_YEAR = 365.25
_HARMONICS = 2
_WIDTH = 32


def date_key(modality: str) -> str:
    """Return the key of a modality's dates in ``image``, beside that of its bands: float32 (batch, 4)."""
    return f"{modality}@date"


def unknown_dates(modalities: Sequence[str], *, like: Tensor) -> dict[str, Tensor]:
    """Return entries of ``image`` that say of no modality when it was taken, for as many samples as ``like`` has."""
    return {date_key(name): torch.zeros(len(like), 4, dtype=torch.float32, device=like.device) for name in modalities}


class DateEncoding(nn.Module):
    """Turns the date of one modality's image into a vector that is added to each of its feature maps.

    The day of the year enters as sines and cosines of one and two turns a year, as positions do in transformers
    (Vaswani et al., 2017), for networks that read several dates of a crop, as MMST-ViT (ICCV 2023) does;
    the signed gap to the day that is mapped as its sign times log(1 + days), so that a week and a month differ as much
    as a month and half a year, and in years. Adding the vector before fusion, at every scale, is ours: it works with
    every fusion, and under attention it is an embedding that all tokens of the modality share.

    The last layer begins at zero: a new network says the same with and without dates, to the bit. Where the date is not
    known nothing is added; where only the gap is not known, a flag says so.

    Parameters
    ----------
    widths
        Scale -> channels, as :attr:`NetworkSpec.widths <equipoise.models.spec.NetworkSpec.widths>`.
    """

    def __init__(self, widths: Mapping[int, int]) -> None:
        super().__init__()
        self.read = nn.Linear(2 * _HARMONICS + 3, _WIDTH)
        self.speak = nn.ModuleList(nn.Linear(_WIDTH, widths[scale]) for scale in sorted(widths))
        for layer in self.speak:
            for parameter in layer.parameters():
                nn.init.zeros_(parameter)

    def forward(self, maps: list[Tensor], date: Tensor, *, seen: Tensor) -> list[Tensor]:
        """Add what the date says.

        Parameters
        ----------
        maps
            Feature maps (batch, channel, y, x), fine to coarse.
        date
            float32 (batch, 4): date known (1 or 0), days since the turn of the year, reference's date known (1 or 0),
            days from the reference's time to the image's, negative where the image is older.
        seen
            bool (batch,): samples that have the modality; the maps of others stay as they are.

        Returns
        -------
        list of Tensor
            Maps of the same shapes.

        Raises
        ------
        ModelError
            ``date`` is of another shape.
        """
        wish = (len(seen), 4)
        require(tuple(date.shape) == wish, f"dates of shape {tuple(date.shape)}", f"{wish}", "give one row a sample")
        date = date.to(device=seen.device, dtype=torch.float32)
        hidden = nn.functional.silu(self.read(date_features(date)))
        speaks = (date[:, 0] > 0) & seen
        added = []
        for layer, values in zip(self.speak, maps, strict=True):
            vector = torch.where(speaks[:, None], layer(hidden), 0.0)
            added.append(values + vector[:, :, None, None].to(values.dtype))
        return added


def date_features(date: Tensor) -> Tensor:
    """Return float32 (batch, 7) of dates (batch, 4): sines, cosines, gap known, its logarithm, and it in years.

    Rows of unknown dates are zeros, and a gap that is not known is 0 whatever stands there.
    """
    known, both = (date[:, :1] > 0).float(), (date[:, 2:3] > 0).float()
    turns = 2 * math.pi * date[:, 1:2] / _YEAR * torch.arange(1, _HARMONICS + 1, device=date.device)
    gap = torch.where(both > 0, date[:, 3:], 0.0)
    slow = gap.sign() * gap.abs().log1p() / math.log1p(_YEAR)
    return known * torch.cat([turns.sin(), turns.cos(), both, slow, gap / _YEAR], dim=1)
