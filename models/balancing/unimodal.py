"""Unimodal passes: what the shared decision layers say of each modality alone."""

from collections.abc import Iterator

import torch
from torch import Tensor

from .exchange import kept_statistics
from .strategy import Step


def alone(step: Step, column: int) -> tuple[Tensor, Tensor]:
    """Predict from one modality, for the samples in which the network saw it.

    Parameters
    ----------
    step
        Where the main pass has got to.
    column
        The modality.

    Returns
    -------
    rows : Tensor
        int64 (n,): the samples, n may be 0.
    logits : Tensor
        float (n, class, ...).
    """
    rows = step.available[:, column].nonzero().flatten()
    if len(rows) == 0:
        return rows, step.logits[rows]
    only = torch.zeros_like(step.available[rows])
    only[:, column] = True
    # No pass but the main one enters the running statistics of batch normalisation.
    with kept_statistics(step.network):
        return rows, step.decode(only, features=step.features.of(rows))


def unimodal_losses(step: Step) -> Iterator[tuple[int, Tensor]]:
    """Yield column and task loss of each modality that some sample of the batch has, from that modality alone."""
    for column in range(step.available.shape[1]):
        rows, logits = alone(step, column)
        if len(rows):
            yield column, step.criterion(logits, step.target[rows])
