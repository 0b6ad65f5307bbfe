"""UtilizationReport: permutation reliance with intervals over samples, and the rule that says "not measurable"."""

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

_INTERVAL = (0.025, 0.975)
_FLOOR_DEVIATIONS = 2.0
_LEAST_FLOOR = 1e-6  # the resolution of float32 scores of order 1


@dataclass(frozen=True, kw_only=True)
class UtilizationReport:
    """Permutation reliance of a network on a set of samples.

    Attributes
    ----------
    metric
        ``"permutation_reliance"``; other meters are other numbers.
    score
        ``"brier"`` (bounded) or ``"cross_entropy"`` (unbounded, overstates the dominant modality).
    modalities
        Names, in the order of every tuple below.
    reliance
        ``R_m``: rise of the expected score when modality m comes from another sample; NaN where no two samples of
        a batch had the modality.
    reliance_interval
        95 % percentile bootstrap interval over samples, (low, high) per modality.
    share
        ``[R_m]+ / sum [R]+``, or None when indeterminate.
    share_interval
        95 % interval of the share, or None when indeterminate.
    indeterminate
        True when ``sum [R]+`` does not exceed ``noise_floor``: the network relies on nothing measurable.
    noise_floor
        Twice the bootstrap standard deviation of ``sum [R]+``, at least 1e-6.
    baseline
        Expected score without permutation.
    samples
        Number of samples (patches) with a defined score.
    pairs
        Per modality the number of samples whose modality could be exchanged.
    rolls, bootstrap, seed
        As asked for.
    """

    metric: str
    score: str
    modalities: tuple[str, ...]
    reliance: tuple[float, ...]
    reliance_interval: tuple[tuple[float, float], ...]
    share: tuple[float, ...] | None
    share_interval: tuple[tuple[float, float], ...] | None
    indeterminate: bool
    noise_floor: float
    baseline: float
    samples: int
    pairs: tuple[int, ...]
    rolls: int
    bootstrap: int
    seed: int

    def to_dict(self) -> dict[str, Any]:
        """Return lists and numbers for JSON; NaN becomes None."""
        return {name: _plain(value) for name, value in asdict(self).items()}


@dataclass(frozen=True, kw_only=True)
class Exchanges:
    """What happened to each sample when modalities were exchanged; float64, NaN where undefined.

    Attributes
    ----------
    base
        (sample,): score as it is.
    received
        (sample, modality): mean rise of the sample's own score when it received the modality of others.
    donated
        (sample, modality): mean rise of the others' scores when they received the sample's modality.
    """

    base: Tensor
    received: Tensor
    donated: Tensor

    @property
    def influence(self) -> Tensor:
        """Each sample's part in the mean rise, (sample, modality).

        A sample acts as receiver and as donor; resampling its receipts alone gives intervals that are too narrow
        (measured: a nominal 95 % covered 74 % with 7 rolls in batches of 8). The mean stays that of ``received``.
        """
        return self.received + (self.donated - self.donated.nanmean(dim=0)).nan_to_num()


def summarised(
    exchanges: Exchanges,
    *,
    modalities: tuple[str, ...],
    score: str,
    rolls: int,
    bootstrap: int,
    seed: int,
    generator: torch.Generator,
) -> UtilizationReport:
    """Average over samples, bootstrap, and decide whether shares can be told from noise.

    Parameters
    ----------
    exchanges
        The measurement.
    modalities, score, rolls, bootstrap, seed
        As in :class:`UtilizationReport`.
    generator
        Source of the bootstrap draws.

    Returns
    -------
    UtilizationReport
        The summary.
    """
    rise = exchanges.received
    replicates = _bootstrap(exchanges.influence, count=bootstrap, generator=generator)
    reliance = rise.nanmean(dim=0)
    positive = replicates.nan_to_num().clamp_min(0)
    floor = max(_FLOOR_DEVIATIONS * float(positive.sum(dim=1).std()), _LEAST_FLOOR)
    total = float(reliance.nan_to_num().clamp_min(0).sum())
    determinate = total > floor
    share = reliance.nan_to_num().clamp_min(0) / max(total, _LEAST_FLOOR)
    shares = positive / positive.sum(dim=1, keepdim=True).clamp_min(_LEAST_FLOOR)
    return UtilizationReport(
        metric="permutation_reliance",
        score=score,
        modalities=modalities,
        reliance=tuple(reliance.tolist()),
        reliance_interval=_intervals(replicates),
        share=tuple(share.tolist()) if determinate else None,
        share_interval=_intervals(shares) if determinate else None,
        indeterminate=not determinate,
        noise_floor=floor,
        baseline=float(exchanges.base.mean()),
        samples=len(exchanges.base),
        pairs=tuple(rise.isfinite().sum(dim=0).tolist()),
        rolls=rolls,
        bootstrap=bootstrap,
        seed=seed,
    )


def _intervals(replicates: Tensor) -> tuple[tuple[float, float], ...]:
    low, high = replicates.nanquantile(torch.tensor(_INTERVAL, dtype=replicates.dtype), dim=0).tolist()
    return tuple(zip(low, high, strict=True))


def _plain(value: Any) -> Any:
    if isinstance(value, tuple | list):
        return [_plain(entry) for entry in value]
    return None if isinstance(value, float) and value != value else value


def _bootstrap(rise: Tensor, *, count: int, generator: torch.Generator) -> Tensor:
    """Resample rows (samples, never pixels) and return the mean rises (count, modality)."""
    draws = (torch.randint(len(rise), (len(rise),), generator=generator) for _ in range(count))
    return torch.stack([rise[draw].nanmean(dim=0) for draw in draws])
