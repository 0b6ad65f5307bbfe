"""Task losses that honour ignored targets and stay finite when nothing is left to learn from."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .errors import ModelError, require, wanted

IGNORE = 255
"""Target value of pixels (or patches) that carry no label."""


class SegmentationLoss(nn.Module):
    """Cross entropy plus soft Dice over the classes present in the batch.

    ``loss = CE + dice_weight * (1 - mean_k 2 |P_k T_k| / (|P_k| + |T_k|))``, both over labelled pixels only
    (soft Dice: Milletari et al., 2016). A batch without a labelled pixel gives 0 with zero gradients.

    Parameters
    ----------
    class_weights
        One weight of at least 0 per class for the cross entropy, or None for equal weights.
    dice_weight
        Factor of the Dice term; 0 switches it off.
    ignore_index
        Target value to leave out.
    """

    class_weights: Tensor | None

    def __init__(
        self, *, class_weights: Sequence[float] | None = None, dice_weight: float = 1.0, ignore_index: int = IGNORE
    ) -> None:
        super().__init__()
        self.register_buffer("class_weights", _weights(class_weights))
        self.dice_weight = dice_weight
        self.ignore_index = ignore_index

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Compute the loss.

        Parameters
        ----------
        logits
            float (batch, class, y, x).
        target
            int64 (batch, y, x), class numbers or ``ignore_index``.

        Returns
        -------
        Tensor
            A finite scalar of at least 0.

        Raises
        ------
        ModelError
            Shapes disagree, or a target names a class that does not exist.
        """
        valid = labelled(logits, target, ignore_index=self.ignore_index)
        log_probability = logits.log_softmax(dim=1)
        loss = _cross_entropy(log_probability, target.where(valid, 0), valid=valid, weights=self.class_weights)
        if self.dice_weight:
            loss = loss + self.dice_weight * _dice(log_probability.exp(), target.where(valid, 0), valid=valid)
        return loss


class ClassificationLoss(nn.Module):
    """Cross entropy over labelled patches; 0 with zero gradients when there is none.

    Parameters
    ----------
    class_weights
        One weight of at least 0 per class, or None for equal weights.
    ignore_index
        Label to leave out.
    """

    class_weights: Tensor | None

    def __init__(self, *, class_weights: Sequence[float] | None = None, ignore_index: int = IGNORE) -> None:
        super().__init__()
        self.register_buffer("class_weights", _weights(class_weights))
        self.ignore_index = ignore_index

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Compute the loss of logits (batch, class) against int64 (batch,); a finite scalar of at least 0.

        Raises
        ------
        ModelError
            Shapes disagree, or a label names a class that does not exist.
        """
        valid = labelled(logits, target, ignore_index=self.ignore_index)
        return _cross_entropy(
            logits.log_softmax(dim=1), target.where(valid, 0), valid=valid, weights=self.class_weights
        )


def labelled(logits: Tensor, target: Tensor, *, ignore_index: int = IGNORE) -> Tensor:
    """Return where a target carries a label, after checking that it fits the logits.

    Parameters
    ----------
    logits
        float (batch, class, ...).
    target
        int64 (batch, ...).
    ignore_index
        Target value that carries no label.

    Returns
    -------
    Tensor
        bool, of the shape of ``target``.

    Raises
    ------
    ModelError
        Shapes disagree, or a target names a class that does not exist.
    """
    wish = (logits.shape[0], *logits.shape[2:])
    require(tuple(target.shape) == wish, f"a target of shape {tuple(target.shape)}", f"{wish}", "align the batch")
    valid = target != ignore_index
    strange = valid & ((target < 0) | (target >= logits.shape[1]))
    if strange.any():
        raise ModelError(
            wanted(
                f"class number {int(target[strange][0])} in a target",
                f"0 to {logits.shape[1] - 1}, or {ignore_index} to ignore",
                "map the labels to consecutive class numbers",
            )
        )
    return valid


def _weights(class_weights: Sequence[float] | None) -> Tensor | None:
    if class_weights is None:
        return None
    weights = torch.tensor(list(class_weights), dtype=torch.float32)
    require(
        bool(weights.isfinite().all() and (weights >= 0).all()),
        f"class weights {list(class_weights)}",
        "finite numbers of at least 0",
        "recompute them from the training histogram",
    )
    return weights


def _cross_entropy(log_probability: Tensor, target: Tensor, *, valid: Tensor, weights: Tensor | None) -> Tensor:
    """Weighted mean over valid places; dividing by the summed weights would be 0/0 where there is none."""
    weight = valid.to(log_probability.dtype) if weights is None else weights[target] * valid
    total = (F.nll_loss(log_probability, target, reduction="none") * weight).sum()
    return total / weight.sum().clamp_min(torch.finfo(total.dtype).eps)


def _dice(probability: Tensor, target: Tensor, *, valid: Tensor) -> Tensor:
    """One minus the mean soft Dice coefficient of the classes that occur in the batch."""
    classes = probability.shape[1]
    truth = F.one_hot(target, classes).movedim(-1, 1).to(probability.dtype) * valid[:, None]
    axes = (0, *range(2, probability.ndim))
    overlap = (probability * truth).sum(dim=axes)
    extent = truth.sum(dim=axes)
    mass = (probability * valid[:, None]).sum(dim=axes) + extent
    present = (extent > 0).to(probability.dtype)
    coefficient = 2 * overlap / mass.clamp_min(torch.finfo(mass.dtype).eps)
    return ((1 - coefficient) * present).sum() / present.sum().clamp_min(1)
