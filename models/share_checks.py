"""Share checks: whether a network relies on each modality as much as that has to say, and whether that is real."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from .bootstrap import Interval
from .errors import require

_SUM_TOLERANCE = 1e-3  # shares read back from a report with three decimals are shares

MaybeShares = Sequence[float] | None
"""Shares of the modalities, or None where they were indeterminate."""


class MeasuredShares(Protocol):
    """What a report must say: both UtilizationReport and InformationReport do."""

    @property
    def modalities(self) -> tuple[str, ...]:
        """Names, in the order of the shares."""
        ...

    @property
    def share(self) -> tuple[float, ...] | None:
        """Shares, or None when indeterminate."""
        ...

    @property
    def share_interval(self) -> tuple[Interval, ...] | None:
        """Their 95 % intervals, or None when indeterminate."""
        ...


@dataclass(frozen=True, kw_only=True)
class UtilizationCalibration:
    """How far reliance is from information, over conditions.

    Attributes
    ----------
    error
        UCE in [0, 1], the mean over conditions that could be measured; None where there is none.
    by_condition
        Per condition ``1/2 sum_m |r_m - phi_m|`` in [0, 1], or None where either share is indeterminate.
    """

    error: float | None
    by_condition: dict[str, float | None]


def utilization_calibration_error(
    reliance_shares: Mapping[str, MaybeShares], information_shares: Mapping[str, MaybeShares]
) -> UtilizationCalibration:
    """Compare reliance with information in every condition (clear, cloud, noise, outage, ...).

    ``UCE = mean over conditions c of 1/2 sum_m |r_m(c) - phi_m(c)|``: 0 where the network relies on each modality in
    proportion to what it has to say, 1 where it relies on those alone that have nothing to say. The summand is the
    total variation distance of the two shares. Ours, no published measure.

    Parameters
    ----------
    reliance_shares
        Per condition ``UtilizationReport.share``, by a bounded score.
    information_shares
        Per condition ``InformationReport.share``, same conditions and order of modalities, by the same score.

    Returns
    -------
    UtilizationCalibration
        Conditions in which either share is indeterminate are left out of the mean and named with None.

    Raises
    ------
    ModelError
        The conditions or the numbers of modalities differ, or values are no shares.
    """
    require(
        set(reliance_shares) == set(information_shares), f"reliance in {tuple(reliance_shares)}",
        f"the conditions of the information, {tuple(information_shares)}", "measure both in every condition",
    )  # fmt: skip
    found = {name: _distance(share, information_shares[name]) for name, share in reliance_shares.items()}
    measured = [distance for distance in found.values() if distance is not None]
    return UtilizationCalibration(error=math.fsum(measured) / len(measured) if measured else None, by_condition=found)


def hack_alarm(ce_share: MaybeShares, bounded_share: MaybeShares, *, threshold: float = 0.1) -> tuple[bool, ...] | None:
    """Say for which modalities a controlled share is not what it seems.

    A network can lower a modality's share by cross entropy by nothing but raising the loss on mismatched pairs; a
    bounded score does not reward that. The alarm is on where the share by cross entropy lies more than ``threshold``
    below the share by a bounded score. Ours, from a pilot on a scene with an exact oracle.

    Parameters
    ----------
    ce_share
        Share of each modality by cross entropy, or None when indeterminate.
    bounded_share
        Share of each modality by a bounded score, or None when indeterminate.
    threshold
        In (0, 1].

    Returns
    -------
    tuple of bool, or None
        Per modality; None when either share is indeterminate: there is nothing to compare.

    Raises
    ------
    ModelError
        The numbers of modalities differ, values are no shares, or the threshold is out of range.
    """
    require(0 < threshold <= 1, f"a threshold of {threshold}", "more than 0, at most 1", "correct it")
    pair = _pair(ce_share, bounded_share)
    return None if pair is None else tuple(bounded - ce > threshold for ce, bounded in zip(*pair, strict=True))


@dataclass(frozen=True, kw_only=True)
class UnusedInformation:
    """What a network knows from a modality but does not rely on.

    Attributes
    ----------
    modalities
        Names, in the order of the tuples below.
    excess
        ``phi_m - r_m``: share of the information minus share of the reliance, in [-1, 1].
    interval
        95 % interval of it.
    flagged
        Whether the interval lies above 0.
    """

    modalities: tuple[str, ...]
    excess: tuple[float, ...]
    interval: tuple[Interval, ...]
    flagged: tuple[bool, ...]


def unused_information(information: MeasuredShares, reliance: MeasuredShares) -> UnusedInformation | None:
    """Find modalities whose information a network leaves unused.

    The interval of the difference follows from the two intervals (Zou and Donner, Statistics in Medicine 27, 2008):
    its lower end is ``d - sqrt((phi - phi_low)^2 + (r_high - r)^2)`` for ``d = phi - r``. That takes them for
    independent. On the same samples both tend to rise together, which makes it wider than it need be, so that a flag
    is not raised too easily.

    Parameters
    ----------
    information
        An :class:`~equipoise.models.information.InformationReport`.
    reliance
        A :class:`~equipoise.models.utilization_report.UtilizationReport` by the same score.

    Returns
    -------
    UnusedInformation or None
        None when either is indeterminate.

    Raises
    ------
    ModelError
        The modalities differ.
    """
    require(
        information.modalities == reliance.modalities, f"information of {information.modalities}",
        f"the modalities of the reliance, {reliance.modalities}", "measure both on one network",
    )  # fmt: skip
    told, used = information.share, reliance.share
    if told is None or used is None or information.share_interval is None or reliance.share_interval is None:
        return None
    excess, found = [], []
    for phi, r, (phi_low, phi_high), (r_low, r_high) in zip(
        told, used, information.share_interval, reliance.share_interval, strict=True
    ):
        low, high = math.hypot(phi - phi_low, r_high - r), math.hypot(phi_high - phi, r - r_low)
        excess.append(phi - r)
        found.append((phi - r - low, phi - r + high))
    return UnusedInformation(
        modalities=information.modalities,
        excess=tuple(excess),
        interval=tuple(found),
        flagged=tuple(low > 0 for low, _ in found),
    )


def _distance(first: MaybeShares, second: MaybeShares) -> float | None:
    pair = _pair(first, second)
    return None if pair is None else 0.5 * math.fsum(abs(r - phi) for r, phi in zip(*pair, strict=True))


def _pair(first: MaybeShares, second: MaybeShares) -> tuple[Sequence[float], Sequence[float]] | None:
    """Check two shares and return them, or None where either is indeterminate."""
    for shares in (first, second):
        if shares is not None:
            proper = abs(math.fsum(shares) - 1) <= _SUM_TOLERANCE and min(shares) >= 0
            require(proper, f"shares {tuple(shares)}", "numbers of at least 0 that sum to 1", "give a report's share")
    if first is None or second is None:
        return None
    require(len(first) == len(second), f"{len(first)} and {len(second)} shares", "as many", "keep one order")
    return first, second
