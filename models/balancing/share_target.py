"""Share targets: which shares of reliance are allowed, and the nearest allowed ones to those that are."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from ..errors import require

#: A point, a range (lowest, highest), or None for a modality whose share is free.
Wish = float | tuple[float, float] | None

_BISECTIONS = 60


@dataclass(frozen=True, kw_only=True)
class ShareTarget:
    """The allowed share of each modality.

    Attributes
    ----------
    low, high
        Per modality, in the network's order; 0 and 1 where it is free.

    Raises
    ------
    ModelError
        No shares that sum to 1 lie within.
    """

    low: tuple[float, ...]
    high: tuple[float, ...]

    def __post_init__(self) -> None:
        within = all(0 <= low <= high <= 1 for low, high in zip(self.low, self.high, strict=True))
        require(within, f"share targets from {self.low} to {self.high}", "0 <= lowest <= highest <= 1", "correct them")
        possible = sum(self.low) <= 1 + 1e-9 and sum(self.high) >= 1 - 1e-9
        require(
            possible, f"share targets from {self.low} to {self.high}, sums {sum(self.low):g} and {sum(self.high):g}",
            "targets that shares with sum 1 can meet", "widen a range or leave a modality free",
        )  # fmt: skip

    @classmethod
    def of(cls, wishes: Mapping[str, Wish], modalities: Sequence[str], *, tolerance: float) -> Self:
        """Read targets by name; a point becomes a range of ``tolerance`` around it.

        Parameters
        ----------
        wishes
            Modality -> point, range or None; a modality that is not named is free.
        modalities
            Names in order.
        tolerance
            Half the width that a point is given, at least 0.

        Raises
        ------
        ModelError
            A name is unknown, or the targets contradict each other.
        """
        unknown = [name for name in wishes if name not in modalities]
        require(
            not unknown, f"a share target for {', '.join(map(repr, unknown))}", f"names among {tuple(modalities)}",
            "correct it",
        )  # fmt: skip
        low, high = [], []
        for name in modalities:
            wish = wishes.get(name)
            if wish is None:
                first, last = 0.0, 1.0
            elif isinstance(wish, tuple):
                first, last = wish
            else:
                first, last = max(0.0, wish - tolerance), min(1.0, wish + tolerance)
            low.append(first)
            high.append(last)
        return cls(low=tuple(low), high=tuple(high))

    def nearest(self, shares: Tensor) -> Tensor:
        """Return the allowed shares that are nearest to given ones.

        The Euclidean projection on ``{sum x = 1, low <= x <= high}`` is ``clip(shares - c, low, high)`` for the one
        ``c`` with which it sums to 1, found by bisection.

        Parameters
        ----------
        shares
            float (..., modality), sums to 1.

        Returns
        -------
        Tensor
            float64 (..., modality).
        """
        shares = shares.double()
        low, high = (torch.tensor(values, dtype=torch.float64) for values in (self.low, self.high))
        low, high = low.to(shares.device), high.to(shares.device)
        below = (shares - high).amin(dim=-1, keepdim=True)
        above = (shares - low).amax(dim=-1, keepdim=True)
        for _ in range(_BISECTIONS):
            middle = (below + above) / 2
            too_much = (shares - middle).clamp(low, high).sum(dim=-1, keepdim=True) > 1
            below, above = torch.where(too_much, middle, below), torch.where(too_much, above, middle)
        return (shares - (below + above) / 2).clamp(low, high)

    def miss(self, shares: Sequence[float]) -> float:
        """Return the largest distance of a share from its allowed range, 0 where all are inside."""
        gaps = (max(low - share, share - high) for low, high, share in zip(self.low, self.high, shares, strict=True))
        return max(0.0, *gaps)
