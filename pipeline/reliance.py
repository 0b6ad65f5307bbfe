"""Reliance: which sensor a prediction rests on, from the network's answers to every subset of the modalities."""

from collections.abc import Callable, Mapping
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..models.coalitions import coalitions, shapley_values
from ..models.features import Features
from ..models.three_steps import ThreeSteps

#: Below this mean |phi| (probability), summed over modalities, a tile's shares are noise, not reliance.
INDETERMINATE_BELOW = 0.02


#: How a contribution is measured, and the name of its shares in the tags of a map.
Method = Literal["shapley", "leave_one_out"]
METRICS: Mapping[str, str] = {"shapley": "shapley_share", "leave_one_out": "leave_one_out_share"}


@torch.inference_mode()
def contributions(
    network: ThreeSteps,
    features: Features,
    available: Tensor,
    *,
    full: Tensor,
    prior: Tensor,
    method: Method = "shapley",
    synergy: bool = False,
    core: slice | None = None,
    every: int = 1,
) -> Tensor:
    """Contribution of each modality to the probability of the predicted class, without labels.

    ``v(S)`` is the probability, from the modalities S alone, of the class that all of them predict; ``v(none)`` is
    the class prior. ``shapley``: exact Shapley values, which sum to ``v(all) - v(none)`` (efficiency; Shapley 1953);
    2^M - 2 more passes of fusion and decoder for M modalities. ``leave_one_out``: ``v(all) - v(all but m)``, M passes;
    what two sensors both know counts for neither.

    Parameters
    ----------
    network
        In evaluation mode, trained with subset sampling.
    features
        Encoded windows.
    available
        bool (batch, modality).
    full
        Logits (batch, class, ...) from all that is available.
    prior, method
        Class shares (class,), summing to 1; and how contributions are measured.
    core
        Rows, and columns, of the windows that are looked at, the others being neighbours' cores; None: all.
    every
        Look at every n-th row and column of the core, from its first on: enough where means of tiles are wanted.
    synergy
        Add a channel behind the modalities: ``v(all) - v(none) - sum_m (v(m) - v(none))``, what all present ones tell
        together beyond what each tells alone; negative where they tell the same. Of ``shapley`` only.

    Returns
    -------
    float32 (batch, modality, ...) of the core: 0 for modalities that no window has.
    """
    if core is not None:
        full = full[..., core, core][..., ::every, ::every]
    # On channels that lie apart, max finds the same place ten times as fast as argmax.
    predicted = full.max(dim=1, keepdim=True).indices
    columns = available.any(dim=0).nonzero().flatten().tolist()
    channels = available.shape[1] + synergy
    total = torch.zeros(available.shape[0], channels, *full.shape[2:], device=full.device)
    if not columns:
        return total
    none, everything = prior.to(full.device)[predicted[:, 0]], _probability(full, predicted)
    answer = network.core_answers(features, core, every=every)

    def value(subset: Tensor) -> Tensor:
        allowed = torch.zeros_like(available)
        allowed[:, columns] = available[:, columns] & subset.to(available.device)
        return _value(answer, allowed, predicted=predicted, none=none)

    if method == "leave_one_out":
        shares = torch.stack([everything - value(~alone) for alone in torch.eye(len(columns), dtype=torch.bool)])
    else:
        shares, beyond = _shapley(value, members=len(columns), none=none, everything=everything)
        if synergy:
            total[:, -1] = beyond
    total[:, columns] = shares.transpose(0, 1)
    return total


def _shapley(
    value: Callable[[Tensor], Tensor], *, members: int, none: Tensor, everything: Tensor
) -> tuple[Tensor, Tensor]:
    """Return Shapley values (member, batch, ...) and the synergy (batch, ...) of a value function of subsets."""
    subsets = coalitions(members)
    values = torch.stack([none, *(value(subset) for subset in subsets[1:-1]), everything])
    alone = values[(subsets.sum(dim=1) == 1).to(values.device)]
    return shapley_values(values, members=members), everything - none - (alone - none).sum(dim=0)


def _value(answer: Callable[[Tensor], Tensor], allowed: Tensor, *, predicted: Tensor, none: Tensor) -> Tensor:
    """Return the probability of the predicted class from the modalities that are allowed, ``none`` from no modality."""
    alone = allowed.any(dim=1)
    if not alone.any():
        return none
    found = _probability(answer(allowed), predicted)
    # A subset of which a window has nothing knows no more than the prior.
    return found if alone.all() else torch.where(alone.view(-1, *[1] * (none.ndim - 1)), found, none)


def _probability(logits: Tensor, predicted: Tensor) -> Tensor:
    return logits.softmax(dim=1).gather(1, predicted)[:, 0]


def tile_sums(
    phi: NDArray[np.float32], valid: NDArray[np.bool_], *, tile: int
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Sum |phi| over the valid pixels of square tiles.

    Parameters
    ----------
    phi
        float32 (modality, y, x); y and x are multiples of ``tile``.
    valid
        bool (y, x), True where there is a prediction.
    tile
        Edge of a tile, px.

    Returns
    -------
    Sums float32 (modality, tile rows, tile columns), and counts of valid pixels int32 (tile rows, tile columns).
    """
    rows, cols = valid.shape[0] // tile, valid.shape[1] // tile
    magnitude = signed_tile_sums(np.abs(phi), valid, tile=tile)
    return magnitude, valid.reshape(rows, tile, cols, tile).sum(axis=(1, 3), dtype=np.int32)


def signed_tile_sums(phi: NDArray[np.float32], valid: NDArray[np.bool_], *, tile: int) -> NDArray[np.float32]:
    """Sum phi, with its sign, as :func:`tile_sums` sums its magnitude."""
    rows, cols = valid.shape[0] // tile, valid.shape[1] // tile
    return np.where(valid, phi, 0).reshape(-1, rows, tile, cols, tile).sum(axis=(2, 4))


def tile_means(sums: NDArray[np.float32], counts: NDArray[np.int32]) -> NDArray[np.float32]:
    """Turn sums over valid pixels into means, float32 of the same shape; NaN where nothing was predicted."""
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan).astype(np.float32)


def tile_shares(sums: NDArray[np.float32], counts: NDArray[np.int32]) -> NDArray[np.float32]:
    """Turn sums of |phi| into shares.

    Returns
    -------
    float32 (modality, tile rows, tile columns), 0 to 1, summing to 1; NaN where nothing was predicted or the mean
    |phi| is below :data:`INDETERMINATE_BELOW`.
    """
    total = sums.sum(axis=0)
    defined = (counts > 0) & (total >= INDETERMINATE_BELOW * np.maximum(counts, 1))
    return np.where(defined, sums / np.where(defined, total, 1), np.nan).astype(np.float32)
