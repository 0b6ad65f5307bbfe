"""Per-sample scores of a prediction: the currency in which reliance is counted."""

from collections.abc import Callable
from typing import Literal

from torch import Tensor
from torch.nn import functional as F

from .errors import ModelError, wanted
from .losses import IGNORE, labelled

ScoreName = Literal["brier", "cross_entropy"]


def brier_score(logits: Tensor, target: Tensor, *, ignore_index: int = IGNORE) -> Tensor:
    """Half the multi-class Brier score, mean over each sample's labelled places.

    ``b = 1/2 sum_k (p_k - [y = k])^2`` (Brier, 1950): 0 for certainty in the truth, 1 for certainty in an error.

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
        float (batch,) in [0, 1]; NaN for a sample without a labelled place.

    Raises
    ------
    ModelError
        The target does not fit the logits.
    """
    valid = labelled(logits, target, ignore_index=ignore_index)
    probability = logits.softmax(dim=1)
    hit = probability.gather(1, target.where(valid, 0)[:, None])[:, 0]
    # sum_k (p_k - y_k)^2 = sum_k p_k^2 - 2 p_y + 1 needs no one-hot tensor.
    score = 0.5 * (probability.square().sum(dim=1) - 2 * hit + 1)
    return _sample_mean(score.clamp(0, 1), valid)


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
    valid = labelled(logits, target, ignore_index=ignore_index)
    score = F.cross_entropy(logits, target.where(valid, 0), reduction="none")
    return _sample_mean(score, valid)


SCORES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"brier": brier_score, "cross_entropy": cross_entropy_score}


def build_score(name: str) -> Callable[[Tensor, Tensor], Tensor]:
    """Return the score of a name in :data:`SCORES`.

    Raises
    ------
    ModelError
        The name is unknown.
    """
    if name not in SCORES:
        raise ModelError(wanted(f"score {name!r}", f"one of {tuple(SCORES)}", "correct the name"))
    return SCORES[name]


def _sample_mean(score: Tensor, valid: Tensor) -> Tensor:
    # Samples without a label divide 0 by 0: the NaN says "undefined" and is left out by the meters.
    count = len(score)
    return (score * valid).reshape(count, -1).sum(dim=1) / valid.reshape(count, -1).sum(dim=1)
