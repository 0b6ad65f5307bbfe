"""Metrics from confusion matrices: what is reported of a prediction."""

from collections.abc import Sequence
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
