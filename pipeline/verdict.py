"""Verdict: whether a wanted share arrived, in words; it imports nothing heavy, for the terminal."""

from collections.abc import Mapping
from typing import Any

Record = Mapping[str, Any]

#: Mean IoU by which one sensor must be ahead of all of them before that is said.
MUCH_BETTER = 0.05


def verdict_words(item: Record) -> str:
    """Say in one phrase whether a wanted share arrived: the same in the report and on the terminal.

    Parameters
    ----------
    item
        As :func:`~equipoise.pipeline.utilization.arrival` gives it.
    """
    low, high = (f"{value:.0%}" for value in item["wanted"])
    wish = f"wanted {low}" if low == high else f"wanted {low} to {high}"
    if item["share"] is None:
        return f"{wish}: undecided; indeterminate, no reliance above the noise"
    share = f"{item['share']:.0%}"
    interval = "" if item["interval"] is None else f" ({item['interval'][0]:.0%} to {item['interval'][1]:.0%})"
    if item["verdict"] == "missed":
        return f"{wish}: missed; nearest share found: {item['nearest']:.0%}{interval}"
    if item["verdict"] == "undecided":
        return f"{wish}: undecided; found {share}{interval}, nearest share found: {item['nearest']:.0%}"
    return f"{wish}: arrived, {share}{interval}"


def useless_words(evaluation: Mapping[str, Any]) -> str | None:
    """Say that a network is no better than no network, where it is so.

    Parameters
    ----------
    evaluation
        As :func:`~equipoise.pipeline.evaluate.evaluate` gives it.

    Returns
    -------
    A sentence; None where the network is better than always answering the most frequent class of the training, or where
    that cannot be told.
    """
    fusion, constant = evaluation["fusion"]["mean_iou"], evaluation["majority"]["mean_iou"]
    if fusion is None or constant is None or fusion > constant:
        return None
    return (
        f"Not worth looking at: mean IoU {fusion:.3f} on the test split is no better than always answering the most "
        f"frequent class of the training ({constant:.3f}). It needs more labels, or other places"
    )


def beaten_words(evaluation: Mapping[str, Any]) -> str | None:
    """Say that one sensor alone does better than all of them together, where it is so.

    Parameters
    ----------
    evaluation
        As :func:`~equipoise.pipeline.evaluate.evaluate` gives it.

    Returns
    -------
    A sentence; None where the fusion network is within :data:`MUCH_BETTER` of the best network of one sensor, or that
    was not measured.
    """
    fusion = evaluation["fusion"]["mean_iou"]
    alone = {name: item["mean_iou"] for name, item in evaluation["single"].items() if item["mean_iou"] is not None}
    if fusion is None or not alone:
        return None
    best = max(alone, key=lambda name: alone[name])
    if alone[best] - fusion <= MUCH_BETTER:
        return None
    return (
        f"A network of {best} alone does better: mean IoU {alone[best]:.3f} on the test split, the fusion network "
        f"{fusion:.3f}. Either it needs more epochs, or the other sensors add nothing here"
    )


def undecided_words(evaluation: Mapping[str, Any]) -> str | None:
    """Say that the test split cannot tell whether what a map rests on helps it, where it is so.

    Parameters
    ----------
    evaluation
        As :func:`~equipoise.pipeline.evaluate.evaluate` gives it.

    Returns
    -------
    A sentence; None where the utilization of the sensors is above its noise.
    """
    used = evaluation["utilization"]["brier"]
    if not used["indeterminate"]:
        return None
    return (
        f"Whether a sensor makes its answers better cannot be told: on {used['samples']} test patches no sensor's "
        "use is above the noise."
    )
