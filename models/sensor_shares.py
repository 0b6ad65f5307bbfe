"""Shares of a sensor from those of its dates: sums, and what all of its dates are worth together, exactly."""

from collections.abc import Sequence

import torch

from .coalitions import coalitions, shapley_values
from .errors import require


def summed(values: Sequence[float], groups: Sequence[str]) -> dict[str, float]:
    """Return group -> sum of the values of its members, groups in the order of their first members.

    Parameters
    ----------
    values
        One a member, as shares of reliance.
    groups
        Of each member.

    Raises
    ------
    ModelError
        There are not as many groups as values.
    """
    require(len(values) == len(groups), f"{len(values)} values", f"{len(groups)}", "give one a member")
    found = dict.fromkeys(groups, 0.0)
    for value, group in zip(values, groups, strict=True):
        found[group] += value
    return found


def group_information(value: Sequence[float], groups: Sequence[str]) -> dict[str, float]:
    """Return what each group tells when its members come and go together.

    The Shapley values of the game whose players are the groups (Owen, 1977, calls it the quotient game): ``v`` of a set
    of groups is that of all of their members. They sum to ``v(all) - v(none)``, as those of the members do, but a group
    need not be the sum of its members: dates that tell something only together, or that repeat each other, share with
    the other sensors differently than the sensor does as one.

    Parameters
    ----------
    value
        ``v(S)`` of every subset of the members, in the order of :func:`~equipoise.models.coalitions.coalitions`.
    groups
        Of each member, 1 to 16 of them.

    Returns
    -------
    dict
        Group -> value, in the units of ``v``; groups in the order of their first members.

    Raises
    ------
    ModelError
        ``value`` is not ``2 ** len(groups)`` long.
    """
    require(
        len(value) == 2 ** len(groups), f"{len(value)} coalition values", f"2 ** {len(groups)}",
        "give one value per subset",
    )  # fmt: skip
    names = tuple(dict.fromkeys(groups))
    bits = torch.tensor([[1 << member if groups[member] == name else 0 for member in range(len(groups))]
                         for name in names]).sum(dim=1)  # fmt: skip
    positions = (coalitions(len(names)).long() * bits).sum(dim=1)
    whole = torch.tensor(list(value), dtype=torch.float64)[positions]
    return dict(zip(names, shapley_values(whole, members=len(names)).tolist(), strict=True))


def shares(values: dict[str, float]) -> dict[str, float] | None:
    """Return ``[v]+ / sum [v]+`` of each, or None where none is above 0."""
    positive = {name: max(value, 0.0) for name, value in values.items()}
    total = sum(positive.values())
    return {name: value / total for name, value in positive.items()} if total > 0 else None
