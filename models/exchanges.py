"""Exchanges: give samples one modality of other samples, and see what it does to their scores."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch
from torch import Tensor

from .errors import require
from .evaluation import Batch, Observed, ThreeStepNetwork, encoded, evaluating, joined, observed

Level = Literal["feature", "input"]

#: ``rate(logits) -> (batch, column)``: what is followed under the exchange, one or several numbers a sample.
Rate = Callable[[Tensor], Tensor]

#: ``yardstick(batch, inputs, logits) -> rate``: made once a batch, from its labels or from its plain prediction.
Yardstick = Callable[[Batch, Observed, Tensor], Rate]


@dataclass(frozen=True, kw_only=True)
class Exchanges:
    """Every single exchange: who received one modality of whom, and what it cost.

    Attributes
    ----------
    base
        float64 (sample, column): what the yardstick read on the samples as they are; NaN where undefined.
    modality
        int64 (exchange,): column of ``available`` that moved.
    receiver, donor
        int64 (exchange,): sample numbers, never equal.
    rise
        float64 (exchange, column): reading of the receiver under the exchange minus its ``base``.
    """

    base: Tensor
    modality: Tensor
    receiver: Tensor
    donor: Tensor
    rise: Tensor

    def columns(self, first: int, last: int) -> "Exchanges":
        """Return the readings of the columns from ``first`` up to, not including, ``last``."""
        return replace(self, base=self.base[:, first:last], rise=self.rise[:, first:last])

    def mean_by(self, sample: Tensor, values: Tensor, *, modality: int) -> Tensor:
        """Average over the exchanges that one modality of a sample took part in.

        Parameters
        ----------
        sample
            ``self.receiver`` or ``self.donor``: in which part.
        values
            float64 (exchange, column), NaN to leave out.
        modality
            The one that moved.

        Returns
        -------
        Tensor
            float64 (sample, column); NaN for a sample without a defined exchange.
        """
        chosen = self.modality == modality
        rows, values = sample[chosen], values[chosen]
        defined = values.isfinite().to(values.dtype)
        empty = values.new_zeros(len(self.base), values.shape[1])
        return empty.index_add(0, rows, values.nan_to_num()) / empty.index_add(0, rows, defined)


def roll_derangement(batch: int, shift: int) -> Tensor:
    """Return the cyclic permutation that moves no sample onto itself.

    Parameters
    ----------
    batch
        Number of samples, at least 2.
    shift
        How far to roll; no multiple of ``batch``.

    Returns
    -------
    Tensor
        int64 (batch,): sample ``b`` receives from sample ``(b + shift) % batch``.

    Raises
    ------
    ModelError
        The batch holds fewer than 2 samples, or the shift is a multiple of its size.
    """
    require(batch >= 2, f"a batch of {batch}", "2 or more samples to exchange", "use a larger batch size")
    require(shift % batch != 0, f"shift {shift} for a batch of {batch}", "no multiple of the batch", "choose another")
    return (torch.arange(batch) + shift) % batch


def drawn_shifts(batch: int, count: int, *, generator: torch.Generator) -> list[int]:
    """Draw different shifts for :func:`roll_derangement`, ``batch - 1`` at most; none for fewer than two samples."""
    return (torch.randperm(max(0, batch - 1), generator=generator)[:count] + 1).tolist()


@torch.no_grad()
def exchanged(
    network: ThreeStepNetwork,
    batches: Iterable[Batch],
    *,
    yardstick: Yardstick,
    level: Level = "feature",
    rolls: int,
    generator: torch.Generator,
) -> Exchanges:
    """Exchange each modality in turn among the samples of a batch that have it.

    Rolls stay within a batch, so that results depend on how samples are grouped: pairs of one batch are the sample
    that the expectation over all pairs is estimated from.

    Parameters
    ----------
    network
        Put into evaluation mode and back.
    batches
        As in :func:`~equipoise.models.utilization.permutation_reliance`.
    yardstick
        What is read off the logits.
    level
        ``"feature"`` moves encoded features and runs encoders once. ``"input"`` moves images and valid masks and
        encodes again, which differs only for networks whose encoders see several modalities at once.
    rolls
        Number of different derangements per batch and modality, at least 1; a batch of n samples has n - 1.
    generator
        Source of the rolls.

    Returns
    -------
    Exchanges
        On the CPU; samples numbered in the order of the batches.

    Raises
    ------
    ModelError
        There is no batch, only one sample in all, or an option is out of range.
    """
    require(rolls >= 1, f"{rolls} rolls", "at least 1", "correct it")
    require(level in get_args(Level), f"level {level!r}", f"one of {get_args(Level)}", "correct the name")
    parts: list[Exchanges] = []
    first = 0
    with evaluating(network):
        for batch in joined(batches):
            part = _of_batch(network, batch, yardstick, level=level, rolls=rolls, generator=generator, first=first)
            parts.append(part)
            first += len(part.base)
    names = ("base", "modality", "receiver", "donor", "rise")
    return Exchanges(**{name: torch.cat([getattr(part, name) for part in parts]) for name in names})


def _of_batch(
    network: ThreeStepNetwork,
    batch: Batch,
    yardstick: Yardstick,
    *,
    level: Level,
    rolls: int,
    generator: torch.Generator,
    first: int,
) -> Exchanges:
    inputs = observed(network, batch)
    features = encoded(network, inputs)
    logits = network.decode(network.fuse(features, inputs.available), size=features.size)
    rate = yardstick(batch, inputs, logits)
    base = rate(logits)
    moved, receivers, donors, rises = [], [], [], []
    for column, receiver, donor in _pairs(inputs.available.cpu(), rolls=rolls, generator=generator):
        index = torch.arange(len(base))
        index[receiver] = donor
        index, modality = index.to(base.device), network.modalities[column]
        if level == "feature":
            mixed = features.rolled(modality, index)
        else:
            mixed = encoded(network, inputs.rolled(modality, index))
        rise = rate(network.decode(network.fuse(mixed, inputs.available), size=features.size)) - base
        moved.append(torch.full_like(receiver, column))
        receivers.append(receiver + first)
        donors.append(donor + first)
        rises.append(rise.cpu()[receiver])
    nobody = torch.empty(0, dtype=torch.int64)
    return Exchanges(
        base=base.cpu(),
        modality=torch.cat([nobody, *moved]),
        receiver=torch.cat([nobody, *receivers]),
        donor=torch.cat([nobody, *donors]),
        rise=torch.cat([base.new_empty(0, base.shape[1]).cpu(), *rises]),
    )


def _pairs(available: Tensor, *, rolls: int, generator: torch.Generator) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Yield (modality, receivers, donors) of each roll, among the samples that have the modality.

    Modalities that the same samples have move between the same pairs: a share compares modalities, and what is chance
    in the pairs, above all how many of them are of one class, then hits all of them alike.
    """
    seed = int(torch.randint(2**62, (1,), generator=generator))
    for column in range(available.shape[1]):
        holders = available[:, column].nonzero().flatten()
        for shift in drawn_shifts(len(holders), rolls, generator=torch.Generator().manual_seed(seed)):
            yield column, holders, holders[roll_derangement(len(holders), shift)]
