"""Evaluation page: what the report says of the measurements, as pictures and sentences made from saved numbers."""

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from . import alternatives, evaluation_figures, figures
from .config import Config
from .verdict import verdict_words

Record = Mapping[str, Any]


def evaluation_page(found: Record, config: Config) -> dict[str, Any]:
    """Return what the template shows of an evaluation.

    Parameters
    ----------
    found
        As :func:`~equipoise.pipeline.evaluate.evaluate` gives it.
    config
        Of the run.
    """
    names = [item.name for item in config.classes]
    measure = "accuracy" if config.task == "classification" else "mean_iou"
    label = "accuracy" if config.task == "classification" else "mean IoU over classes"
    scores = {"fusion": found["fusion"][measure]}
    scores |= {f"{name} alone (own network)": item[measure] for name, item in found["single"].items()}
    scores |= {"majority class": found["majority"][measure]}
    subsets = {name: item[measure] for name, item in found["subsets"].items()}
    everything = "+".join(found["modalities"])
    used = found["utilization"]
    meters = {"Brier": used["brier"], "cross entropy": used["cross_entropy"]}
    robust = found["robustness"]
    measured = (measure,) if measure == "accuracy" else (measure, "accuracy")
    return {
        "fusion": found["fusion"],
        "measure": label,
        "alternatives": {
            "scores": alternatives.scores(scores, label=f"{label} on the test split"),
            "subsets": alternatives.scores(subsets, label=f"{label} of one network that is given some modalities"),
            "confusion": alternatives.confusion(found["fusion"]["confusion"], names=names),
            "utilization": alternatives.shares(meters, modalities=found["modalities"]),
            "shares": alternatives.shares(
                {"reliance": used["brier"], "information": used["information"]}, modalities=found["modalities"]
            ),
            "classes": alternatives.classes(used["classes"], names=names),
            "reliability": alternatives.reliability(found["calibration"]),
            "curves": "" if robust is None else alternatives.curves(robust, measure=measure, label=label),
        },
        "trained_on_subsets": found["trained_on_subsets"],
        "scores": embed(figures.score_bars(scores, highlight="fusion", label=f"{label}, test split")),
        "subsets": embed(figures.score_bars(subsets, highlight=everything, label=f"{label}, one network")),
        "subset_words": subset_words(found["subset_summary"][measure], label=label),
        "confusion": embed(figures.confusion_picture(np.asarray(found["fusion"]["confusion"]), names=names)),
        "ece": found["calibration"]["ece"],
        "calibrated": found["calibrated"],
        "reliability": None if found["calibration"]["ece"] is None else embed(
            evaluation_figures.reliability_diagram(found["calibration"])
        ),
        "utilization": embed(figures.utilization_bars(meters, modalities=found["modalities"])),
        "shares": embed(
            evaluation_figures.share_bars(used["brier"], used["information"], modalities=found["modalities"])
        ),
        "classes": embed(evaluation_figures.class_heat_map(used["classes"], names=names)),
        "flags": flag_words(used),
        "by_sensor": found.get("by_sensor", []),  # not measured in older runs
        "targets": [{"modality": item["modality"], "words": verdict_words(item)} for item in found["targets"]],
        "indeterminate": used["brier"]["indeterminate"],
        "samples": used["brier"]["samples"],
        "robustness": _robustness(found, measures=measured),
    }  # fmt: skip


def subset_words(summary: Record, *, label: str) -> str:
    """Say in a sentence how the subsets of the modalities do.

    Parameters
    ----------
    summary
        As :func:`~equipoise.pipeline.metrics.subset_summary` gives it.
    label
        Of the score.
    """
    if summary["mean"] is None:
        return "No subset could be measured."
    text = f"Mean over subsets: {label} {summary['mean']:.3f}. Worst: {summary['worst']['subset']} "
    text += f"({summary['worst']['score']:.3f})."
    monotone = summary["monotonicity"]
    if not monotone["pairs"]:
        return text
    text += f" One modality more does not lower the score in {monotone['share']:.0%} of {monotone['pairs']} pairs"
    lost = monotone["largest_violation"]
    return text + (
        "." if lost is None else f"; at most it loses {lost['by']:.3f}, {lost['smaller']} to {lost['larger']}."
    )


def flag_words(used: Record) -> list[str]:
    """Say in sentences what the checks on reliance found.

    Parameters
    ----------
    used
        As :func:`~equipoise.pipeline.utilization.measured_utilization` gives it.
    """
    names = used["brier"]["modalities"]
    alarms = [name for name, alarm in zip(names, used["hack_alarm"] or (), strict=False) if alarm]
    words = ["No hack alarm: shares by cross entropy are not far below the bounded ones."]
    if used["hack_alarm"] is None:
        words = ["Hack alarm: cannot be told, since a share is indeterminate."]
    elif alarms:
        words = [
            f"Hack alarm for {name}: its share by cross entropy is more than .10 below the bounded one, so that it is "
            "relied on more than cross entropy says."
            for name in alarms
        ]
    unused = used["unused"]
    if unused is None:
        return [*words, "Unused information: cannot be told, since a share is indeterminate."]
    rows = zip(unused["modalities"], unused["excess"], unused["interval"], unused["flagged"], strict=True)
    flagged = [
        f"Unused information in {name}: it has {excess:.2f} ({low:.2f} to {high:.2f}) more of the information than of "
        "the reliance."
        for name, excess, (low, high), flag in rows if flag
    ]  # fmt: skip
    return [*words, *(flagged or ["No modality is known to have more to say than it is relied on."])]


def embed(png: bytes) -> str:
    """Return a picture as an address that holds it."""
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")


def _robustness(found: Record, *, measures: Sequence[str]) -> dict[str, Any] | None:
    record = found["robustness"]
    if record is None:
        return None
    drawn = bool(record["families"])
    return {
        "patches": record["patches"], "of": record["of"], "draws": record["draws"], "left_out": record["left_out"],
        "calibration": record["utilization_calibration"],
        "conditions": len(record["utilization_calibration"]["by_condition"]),
        "curves": embed(evaluation_figures.robustness_curves(record, measures=measures)) if drawn else None,
        "responses": embed(evaluation_figures.response_curves(record, modalities=found["modalities"]))
        if drawn else None,
        "rows": [
            {"family": f"{family['modality']} {family['kind'].replace('_', ' ')}", "axis": family["axis"],
             "seen": family["seen_in_training"], "worst": family["conditions"][-1]}
            for family in record["families"]
        ],
    }  # fmt: skip
