"""Information: what each modality is worth to a network, from its predictions by every subset of them."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from .bootstrap import Interval, intervals, resampled_sums, shares_of
from .coalitions import coalitions, shapley_values
from .errors import require
from .evaluation import Batch, ThreeStepNetwork, encoded, evaluating, observed, present, target_of
from .losses import IGNORE
from .scores import ScoreName, build_score, class_sums, place_scores
from .utilization_report import plain

_MOST_MODALITIES = 8  # 256 passes through fusion and decoder a batch
_PRIOR_TOLERANCE = 1e-3  # a prior written with three decimals is one


@dataclass(frozen=True, kw_only=True)
class InformationReport:
    """Coalition information of a network on a set of samples.

    Subsets are in the order of :func:`~equipoise.models.coalitions.coalitions`: bit m of the position holds modality m.

    Attributes
    ----------
    metric
        ``"coalition_information"``; other meters are other numbers.
    score
        ``"brier"`` or ``"clipped_ce"`` (bounded), or ``"cross_entropy"``, with which ``value`` is in nats.
    modalities
        Names, in the order of every tuple below that has one entry a modality.
    prior
        Probability of each class: what is predicted from nothing.
    value
        ``v(S) = b(none) - b(S)`` of each subset, ``2 ** M`` long; ``value[0]`` is 0.
    information
        ``phi_m``, the Shapley values of ``v``; they sum to ``value[-1]``.
    information_interval
        95 % percentile bootstrap interval over samples, (low, high) per modality.
    share
        ``[phi_m]+ / sum [phi]+``, or None when indeterminate.
    share_interval
        95 % interval of the share, or None when indeterminate.
    indeterminate
        True when ``sum [phi]+`` does not exceed ``noise_floor``: nothing measurable is known from any modality.
    noise_floor
        Twice the bootstrap standard deviation of ``sum [phi]+``, at least 1e-6.
    synergy
        ``v(all) - sum_m v({m})``: positive where modalities tell more together than apart, negative where they repeat
        each other.
    synergy_interval
        95 % interval of it.
    accuracy
        Share of labelled places that each subset gets right, ``2 ** M`` long; the first is that of
        always saying the likeliest class.
    accuracy_interval
        95 % intervals of it.
    baseline
        ``b(none)``, the expected score of the prior.
    samples
        Number of samples (patches) with a label.
    present
        Per modality the number of samples that have it.
    bootstrap, seed
        As asked for.
    """

    metric: str
    score: str
    modalities: tuple[str, ...]
    prior: tuple[float, ...]
    value: tuple[float, ...]
    information: tuple[float, ...]
    information_interval: tuple[Interval, ...]
    share: tuple[float, ...] | None
    share_interval: tuple[Interval, ...] | None
    indeterminate: bool
    noise_floor: float
    synergy: float
    synergy_interval: Interval
    accuracy: tuple[float, ...]
    accuracy_interval: tuple[Interval, ...]
    baseline: float
    samples: int
    present: tuple[int, ...]
    bootstrap: int
    seed: int

    @property
    def counted_twice(self) -> bool:
        """Whether there is synergy beyond its interval: permutation reliance then counts it once for every partner."""
        return self.synergy_interval[0] > 0

    def to_dict(self) -> dict[str, Any]:
        """Return lists and numbers for JSON; NaN becomes None."""
        return plain(asdict(self))


#: ``watch(position, logits, target)``: sees a network's answer from each subset, batch by batch, on its device.
Watch = Callable[[int, Tensor, Tensor], None]


@dataclass(frozen=True, kw_only=True)
class CoalitionScores:
    """What a network scored on each sample from each subset of the modalities: what information is computed from.

    Attributes
    ----------
    scored_by
        Name of the score.
    score
        float64 (sample, subset): mean over the labelled places; NaN where the sample has none of the subset.
    hits
        float64 (sample, subset): labelled places that the answer gets right; NaN likewise.
    labels
        float64 (sample, class): labelled places.
    present
        bool (sample, modality).
    """

    scored_by: ScoreName
    score: Tensor
    hits: Tensor
    labels: Tensor
    present: Tensor

    def completed(self, known: "CoalitionScores", *, changed: int) -> "CoalitionScores":
        """Take the subsets without one modality from a measurement in which nothing but that modality was different.

        Parameters
        ----------
        known
            Of the same network and samples.
        changed
            Column of the modality that differs.

        Returns
        -------
        CoalitionScores
            Subsets with the modality from this measurement, the others from ``known``.
        """
        mine = coalitions(self.present.shape[1])[:, changed]
        return replace(
            self, score=torch.where(mine, self.score, known.score), hits=torch.where(mine, self.hits, known.hits)
        )


@torch.no_grad()
def coalition_information(
    network: ThreeStepNetwork,
    batches: Iterable[Batch],
    *,
    score: ScoreName = "brier",
    prior: Sequence[float] | None = None,
    bootstrap: int = 1000,
    seed: int = 0,
) -> InformationReport:
    """Measure what every subset of the modalities tells a network, and each modality's part in it.

    ``v(S) = b(none) - b(S)``: how much better than the class prior the network scores with the modalities ``S`` alone.
    ``phi_m`` is the exact Shapley value of ``v`` (Shapley, 1953; of losses: Covert, Lundberg, Lee, NeurIPS 2020), by
    ``2 ** M`` passes through fusion and decoder; encoders run once. It is sound only for a network that was trained to
    do without modalities, as with subset sampling: elsewhere "absent" is an input that it never saw.

    Scores are means over each sample's labelled places, then over samples; a modality that a sample lacks adds nothing
    there. Every sample is measured by itself, so that grouping into batches changes nothing but rounding.

    Parameters
    ----------
    network
        A trained network of at most 8 modalities; it is put into evaluation mode and back.
    batches
        Dicts with ``image``, ``mask`` or ``label``, and where present ``valid`` and ``available``; read once.
    score
        ``"brier"``, ``"clipped_ce"`` or ``"cross_entropy"``; the last measures in nats.
    prior
        Probability of each class, best that of the training data; None takes the class shares of these labels.
    bootstrap
        Number of bootstrap replicates over samples, at least 2.
    seed
        Of the bootstrap.

    Returns
    -------
    InformationReport
        Information, shares, synergy and accuracies with their intervals.

    Raises
    ------
    ModelError
        There are more than 8 modalities, fewer than 2 labelled samples, the prior does not fit, or an option is out of
        range.
    """
    require(bootstrap >= 2, f"{bootstrap} bootstrap replicates", "at least 2", "correct it")
    found = measured_coalitions(network, batches, score=score)
    return information_of(found, modalities=network.modalities, prior=prior, bootstrap=bootstrap, seed=seed)


@torch.no_grad()
def measured_coalitions(
    network: ThreeStepNetwork,
    batches: Iterable[Batch],
    *,
    score: ScoreName = "brier",
    only: int | None = None,
    watch: Watch | None = None,
) -> CoalitionScores:
    """Score a network's answers from the subsets of its modalities.

    Parameters
    ----------
    network, batches, score
        As in :func:`coalition_information`.
    only
        Column of a modality: subsets without it are not tried, and are NaN; see :meth:`CoalitionScores.completed`.
    watch
        Is shown each answer, so that other figures need no passes of their own.

    Returns
    -------
    CoalitionScores
        On the CPU; samples in the order of the batches.

    Raises
    ------
    ModelError
        There are more than 8 modalities, no batch, or the score is unknown.
    """
    members = len(network.modalities)
    require(
        members <= _MOST_MODALITIES, f"{members} modalities", f"at most {_MOST_MODALITIES}, all subsets are tried",
        "measure fewer modalities, or use permutation_reliance",
    )  # fmt: skip
    build_score(score)
    with evaluating(network):
        parts = [_of_batch(network, batch, score=score, only=only, watch=watch) for batch in batches]
    require(bool(parts), "no batch", "at least one", "check the split")
    names = ("score", "hits", "labels", "present")
    whole = {name: torch.cat([getattr(part, name) for part in parts]) for name in names}
    return CoalitionScores(scored_by=score, **whole)


def information_of(
    found: CoalitionScores,
    *,
    modalities: tuple[str, ...],
    prior: Sequence[float] | None = None,
    bootstrap: int = 1000,
    seed: int = 0,
) -> InformationReport:
    """Turn scores of every subset into information; arguments, result and errors as in :func:`coalition_information`.

    Parameters
    ----------
    found
        Of every subset.
    modalities
        Names, in the order of the columns.
    prior, bootstrap, seed
        As in :func:`coalition_information`.

    Returns
    -------
    InformationReport
        Information, shares, synergy and accuracies with their intervals.
    """
    known = found.labels.sum(dim=1) > 0
    count = int(known.sum())
    require(count >= 2, f"{count} labelled samples", "at least 2, to know how they vary", "check masks and splits")
    names = ("score", "hits", "labels", "present")
    kept = replace(found, **{name: getattr(found, name)[known] for name in names})
    believed = _prior(prior, kept.labels.sum(dim=0), score=kept.scored_by)
    return _summary(kept, prior=believed, score=kept.scored_by, modalities=modalities, bootstrap=bootstrap, seed=seed)


def _of_batch(
    network: ThreeStepNetwork, batch: Batch, *, score: ScoreName, only: int | None, watch: Watch | None
) -> CoalitionScores:
    inputs = observed(network, batch)
    features = encoded(network, inputs)
    there = present(features, inputs.available, modalities=network.modalities)
    target = target_of(batch).to(there.device)
    subsets = coalitions(there.shape[1]).to(there.device)
    scores = torch.full((len(target), len(subsets)), torch.nan, dtype=torch.float64, device=there.device)
    hits, classes = scores.clone(), 0
    for position, logits in _predictions(network, features, available=inputs.available, only=only):
        sees = (there & subsets[position]).any(dim=1)
        places = place_scores(score, logits, target).double().reshape(len(target), -1)
        scores[:, position] = places.nanmean(dim=1).where(sees, torch.nan)
        hit = ((logits.argmax(dim=1) == target) & (target != IGNORE)).reshape(len(target), -1).sum(dim=1).double()
        hits[:, position] = hit.where(sees, torch.nan)
        classes = logits.shape[1]
        if watch is not None:
            watch(position, logits, target)
    labels = class_sums(torch.ones_like(target), target, classes=classes)
    return CoalitionScores(
        scored_by=score, score=scores.cpu(), hits=hits.cpu(), labels=labels.cpu(), present=there.cpu()
    )


def _predictions(
    network: ThreeStepNetwork, features: Any, *, available: Tensor, only: int | None
) -> Iterator[tuple[int, Tensor]]:
    """Yield each subset's position and logits; one after the other, because all of them at once can be gigabytes."""
    for position, subset in enumerate(coalitions(len(network.modalities)).to(available.device)):
        if only is None or bool(subset[only]):
            yield position, network.decode(network.fuse(features, available & subset), size=features.size)


