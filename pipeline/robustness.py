"""Robustness: what a network scores, relies on and knows while one sensor after the other gets worse."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchmetrics.classification import MulticlassConfusionMatrix

from ..models.evaluation import Batch, ThreeStepNetwork, encoded, evaluating, observed, target_of
from ..models.information import CoalitionScores, InformationReport, information_of, measured_coalitions
from ..models.losses import IGNORE
from ..models.network import FusionUNet
from ..models.reliance_reports import reliance_reports
from ..models.share_checks import utilization_calibration_error
from ..models.utilization_report import UtilizationReport, plain
from .conditions import AXES, Condition, conditions
from .config import Config
from .degraded_patches import DegradedPatches
from .encoded_once import EncodedOnce
from .metrics import summarise
from .progress import track
from .reliability import Reliability
from .train import TrainingData

#: Rolls of the reliance under each condition: one, since it is measured many times over.
ROLLS = 1

_FIGURES = ("accuracy", "mean_iou", "ece")


class Tally:
    """Accuracy, IoU and calibration of the answers that it is shown.

    Parameters
    ----------
    names
        Class names in order.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names
        self._matrix = MulticlassConfusionMatrix(len(names), ignore_index=IGNORE)
        self._reliability = Reliability()

    def __call__(self, logits: Tensor, target: Tensor) -> None:
        """Count a batch: logits (batch, class, ...), target (batch, ...)."""
        self._matrix.update(logits.argmax(dim=1).cpu(), target.cpu())
        self._reliability.update(logits, target)

    def figures(self) -> dict[str, float | None]:
        """Return ``accuracy``, ``mean_iou`` and ``ece``, each 0 to 1, None where nothing was counted."""
        found = summarise(self._matrix.compute().numpy().astype(np.int64), names=self._names)
        return {**found, "ece": self._reliability.summary()["ece"]}


class Meters:
    """Measures one network on the same patches in one condition after the other.

    Parameters
    ----------
    network
        In evaluation mode.
    names
        Class names in order.
    prior
        Probability of each class: what is known from nothing.
    bootstrap, seed
        Of intervals and rolls.
    """

    def __init__(
        self, network: ThreeStepNetwork, *, names: Sequence[str], prior: Sequence[float], bootstrap: int, seed: int
    ) -> None:
        self._network, self._names, self._prior = network, names, prior
        self._settings: dict[str, Any] = {"bootstrap": bootstrap, "seed": seed}
        self._clear: CoalitionScores | None = None
        self._encoded = EncodedOnce(network)

    def scores(self, batches: Sequence[Batch]) -> dict[str, float | None]:
        """Return the figures of the plain answer alone."""
        once, tally = EncodedOnce(self._network, behind=self._encoded, most_bytes=0), Tally(self._names)
        with torch.inference_mode():
            for batch in batches:
                inputs = observed(self._network, batch)
                features = encoded(once, inputs)
                tally(once.decode(once.fuse(features, inputs.available), size=features.size), target_of(batch))
        return tally.figures()

    def all(
        self, batches: Sequence[Batch], *, changed: int | None
    ) -> tuple[dict[str, float | None], UtilizationReport, InformationReport]:
        """Return the figures of the plain answer, the reliance and the information.

        Parameters
        ----------
        batches
            The patches, as the condition leaves them.
        changed
            Column of the modality that the condition changes; None for the clear patches, which come first: their
            answers from subsets without that modality are kept and taken over.
        """
        once = self._encoded if changed is None else EncodedOnce(self._network, behind=self._encoded)
        tally = Tally(self._names)
        reliance = reliance_reports(once, batches, rolls=ROLLS, watch=tally, **self._settings).by_score["brier"]
        found = measured_coalitions(once, batches, only=changed)
        if changed is None or self._clear is None:
            self._clear = found
        else:
            found = found.completed(self._clear, changed=changed)
        information = information_of(found, modalities=once.modalities, prior=self._prior, **self._settings)
        return tally.figures(), reliance, information


