"""Scores of a prediction: the currency in which reliance and information are counted."""

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from .errors import ModelError, wanted
from .losses import IGNORE, labelled

ScoreName = Literal["brier", "cross_entropy", "clipped_ce"]

#: Probability of the truth at which the clipped cross entropy has all but reached 1.
_CLIP = 0.01


def brier_places(logits: Tensor, truth: Tensor) -> Tensor:
    """Half the multi-class Brier score of each place.

    ``b = 1/2 sum_k (p_k - [y = k])^2`` (Brier, 1950): 0 for certainty in the truth, 1 for certainty in an error.

    Parameters
    ----------
    logits
        float (batch, class, ...).
    truth
        int64 (batch, ...), class numbers; or float (batch, class, ...), a distribution over classes, which gives the
        expected score of a truth drawn from it.

    Returns
    -------
    Tensor
        float (batch, ...) in [0, 1].
    """
    probability = full_precision(logits).softmax(dim=1)
    # sum_k (p_k - y_k)^2 = sum_k p_k^2 - 2 p_y + 1 needs no one-hot tensor.
    score = 0.5 * (probability.square().sum(dim=1) - 2 * _picked(probability, truth) + 1)
    return score.clamp(0, 1)


def cross_entropy_places(logits: Tensor, truth: Tensor) -> Tensor:
    """Cross entropy ``-log p_y`` of each place in nats; arguments as in :func:`brier_places`, result at least 0."""
    return -_picked(full_precision(logits).log_softmax(dim=1), truth)


def clipped_ce_places(logits: Tensor, truth: Tensor) -> Tensor:
    """Cross entropy that levels off smoothly, per place.

    ``b = log(c + (1 - c) p_y) / log(c)`` with ``c = 0.01``: 0 for ``p_y = 1`` and 1 for ``p_y = 0``, everywhere with a
    gradient, unlike a hard clip. Near certainty it has the shape of the cross entropy; an error can cost no more
    than 1. It rewards the true distribution only up to the order of ``c``, whereas the Brier score does so exactly.

    Parameters
    ----------
    logits, truth
        As in :func:`brier_places`.

    Returns
    -------
    Tensor
        float (batch, ...) in [0, 1].
    """
    # Picking first would be wrong for a distribution: the logarithm is taken of each class's probability.
    score = (_CLIP + (1 - _CLIP) * full_precision(logits).softmax(dim=1)).log() / math.log(_CLIP)
    return _picked(score, truth).clamp(0, 1)


PLACE_SCORES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "brier": brier_places,
    "cross_entropy": cross_entropy_places,
    "clipped_ce": clipped_ce_places,
}


def brier_score(logits: Tensor, target: Tensor, *, ignore_index: int = IGNORE) -> Tensor:
    """Half the multi-class Brier score, mean over each sample's labelled places.

    Parameters
    ----------
    logits
        float (batch, class, y, x) or (batch, class).
    target
        int64 (batch, y, x) or (batch,).
    ignore_index
        Target value to leave out.

    Returns
    -------
    Tensor
        float (batch,) in [0, 1], see :func:`brier_places`; NaN for a sample without a labelled place.

    Raises
    ------
    ModelError
        The target does not fit the logits.
    """
    return _sample_mean("brier", logits, target, ignore_index=ignore_index)


def cross_entropy_score(logits: Tensor, target: Tensor, *, ignore_index: int = IGNORE) -> Tensor:
    """Cross entropy in nats, mean over each sample's labelled places.

    Parameters
    ----------
    logits, target, ignore_index
        As in :func:`brier_score`.

    Returns
    -------
    Tensor
        float (batch,), at least 0 and unbounded; NaN for a sample without a labelled place.

    Raises
    ------
    ModelError
        The target does not fit the logits.
    """
    return _sample_mean("cross_entropy", logits, target, ignore_index=ignore_index)


def clipped_ce_score(logits: Tensor, target: Tensor, *, ignore_index: int = IGNORE) -> Tensor:
    """Smoothly clipped cross entropy, mean over each sample's labelled places.

    Parameters
    ----------
    logits, target, ignore_index
        As in :func:`brier_score`.

    Returns
    -------
    Tensor
        float (batch,) in [0, 1], see :func:`clipped_ce_places`; NaN for a sample without a labelled place.

    Raises
    ------
    ModelError
        The target does not fit the logits.
    """
    return _sample_mean("clipped_ce", logits, target, ignore_index=ignore_index)


SCORES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "brier": brier_score,
    "cross_entropy": cross_entropy_score,
    "clipped_ce": clipped_ce_score,
}


def build_score(name: str) -> Callable[[Tensor, Tensor], Tensor]:
    """Return the score of a name in :data:`SCORES`.

    Raises
    ------
    ModelError
        The name is unknown.
    """
    _check(name)
    return SCORES[name]


def place_scores(name: str, logits: Tensor, target: Tensor, *, ignore_index: int = IGNORE) -> Tensor:
    """Score every place against its label.

    Parameters
    ----------
    name
        A name in :data:`PLACE_SCORES`.
    logits
        float (batch, class, ...).
    target
        int64 (batch, ...).
    ignore_index
        Target value to leave out.

    Returns
    -------
    Tensor
        float (batch, ...); NaN where there is no label.

    Raises
    ------
    ModelError
        The name is unknown, or the target does not fit the logits.
    """
    _check(name)
    valid = labelled(logits, target, ignore_index=ignore_index)
    return PLACE_SCORES[name](logits, target.where(valid, 0)).where(valid, torch.nan)


def class_sums(places: Tensor, target: Tensor, *, classes: int, ignore_index: int = IGNORE) -> Tensor:
    """Add up what lies at the labelled places of each class.

    Parameters
    ----------
    places
        float (batch, ...); read at labelled places alone.
    target
        int64 (batch, ...), class numbers below ``classes`` or ``ignore_index``.
    classes
        Number of classes K.
    ignore_index
        Target value to leave out.

    Returns
    -------
    Tensor
        float64 (batch, K).
    """
    valid = (target != ignore_index).reshape(len(target), -1)
    values = places.double().reshape(len(target), -1).where(valid, 0)
    empty = values.new_zeros(len(target), classes)
    return empty.scatter_add(1, target.reshape(len(target), -1).where(valid, 0), values)


def _check(name: str) -> None:
    if name not in SCORES:
        raise ModelError(wanted(f"score {name!r}", f"one of {tuple(SCORES)}", "correct the name"))


def full_precision(logits: Tensor) -> Tensor:
    """Return logits in float32 at least: scores and losses of bfloat16 would be noise."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def _picked(values: Tensor, truth: Tensor) -> Tensor:
    """Take the values (batch, class, ...) of the true class, or their mean over a distribution of the truth."""
    if truth.is_floating_point():
        return (values * truth).sum(dim=1)
    return values.gather(1, truth[:, None])[:, 0]


def _sample_mean(name: str, logits: Tensor, target: Tensor, *, ignore_index: int) -> Tensor:
    valid = labelled(logits, target, ignore_index=ignore_index)
    score = PLACE_SCORES[name](logits, target.where(valid, 0))
    # Samples without a label divide 0 by 0: the NaN says "undefined" and is left out by the meters.
    count = len(score)
    return (score * valid).reshape(count, -1).sum(dim=1) / valid.reshape(count, -1).sum(dim=1)
