"""Utilization: how much a network relies on each modality, measured on cached features."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Literal, get_args

import torch
from torch import Tensor

from .coalitions import coalitions, shapley_values
from .errors import require
from .evaluation import Batch, Observed, ThreeStepNetwork, encoded, evaluating, observed, target_of
from .exchanges import Level, Rate, exchanged, roll_derangement
from .features import Features
from .scores import PLACE_SCORES, ScoreName, brier_score, build_score, cross_entropy_score, place_scores
from .utilization_report import UtilizationReport, summarised

__all__ = [
    "ThreeStepNetwork",
    "UtilizationReport",
    "brier_score",
    "coalition_logits",
    "coalition_scores",
    "coalitions",
    "cross_entropy_score",
    "permutation_mu",
    "permutation_reliance",
    "roll_derangement",
    "shapley_values",
]

Against = Literal["labels", "own_class", "own_probability"]


def permutation_reliance(
    network: ThreeStepNetwork,
    batches: Iterable[Batch],
    *,
    score: ScoreName = "brier",
    against: Against = "labels",
    level: Level = "feature",
    rolls: int = 3,
    bootstrap: int = 1000,
    seed: int = 0,
) -> UtilizationReport:
    """Measure how much worse a network gets when one modality comes from another sample.

    ``R_m = E[b(f(pi_m x), y)] - E[b(f(x), y)]`` after Singh et al. (IEEE CAI 2023), with a bounded score and
    roll derangements in place of one random permutation. A modality moves together with its valid mask, among
    the samples of a batch that have it. The expectation is over samples that have the modality; a modality whose
    exchange lowers the score has a negative reliance and the share 0.

    Without labels, ``y`` is the network's own prediction from everything present: its class, or a class drawn from
    its probabilities (the expectation is exact, nothing is drawn). Reliance then says how far the prediction moves,
    right or wrong; with ``own_probability`` and the Brier score it is half the squared distance moved.

    Parameters
    ----------
    network
        A trained network; it is put into evaluation mode and back.
    batches
        Dicts with ``image``, ``mask`` or ``label``, and where present ``valid`` and ``available``. A batch of one
        sample is joined to its neighbour. Rolls stay within a batch: other batches are other pairs, and the figures
        differ within their intervals.
    score
        ``"brier"``, ``"clipped_ce"`` or ``"cross_entropy"``.
    against
        ``"labels"``, or without labels ``"own_class"`` or ``"own_probability"``; these two leave out places that no
        modality observed.
    level
        ``"feature"`` runs encoders once. ``"input"`` moves images and encodes again; it costs a whole pass a roll and
        differs only for networks whose encoders see several modalities at once (early fusion).
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
    require(bootstrap >= 2, f"{bootstrap} bootstrap replicates", "at least 2", "correct it")
    require(against in get_args(Against), f"against {against!r}", f"one of {get_args(Against)}", "correct the name")
    build_score(score)
    generator = torch.Generator().manual_seed(seed)

    def yardstick(batch: Batch, inputs: Observed, logits: Tensor) -> Rate:
        if against == "labels":
            target = target_of(batch).to(logits.device)
            return lambda mixed: sample_means(place_scores(score, mixed, target))
        truth = logits.argmax(dim=1) if against == "own_class" else logits.softmax(dim=1)
        seen = inputs.seen(network.modalities)
        seen = seen if logits.ndim > 2 else seen.flatten(1).any(dim=1)
        return lambda mixed: sample_means(PLACE_SCORES[score](mixed, truth).where(seen, torch.nan))

    exchanges = exchanged(network, batches, yardstick=yardstick, level=level, rolls=rolls, generator=generator)
    known = bool(exchanges.base.isfinite().any())
    require(known, "no labelled or observed place in any sample", "at least one", "check masks and splits")
    return summarised(
        exchanges,
        modalities=network.modalities,
        score=score,
        rolls=rolls,
        bootstrap=bootstrap,
        seed=seed,
        generator=generator,
        against=against,
        level=level,
    )


def permutation_mu(
    network: ThreeStepNetwork,
    batches: Iterable[Batch],
    *,
    rolls: int = 1,
    bootstrap: int = 1000,
    seed: int = 0,
) -> UtilizationReport:
    """Modality utilization by cross entropy, as published.

    ``MU_i = L_i - L``, ``L_i`` the expected cross entropy with modality i permuted across samples, reported as
    percentages of ``sum MU`` (Singh, Markopoulos, Saber, Lew, Heard, IEEE CAI 2023). For comparison with figures of
    that kind; cross entropy is unbounded and overstates the dominant modality, so read :func:`permutation_reliance`
    with its bounded score first. Ours, because the paper leaves it open: a negative ``MU_i`` counts as 0 in the
    percentages and stays negative in ``reliance``; permutations are rolls without a fixed point, within a batch.

    Parameters
    ----------
    network, batches, rolls, bootstrap, seed
        As in :func:`permutation_reliance`.

    Returns
    -------
    UtilizationReport
        With ``metric="permutation_mu"``; ``reliance`` holds ``MU_i`` in nats, ``percent`` the percentages.

    Raises
    ------
    ModelError
        As :func:`permutation_reliance`.
    """
    report = permutation_reliance(network, batches, score="cross_entropy", rolls=rolls, bootstrap=bootstrap, seed=seed)
    return replace(report, metric="permutation_mu")


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
    with evaluating(network):
        inputs = observed(network, batch)
        return coalition_logits(network, encoded(network, inputs), available=inputs.available)


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


def sample_means(places: Tensor) -> Tensor:
    """Average over the places of each sample, float64 (batch, 1); NaN where none is defined."""
    return places.double().flatten(1).nanmean(dim=1, keepdim=True) if places.ndim > 1 else places.double()[:, None]
