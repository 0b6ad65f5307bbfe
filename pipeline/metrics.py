"""Metrics from confusion matrices: what is reported of a prediction."""

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray


def summarise(confusion: NDArray[np.int64], *, names: Sequence[str]) -> dict[str, Any]:
    """Turn a confusion matrix into the figures of a report.

    Parameters
    ----------
    confusion
        int64 (class, class): truth in rows, prediction in columns; pixels or chips.
    names
        Class names in order.

    Returns
    -------
    ``mean_iou`` over the classes that occur in the truth, ``accuracy``, ``iou`` by class name (None where the class
    occurs neither in truth nor in prediction), ``mean_f1``, ``count``, and ``confusion`` as lists. Shares 0 to 1.
    """
    hits = np.diag(confusion).astype(np.float64)
    truth, predicted = confusion.sum(axis=1), confusion.sum(axis=0)
    union = truth + predicted - hits
    iou = np.divide(hits, union, out=np.full(len(hits), np.nan), where=union > 0)
    f1 = np.divide(2 * hits, truth + predicted, out=np.full(len(hits), np.nan), where=union > 0)
    occurs, total = truth > 0, int(confusion.sum())
    return {
        "mean_iou": float(iou[occurs].mean()) if occurs.any() else None,
        "accuracy": float(hits.sum() / total) if total else None,
        "mean_f1": float(f1[occurs].mean()) if occurs.any() else None,
        "iou": {name: None if np.isnan(value) else float(value) for name, value in zip(names, iou, strict=True)},
        "count": total,
        "confusion": confusion.tolist(),
    }


def majority(confusion: NDArray[np.int64], *, predicted: int) -> NDArray[np.int64]:
    """Return the confusion matrix of always predicting class number ``predicted`` on the same truth."""
    result = np.zeros_like(confusion)
    result[:, predicted] = confusion.sum(axis=1)
    return result


def subset_summary(scores: Mapping[str, float | None]) -> dict[str, Any]:
    """Sum up the scores of one network from every subset of its modalities.

    Parameters
    ----------
    scores
        Subset -> score, None where it was not measured. Names of a subset's modalities are joined by ``+``.

    Returns
    -------
    ``mean`` over subsets, ``worst`` (``subset`` and ``score``), and ``monotonicity``: of the ``pairs`` S within T, T
    one modality more, the ``share`` in which T scores no lower than S, and the ``largest_violation`` (``smaller``,
    ``larger``, and ``by`` how much the larger subset scores lower), None where there is none.
    """
    known = {name: score for name, score in scores.items() if score is not None}
    if not known:
        return {"mean": None, "worst": None, "monotonicity": {"pairs": 0, "share": None, "largest_violation": None}}
    members = {name: frozenset(name.split("+")) for name in known}
    pairs = [
        (small, large) for small, large in product(known, repeat=2)
        if members[small] < members[large] and len(members[large]) == len(members[small]) + 1
    ]  # fmt: skip
    losses = {pair: known[pair[0]] - known[pair[1]] for pair in pairs}
    worst, violation = min(known, key=lambda name: known[name]), None
    if losses and max(losses.values()) > 0:
        pair = max(losses, key=lambda key: losses[key])
        violation = {"smaller": pair[0], "larger": pair[1], "by": losses[pair]}
    share = sum(loss <= 0 for loss in losses.values()) / len(losses) if losses else None
    return {
        "mean": sum(known.values()) / len(known),
        "worst": {"subset": worst, "score": known[worst]},
        "monotonicity": {"pairs": len(losses), "share": share, "largest_violation": violation},
    }
