"""Utilization: how much a network relies on each modality, measured on cached features."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import chain
from typing import Any, Protocol

import torch
from torch import Tensor

from .coalitions import coalitions, shapley_values
from .errors import ModelError, require, wanted
from .features import Features
from .scores import ScoreName, brier_score, build_score, cross_entropy_score
from .utilization_report import Exchanges, UtilizationReport, summarised

__all__ = [
    "UtilizationReport",
    "brier_score",
    "coalition_logits",
    "coalition_scores",
    "coalitions",
    "cross_entropy_score",
    "permutation_reliance",
    "roll_derangement",
    "shapley_values",
]

Batch = Mapping[str, Any]


class ThreeStepNetwork(Protocol):
    """What the meters need of a network: the three steps, apart from each other."""

    @property
    def modalities(self) -> tuple[str, ...]:
        """Names in the order of the columns of ``available``."""
        ...

    def encode(
        self, image: Mapping[str, Tensor], *, valid: Mapping[str, Tensor] | None, available: Tensor | None
    ) -> Features:
        """Return the features of each modality."""
        ...

    def fuse(self, features: Features, available: Tensor) -> list[Tensor]:
        """Join the features of the modalities that ``available``, bool (batch, modality), lets through."""
        ...

    def decode(self, fused: list[Tensor], *, size: tuple[int, int]) -> Tensor:
        """Return logits (batch, class, ...)."""
        ...


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


@torch.no_grad()
def permutation_reliance(
    network: ThreeStepNetwork,
    batches: Iterable[Batch],
    *,
    score: ScoreName = "brier",
    rolls: int = 3,
    bootstrap: int = 1000,
    seed: int = 0,
) -> UtilizationReport:
    """Measure how much worse a network gets when one modality comes from another sample.

    ``R_m = E[b(f(pi_m x), y)] - E[b(f(x), y)]`` after Singh et al. (IEEE CAI 2023), with a bounded score and
    roll derangements in place of one random permutation. A modality moves together with its valid mask, among
    the samples of a batch that have it; encoders run once. The expectation is over samples that have the modality.

    Parameters
    ----------
    network
        A trained network; it is put into evaluation mode and back.
    batches
        Dicts with ``image``, ``mask`` or ``label``, and where present ``valid`` and ``available``. A batch of one
        sample is joined to its neighbour.
    score
        ``"brier"`` or ``"cross_entropy"``.
    rolls
        Number of different derangements per batch and modality, at least 1; a batch of n samples has n - 1.
    bootstrap
        Number of bootstrap replicates over samples, at least 2.
    seed
        Of the rolls and of the bootstrap.

    Returns
    -------
    UtilizationReport
        Reliance and shares with their intervals.

    Raises
    ------
    ModelError
        There is no batch, only one sample in all, no labelled sample, or an option is out of range.
    """
    require(rolls >= 1, f"{rolls} rolls", "at least 1", "correct it")
    require(bootstrap >= 2, f"{bootstrap} bootstrap replicates", "at least 2", "correct it")
    rate = build_score(score)
    generator = torch.Generator().manual_seed(seed)
    with _evaluating(network):
        rows = [_exchanged(network, batch, rate, rolls=rolls, generator=generator) for batch in _joined(batches)]
    base, received, donated = (torch.cat(parts) for parts in zip(*rows, strict=True))
    labelled = base.isfinite()
    require(bool(labelled.any()), "no labelled pixel in any sample", "labelled samples", "check masks and splits")
    return summarised(
        Exchanges(base=base[labelled], received=received[labelled], donated=donated[labelled]),
        modalities=network.modalities,
        score=score,
        rolls=rolls,
        bootstrap=bootstrap,
        seed=seed,
        generator=generator,
    )


@torch.no_grad()
def coalition_scores(network: ThreeStepNetwork, batch: Batch) -> Tensor:
    """Predict from every subset of the modalities, encoding once.

    Parameters
    ----------
    network
        Any; it is put into evaluation mode and back.
    batch
        As in :func:`permutation_reliance`; the target is not read.

    Returns
    -------
    Tensor
        Logits (2 ** M, batch, class, ...) in the order of :func:`~equipoise.models.coalitions.coalitions`.
        A modality that a sample lacks is absent from all of its subsets. Row 0 saw nothing: callers with a class
        prior use that instead.
    """
    with _evaluating(network):
        features, available = _encoded(network, batch)
        return coalition_logits(network, features, available=available)


def coalition_logits(network: ThreeStepNetwork, features: Features, *, available: Tensor) -> Tensor:
    """Predict from every subset of the modalities on features that are already there.

    Parameters
    ----------
    network
        In evaluation mode.
    features
        From its ``encode``.
    available
        bool (batch, modality).

    Returns
    -------
    Tensor
        As in :func:`coalition_scores`.
    """
    return torch.stack(
        [
            network.decode(network.fuse(features, available & subset), size=features.size)
            for subset in coalitions(len(network.modalities)).to(available.device)
        ]
    )


def _exchanged(
    network: ThreeStepNetwork,
    batch: Batch,
    rate: Callable[[Tensor, Tensor], Tensor],
    *,
    rolls: int,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return scores (batch,), and rises received and donated (batch, modality), NaN where undefined."""
    features, available = _encoded(network, batch)
    target = _target(batch).to(available.device)
    base = rate(network.decode(network.fuse(features, available), size=features.size), target)
    received, donated = (torch.full(available.shape, torch.nan, dtype=torch.float64) for _ in range(2))
    for column, modality in enumerate(network.modalities):
        holders = available[:, column].nonzero().flatten()
        count = len(holders)
        if count < 2:
            continue
        rises, gifts = [], []
        for shift in (torch.randperm(count - 1, generator=generator)[:rolls] + 1).tolist():
            donors = roll_derangement(count, shift).to(holders.device)
            index = torch.arange(len(available), device=available.device)
            index[holders] = holders[donors]
            fused = network.fuse(features.rolled(modality, index), available)
            rise = (rate(network.decode(fused, size=features.size), target) - base)[holders]
            rises.append(rise)
            gifts.append(rise[donors.argsort()])
        received[holders.cpu(), column] = torch.stack(rises).nanmean(dim=0).double().cpu()
        donated[holders.cpu(), column] = torch.stack(gifts).nanmean(dim=0).double().cpu()
    return base.double().cpu(), received, donated