def _prior(given: Sequence[float] | None, labels: Tensor, *, score: str) -> Tensor:
    """Check a class prior, or take the class shares; float64 (class,)."""
    if given is None:
        return labels / labels.sum()
    prior = torch.tensor(list(given), dtype=torch.float64)
    require(len(prior) == len(labels), f"a prior of {len(prior)} classes", f"{len(labels)}", "give one value per class")
    total = float(prior.sum())
    proper = bool(prior.isfinite().all() and (prior >= 0).all()) and abs(total - 1) <= _PRIOR_TOLERANCE
    require(proper, f"a prior of sum {total:g}", "probabilities that sum to 1", "divide by their sum")
    impossible = ((prior == 0) & (labels > 0)).nonzero().flatten().tolist()
    require(
        score != "cross_entropy" or not impossible, f"prior 0 for the classes {impossible}, which occur",
        "more than 0: their cross entropy would be infinite", "give every class a little, or use the Brier score",
    )  # fmt: skip
    return prior / total


def _summary(
    found: CoalitionScores, *, prior: Tensor, score: str, modalities: tuple[str, ...], bootstrap: int, seed: int
) -> InformationReport:
    members, subsets = len(modalities), found.score.shape[1]
    places = found.labels.sum(dim=1, keepdim=True)
    by_class = place_scores(score, prior.log().expand(len(prior), -1), torch.arange(len(prior)))
    # A class that never occurs and has no prior would contribute 0 times infinity.
    nothing = torch.where(found.labels > 0, found.labels * by_class, 0).sum(dim=1, keepdim=True) / places
    value = (nothing - found.score).nan_to_num(nan=0.0)
    information = shapley_values(value.T, members=members).T
    alone = value[:, [1 << member for member in range(members)]].sum(dim=1, keepdim=True)
    hits = torch.where(found.hits.isnan(), found.labels[:, [int(prior.argmax())]], found.hits)
    means = torch.cat([information, value[:, -1:] - alone], dim=1)
    columns = torch.cat([means, hits, places], dim=1)
    sums = resampled_sums(columns, count=bootstrap, generator=torch.Generator().manual_seed(seed))
    replicates = sums[:, : members + 1] / len(value)
    shares = shares_of(information.mean(dim=0), replicates[:, :members])
    return InformationReport(
        metric="coalition_information",
        score=score,
        modalities=modalities,
        prior=tuple(prior.tolist()),
        value=tuple(value.mean(dim=0).tolist()),
        information=tuple(information.mean(dim=0).tolist()),
        information_interval=intervals(replicates[:, :members]),
        share=shares.share,
        share_interval=shares.share_interval,
        indeterminate=shares.indeterminate,
        noise_floor=shares.noise_floor,
        synergy=float(means[:, -1].mean()),
        synergy_interval=intervals(replicates[:, members:])[0],
        accuracy=tuple((hits.sum(dim=0) / places.sum()).tolist()),
        accuracy_interval=intervals(sums[:, -1 - subsets : -1] / sums[:, -1:]),
        baseline=float(nothing.mean()),
        samples=len(value),
        present=tuple(found.present.sum(dim=0).tolist()),
        bootstrap=bootstrap,
        seed=seed,
    )
