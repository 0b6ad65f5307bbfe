"""Utilization of a trained network on a split: every meter, the checks on them, and whether the target arrived."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from ..models.information import Watch, information_of, measured_coalitions
from ..models.missing_probe import missing_modality_probe
from ..models.modality_gap import modality_gap
from ..models.network import FusionUNet
from ..models.reliance_reports import reliance_reports
from ..models.scores import ScoreName
from ..models.share_checks import hack_alarm, unused_information
from .stage_options import EvaluateOptions
from .utilization_options import UtilizationOptions

Batches = Callable[[], Iterable[Mapping[str, Any]]]


def measured_utilization(
    network: FusionUNet,
    batches: Batches,
    *,
    prior: Sequence[float],
    options: EvaluateOptions,
    seed: int,
    also: Sequence[ScoreName] = (),
    watch: Watch | None = None,
) -> dict[str, Any]:
    """Measure what a network relies on and what it knows, and compare the two.

    Parameters
    ----------
    network
        Trained.
    batches
        Gives the split's batches anew each time.
    prior
        Probability of each class: what is known from nothing.
    options
        Rolls and bootstrap replicates.
    seed
        Of both.
    also
        Scores by which permutation reliance is measured beside ``brier`` and ``cross_entropy``.
    watch
        Is shown the answer from each subset, so that accuracy needs no passes of its own.

    Returns
    -------
    ``brier`` and ``cross_entropy`` (permutation reliance), ``information`` (coalitions), ``classes`` (reliance by true
    class), ``hack_alarm`` (per modality: the share by cross entropy lies more than .10 below the bounded one) and
    ``unused`` (per modality: share of the information above the share of the reliance), None where a share is
    indeterminate; ``modality_gap`` and ``missing_probe``, of the features. Plain JSON values.
    """
    scores = tuple(dict.fromkeys((*_SCORES, *also)))
    permuted = reliance_reports(
        network, batches(), scores=scores, by_class=True, rolls=options.rolls, bootstrap=options.bootstrap, seed=seed
    )
    information = information_of(
        measured_coalitions(network, batches(), watch=watch), modalities=network.modalities, prior=prior,
        bootstrap=options.bootstrap, seed=seed,
    )  # fmt: skip
    brier = permuted.by_score["brier"]
    unused = unused_information(information, brier)
    alarm = hack_alarm(permuted.by_score["cross_entropy"].share, brier.share)
    return {name: report.to_dict() for name, report in permuted.by_score.items()} | {
        "information": information.to_dict(),
        "classes": None if permuted.classes is None else permuted.classes.to_dict(),
        "hack_alarm": None if alarm is None else list(alarm), "unused": None if unused is None else asdict(unused),
        "modality_gap": modality_gap(network, batches(), classes=len(prior), seed=seed).to_dict(),
        "missing_probe": missing_modality_probe(network, batches(), bootstrap=options.bootstrap, seed=seed).to_dict(),
    }  # fmt: skip


_SCORES: tuple[ScoreName, ...] = ("brier", "cross_entropy")


def arrival(wanted: UtilizationOptions, measured: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Say of each modality that has a target whether its share arrived, and which is the nearest that was found.

    Parameters
    ----------
    wanted
        Targets and tolerance.
    measured
        A permutation report as plain values: ``modalities``, ``score``, ``share``, ``share_interval``.

    Returns
    -------
    One record a modality: ``modality``, ``wanted`` (lowest, highest), ``score``, ``share`` (None: indeterminate),
    ``interval`` (95 %), ``miss``, ``arrived``, ``verdict``, and ``nearest``: the share of the epoch that was kept,
    which is the nearest that this training found. The verdict is ``arrived`` where the share is inside its range, or
    within the tolerance of a point; ``undecided`` where it is not and its interval holds an allowed value, or the share
    is indeterminate; else ``missed``.
    """
    names = measured["modalities"]
    shares = dict(zip(names, measured["share"] or [None] * len(names), strict=True))
    intervals = dict(zip(names, measured["share_interval"] or [None] * len(names), strict=True))
    found = []
    for name, (low, high) in wanted.ranges().items():
        if (low, high) == (0.0, 1.0):
            continue
        share, interval = shares.get(name), intervals.get(name)
        # Rounding must not decide: .52 - .5 is more than .02 in binary.
        tolerance = (wanted.tolerance if low == high else 0.0) + 1e-9
        miss = None if share is None else max(0.0, low - share, share - high)
        arrived = miss is not None and miss <= tolerance
        covers = interval is None or (interval[0] <= high + tolerance and interval[1] >= low - tolerance)
        found.append(
            {
                "modality": name, "wanted": [low, high], "score": measured["score"], "share": share,
                "interval": interval, "miss": miss, "arrived": arrived,
                "verdict": "arrived" if arrived else "undecided" if share is None or covers else "missed",
                "nearest": share,
            }
        )  # fmt: skip
    return found


def judged_by(wanted: UtilizationOptions) -> ScoreName:
    """Return the score by which targets are judged: their own where it is bounded, else Brier, which none can game."""
    return "clipped_ce" if wanted.metric == "clipped_ce" else "brier"