def _encoded(network: ThreeStepNetwork, batch: Batch) -> tuple[Features, Tensor]:
    """Move a batch to the network's device and encode it; returns its availability too."""
    parameters = network.parameters() if isinstance(network, torch.nn.Module) else iter(())
    example = next(chain(parameters, batch["image"].values()))
    image = {modality: data.to(example.device) for modality, data in batch["image"].items()}
    valid, available = batch.get("valid"), batch.get("available")
    if valid is not None:
        valid = {modality: mask.to(example.device) for modality, mask in valid.items()}
    if available is None:
        available = torch.ones(len(next(iter(image.values()))), len(network.modalities), dtype=torch.bool)
    available = available.to(example.device)
    return network.encode(image, valid=valid, available=available), available


def _target(batch: Batch) -> Tensor:
    for key in ("mask", "label"):
        if key in batch:
            return batch[key]
    raise ModelError(wanted(f"a batch with {tuple(batch)}", "'mask' or 'label'", "give labelled samples"))


@contextmanager
def _evaluating(network: ThreeStepNetwork) -> Iterator[None]:
    """Keep a module in evaluation mode for a while."""
    was_training = isinstance(network, torch.nn.Module) and network.training
    if isinstance(network, torch.nn.Module):
        network.eval()
    try:
        yield
    finally:
        if isinstance(network, torch.nn.Module):
            network.train(was_training)


def _joined(batches: Iterable[Batch]) -> Iterator[Batch]:
    """Pass batches on, a batch of one sample joined to the one before (or, at the start, after) it."""
    waiting: Batch | None = None
    for batch in batches:
        if waiting is None:
            waiting = batch
        elif len(_target(batch)) == 1 or len(_target(waiting)) == 1:
            waiting = _concatenated(waiting, batch)
        else:
            yield waiting
            waiting = batch
    require(waiting is not None, "no batch", "at least one with 2 samples", "check the split")
    if waiting is not None:
        require(len(_target(waiting)) >= 2, "a batch of 1", "2 or more samples to exchange", "use a larger batch size")
        yield waiting


def _concatenated(first: Batch, second: Batch) -> Batch:
    joined: dict[str, Any] = {}
    for key in ("image", "valid", "available", "mask", "label"):
        if isinstance(first.get(key), Mapping):
            joined[key] = {name: torch.cat([first[key][name], second[key][name]]) for name in first[key]}
        elif first.get(key) is not None:
            joined[key] = torch.cat([first[key], second[key]])
    return joined
