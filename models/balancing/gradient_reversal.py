"""Gradient reversal: what a detector learns from features, the features learn to hide."""

import math
from typing import Any

import torch
from torch import Tensor

#: How fast the weight rises; that of Ganin et al.
_STEEPNESS = 10.0


class _Reversal(torch.autograd.Function):
    """Identity whose gradient comes back negative."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, weight: float) -> Tensor:
        ctx.weight = weight
        return values.view_as(values)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return -ctx.weight * grads[0], None


def reversed_gradient(values: Tensor, weight: float) -> Tensor:
    """Return the values as they are; a gradient ``g`` that comes back to them becomes ``-weight * g``.

    After Ganin et al., "Domain-adversarial training of neural networks" (JMLR 2016), section 4.2.

    Parameters
    ----------
    values
        Any shape.
    weight
        0 or more; 0 stops the gradient.

    Returns
    -------
    Tensor
        Equal to ``values``, of its shape and type.
    """
    reversed_: Tensor = _Reversal.apply(values, weight)
    return reversed_


def ramp(progress: float, *, most: float) -> float:
    """Return the weight of the reversed gradient: ``most * (2 / (1 + exp(-10 p)) - 1)`` (there, section 5.2.2).

    Parameters
    ----------
    progress
        ``p``: share of the training that is done, 0 to 1.
    most
        What the weight rises to.

    Returns
    -------
    float
        0 at the beginning, half of ``most`` after a ninth of the training, .9999 of it at the end.
    """
    return most * (2.0 / (1.0 + math.exp(-_STEEPNESS * progress)) - 1.0)