def robustness(network: FusionUNet, data: TrainingData, config: Config) -> dict[str, Any]:
    """Measure a network while its sensors get worse.

    Parameters
    ----------
    network
        Trained.
    data, config
        Test patches and options.

    Returns
    -------
    ``patches`` measured ``of`` those in the split, ``draws``, ``rolls``; ``clear`` and ``families``: per family
    ``modality``, ``kind``, ``axis``, ``seen_in_training`` and ``conditions``; each condition with ``accuracy``,
    ``mean_iou`` and ``ece`` (``mean``, ``spread`` over ``draws``), ``reliance`` and ``information`` (shares with 95 %
    intervals, of the first draw); ``utilization_calibration``; ``left_out``: family -> reason. Plain JSON values.
    """
    options = config.evaluate
    patches = DegradedPatches(
        data, most=options.robustness_patches, batch_size=config.train.batch_size, seed=config.seed,
        device=next(network.parameters()).device,
    )  # fmt: skip
    chosen, left_out = conditions(data.modalities, options.degradations, pixel_m=patches.pixel_m)
    tables = {name for name, item in config.modalities.items() if item.table is not None}
    still = [item for item in chosen if item.kind == "misregistration" and item.modality in tables]
    chosen = [item for item in chosen if item not in still]
    left_out |= {item.family: "its values are the same everywhere" for item in still}
    with evaluating(network):
        meters = Meters(
            network, names=[item.name for item in data.classes], prior=data.class_shares().tolist(),
            bootstrap=options.bootstrap, seed=config.seed,
        )  # fmt: skip
        clear = _measured(meters, patches, None, draws=1, names=data.names)
        records = {
            condition.name: _measured(meters, patches, condition, draws=options.degradation_seeds, names=data.names)
            for condition in track(chosen, "evaluate robustness", total=len(chosen))
        }
    return {
        "patches": len(patches), "of": patches.of, "draws": options.degradation_seeds, "rolls": ROLLS, "clear": clear,
        "families": list(_families(chosen, records, config)), "left_out": left_out,
        "utilization_calibration": _calibration({"clear": clear, **records}),
    }  # fmt: skip


def _measured(
    meters: Meters, patches: DegradedPatches, condition: Condition | None, *, draws: int, names: tuple[str, ...]
) -> dict[str, Any]:
    changed = None if condition is None else names.index(condition.modality)
    if condition is not None and condition.kind == "outage":  # nothing about it is drawn
        draws = 1
    first, reliance, information = meters.all(patches.batches(condition), changed=changed)
    figures = [first, *(meters.scores(patches.batches(condition, draw=draw)) for draw in range(1, draws))]
    return {
        **{key: _over_draws([found[key] for found in figures]) for key in _FIGURES},
        "reliance": _shares(reliance, reliance.reliance, reliance.reliance_interval),
        "information": _shares(information, information.information, information.information_interval),
    }


def _over_draws(values: list[float | None]) -> dict[str, Any]:
    known = [value for value in values if value is not None]
    return {
        "mean": float(np.mean(known)) if known else None,
        "spread": float(np.std(known, ddof=1)) if len(known) > 1 else None,
        "draws": values,
    }


def _shares(report: UtilizationReport | InformationReport, amount: Any, interval: Any) -> dict[str, Any]:
    return plain(
        {
            "metric": report.metric, "score": report.score, "share": report.share,
            "share_interval": report.share_interval, "indeterminate": report.indeterminate,
            "noise_floor": report.noise_floor, "amount": amount, "amount_interval": interval,
        }
    )  # fmt: skip


def _families(
    chosen: Sequence[Condition], records: dict[str, dict[str, Any]], config: Config
) -> Iterator[dict[str, Any]]:
    for family in dict.fromkeys(item.family for item in chosen):
        members = [item for item in chosen if item.family == family]
        seen = {item.kind for item in config.train.degradations.get(members[0].modality, ())}
        yield {
            "modality": members[0].modality, "kind": members[0].kind, "axis": AXES[members[0].kind],
            "seen_in_training": members[0].kind in seen,
            "conditions": [
                {"name": item.name, "strength": item.strength, "settings": dict(item.settings), **records[item.name]}
                for item in members
            ],
        }  # fmt: skip


def _calibration(records: dict[str, dict[str, Any]]) -> dict[str, Any]:
    found = utilization_calibration_error(
        {name: item["reliance"]["share"] for name, item in records.items()},
        {name: item["information"]["share"] for name, item in records.items()},
    )
    return {
        "error": found.error, "by_condition": found.by_condition,
        "left_out": [name for name, value in found.by_condition.items() if value is None],
    }  # fmt: skip
