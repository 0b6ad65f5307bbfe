"""Utilization of a trained network on a split: every meter, the checks on them, and whether the target arrived."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from ..models.class_reliance import class_reliance
from ..models.information import coalition_information
from ..models.network import FusionUNet
from ..models.scores import ScoreName
from ..models.share_checks import hack_alarm, unused_information
from ..models.utilization import permutation_reliance
from .stage_options import EvaluateOptions
from .utilization_options import UtilizationOptions

Batches = Callable[[], Iterable[Mapping[str, Any]]]


def measured_utilization(
    network: FusionUNet, batches: Batches, *, prior: Sequence[float], options: EvaluateOptions, seed: int
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

    Returns
    -------
    ``brier`` and ``cross_entropy`` (permutation reliance), ``information`` (coalitions), ``classes`` (reliance by true
    class), ``hack_alarm`` (per modality: the share by cross entropy lies more than .10 below the bounded one) and
    ``unused`` (per modality: share of the information above the share of the reliance); None where a share is
    indeterminate. Plain JSON values.
    """
    settings: dict[str, Any] = {"rolls": options.rolls, "bootstrap": options.bootstrap, "seed": seed}
    brier, entropy = (permutation_reliance(network, batches(), score=name, **settings) for name in _SCORES)
    information = coalition_information(network, batches(), prior=prior, bootstrap=options.bootstrap, seed=seed)
    unused = unused_information(information, brier)
    alarm = hack_alarm(entropy.share, brier.share)
    return {
        "brier": brier.to_dict(), "cross_entropy": entropy.to_dict(), "information": information.to_dict(),
        "classes": class_reliance(network, batches(), **settings).to_dict(),
        "hack_alarm": None if alarm is None else list(alarm), "unused": None if unused is None else asdict(unused),
    }  # fmt: skip


_SCORES: tuple[ScoreName, ...] = ("brier", "cross_entropy")


def arrival(wanted: UtilizationOptions, measured: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Say of each modality that has a target whether its share arrived, and which is the nearest that did.

    Parameters
    ----------
    wanted
        Targets and tolerance.
    measured
        A permutation report as plain values: ``modalities``, ``share``.

    Returns
    -------
    One record a modality: ``modality``, ``wanted`` (lowest, highest), ``share`` (None: indeterminate), ``miss`` and
    ``arrived``. A share that did not arrive is the nearest that this training reached.
    """
    shares = dict(zip(measured["modalities"], measured["share"] or [None] * len(measured["modalities"]), strict=True))
    found = []
    for name, (low, high) in wanted.ranges().items():
        share = shares.get(name)
        if (low, high) == (0.0, 1.0):
            continue
        miss = None if share is None else max(0.0, low - share, share - high)
        tolerance = wanted.tolerance if low == high else 0.0
        found.append(
            {
                "modality": name, "wanted": [low, high], "share": share, "miss": miss,
                "arrived": miss is not None and miss <= tolerance,
            }
        )  # fmt: skip
    return found
