"""Coalitions: every subset of the modalities, and exact Shapley values over them."""

import math

import torch
from torch import Tensor

from .errors import require

_MOST_MEMBERS = 16  # 65536 coalitions: beyond it exact enumeration is out of reach


def coalitions(members: int) -> Tensor:
    """List all subsets.

    Parameters
    ----------
    members
        Number of modalities M, 1 to 16.

    Returns
    -------
    Tensor
        bool (2 ** M, M): row ``s`` holds modality ``m`` where bit ``m`` of ``s`` is set; row 0 is empty.

    Raises
    ------
    ModelError
        ``members`` is out of range.
    """
    require(1 <= members <= _MOST_MEMBERS, f"{members} members", f"1 to {_MOST_MEMBERS}", "use fewer modalities")
    codes = torch.arange(2**members)
    return ((codes[:, None] >> torch.arange(members)) & 1).bool()


def shapley_values(values: Tensor, *, members: int) -> Tensor:
    """Exact Shapley values of a set function.

    ``phi_m = sum_{S without m} |S|! (M - |S| - 1)! / M! (v(S + m) - v(S))`` (Shapley, 1953);
    they sum to ``v(all) - v(none)``.

    Parameters
    ----------
    values
        (2 ** M, ...): ``v(S)`` in the order of :func:`coalitions`; trailing axes (pixels, samples) are independent.
    members
        Number of modalities M.

    Returns
    -------
    Tensor
        (M, ...), float32 or float64 like ``values``; half precision and integers become float32.

    Raises
    ------
    ModelError
        The first axis is not 2 ** M long.
    """
    subsets = coalitions(members)
    length = values.shape[0] if values.ndim else 0
    require(length == 2**members, f"{length} coalition values", f"2 ** {members}", "give one value per subset")
    if values.dtype not in (torch.float32, torch.float64):
        values = values.float()
    shares = []
    for member in range(members):
        without = (~subsets[:, member]).nonzero().flatten()
        gain = values[without + (1 << member)] - values[without]
        weights = gain.new_tensor([_weight(int(size), members) for size in subsets[without].sum(dim=1)])
        shares.append(torch.tensordot(weights, gain, dims=1))
    return torch.stack(shares)


def _weight(size: int, members: int) -> float:
    return math.factorial(size) * math.factorial(members - size - 1) / math.factorial(members)
