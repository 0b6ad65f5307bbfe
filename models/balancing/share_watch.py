"""Share watch: reliance and information over a validation epoch, on features that are there anyway."""

import torch
from torch import Tensor
from torchmetrics import Metric

from ..coalitions import coalitions, shapley_values
from ..exchanges import drawn_shifts, roll_derangement
from ..features import Features
from ..network import FusionUNet
from ..scores import brier_score

_LEAST = 1e-6

#: Rolls a batch and modality: the one label of a chip says less than the many of a patch, and its passes cost little.
_ROLLS_OF_CHIPS, _ROLLS_OF_PATCHES = 8, 2


class ShareWatch(Metric):
    """Bounded shares of a network over a stream of batches; sums are reduced over processes.

    ``share``: of permutation reliance, some roll derangements a batch and modality; ``information``: of the Shapley
    values of ``v(S) = b(none) - b(S)``, where "none" is the network's answer to nothing. Both by the Brier score.

    Parameters
    ----------
    modalities
        Names in the network's order.
    kinds
        What to measure; nothing is decoded for an empty set.
    seed
        Of the rolls.
    """

    full_state_update = False
    rises: Tensor
    pairs: Tensor
    values: Tensor
    samples: Tensor

    def __init__(self, modalities: tuple[str, ...], *, kinds: frozenset[str], seed: int) -> None:
        super().__init__()
        self.modalities, self.kinds, self.seed = modalities, kinds, seed
        count = len(modalities)
        for name, length in (("rises", count), ("pairs", count), ("values", 2**count), ("samples", 1)):
            if name != "values" or "information" in kinds:
                self.add_state(name, torch.zeros(length, dtype=torch.float64), dist_reduce_fx="sum")

    def update(
        self, network: FusionUNet, features: Features, *, available: Tensor, logits: Tensor, target: Tensor
    ) -> None:  # fmt: skip
        """Take in a batch: features, bool (batch, modality), its logits and target."""
        if "share" in self.kinds:
            self._exchange(network, features, available=available, base=brier_score(logits, target), target=target)
        if "information" in self.kinds:
            for number, subset in enumerate(coalitions(len(self.modalities)).to(available.device)):
                answer = network.decode(network.fuse(features, available & subset), size=features.size)
                self.values[number] -= brier_score(answer, target).nansum().double()

    def _exchange(
        self, network: FusionUNet, features: Features, *, available: Tensor, base: Tensor, target: Tensor
    ) -> None:  # fmt: skip
        self.samples += 1
        most = _ROLLS_OF_PATCHES if target.ndim > 1 else _ROLLS_OF_CHIPS
        for column, name in enumerate(self.modalities):
            holders = available[:, column].nonzero().flatten()
            # The same pairs for every modality: chance in the pairs is then no chance in the shares.
            generator = torch.Generator().manual_seed(self.seed + int(self.samples))
            for shift in drawn_shifts(len(holders), most, generator=generator):
                index = torch.arange(len(available), device=available.device)
                index[holders] = holders[roll_derangement(len(holders), shift).to(holders.device)]
                mixed = network.decode(network.fuse(features.rolled(name, index), available), size=features.size)
                found = (brier_score(mixed, target) - base)[holders]
                self.rises[column] += found.nansum().double()
                self.pairs[column] += found.isfinite().sum()

    def compute(self) -> dict[str, list[float]]:
        """Return for each kind one share a modality; a kind is left out where there is nothing to share."""
        found: dict[str, Tensor] = {}
        if "share" in self.kinds:
            found["share"] = self.rises / self.pairs.clamp_min(1)
        if "information" in self.kinds:
            found["information"] = shapley_values(self.values, members=len(self.modalities))
        return {name: shares for name, values in found.items() if (shares := _shares(values)) is not None}


def _shares(values: Tensor) -> list[float] | None:
    positive = values.clamp_min(0)
    total = float(positive.sum())
    return None if total < _LEAST else [float(value) for value in positive / total]
