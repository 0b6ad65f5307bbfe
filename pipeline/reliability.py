"""Reliability: whether a network is as often right as it says, gathered in bins of its confidence."""

from typing import Any

import torch
from torch import Tensor

from ..models.losses import IGNORE

#: Bins of confidence, equally wide.
BINS = 15


class Reliability:
    """Counts of how confident a network was and how often it was right.

    A place's confidence is the probability of its likeliest class. Bins are closed below; the last is closed at 1, too.

    Parameters
    ----------
    bins
        Number of equally wide bins over 0 to 1.
    """

    def __init__(self, bins: int = BINS) -> None:
        self._edges = torch.linspace(0, 1, bins + 1)
        self._sums = torch.zeros(3, bins, dtype=torch.float64)

    def update(self, logits: Tensor, target: Tensor) -> None:
        """Count the labelled places of a batch.

        Parameters
        ----------
        logits
            float (batch, class, ...).
        target
            int64 (batch, ...), 255 to leave out.
        """
        known = target != IGNORE
        probability, answer = logits.softmax(dim=1).max(dim=1)
        confidence = probability[known].cpu()
        right = (answer == target)[known].cpu().double()
        bins = self._sums.shape[1]
        place = (torch.bucketize(confidence, self._edges, right=True) - 1).clamp(0, bins - 1)
        for row, values in enumerate((torch.ones_like(right), confidence.double(), right)):
            self._sums[row] += torch.bincount(place, weights=values, minlength=bins)

    def summary(self) -> dict[str, Any]:
        """Return the expected calibration error and what it is made of.

        ``ECE = sum_k n_k / n |accuracy_k - confidence_k|`` (Naeini, Cooper, Hauskrecht, AAAI 2015), the l1 norm over
        bins; 0 to 1.

        Returns
        -------
        ``ece`` (None where nothing was counted), ``norm``, and ``bins``: ``from``, ``to``, ``count``, and the mean
        ``confidence`` and ``accuracy`` in the bin, None where it is empty.
        """
        count, confidence, right = self._sums
        total, gap = count.sum(), (confidence - right).abs().sum()
        edges = self._edges.double().tolist()
        rows = zip(edges[:-1], edges[1:], count.tolist(), confidence.tolist(), right.tolist(), strict=True)
        bins = [
            {
                "from": low, "to": high, "count": int(number), "confidence": told / number if number else None,
                "accuracy": hit / number if number else None,
            }
            for low, high, number, told, hit in rows
        ]  # fmt: skip
        return {"ece": float(gap / total) if total else None, "norm": "l1", "bins": bins}
