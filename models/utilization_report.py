"""UtilizationReport: permutation reliance with intervals over samples."""

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from .bootstrap import Interval, intervals, resampled_means, shares_of
from .exchanges import Exchanges, Level


@dataclass(frozen=True, kw_only=True)
class UtilizationReport:
    """Permutation reliance of a network on a set of samples.

    Attributes
    ----------
    metric
        ``"permutation_reliance"``; other meters are other numbers.
    score
        ``"brier"`` or ``"clipped_ce"`` (bounded), or ``"cross_entropy"`` (unbounded, overstates the dominant modality).
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
    against
        What predictions were scored against: ``"labels"``, ``"own_class"`` or ``"own_probability"``.
    level
        What moved: ``"feature"`` or ``"input"``.
    """

    metric: str
    score: str
    modalities: tuple[str, ...]
    reliance: tuple[float, ...]
    reliance_interval: tuple[Interval, ...]
    share: tuple[float, ...] | None
    share_interval: tuple[Interval, ...] | None
    indeterminate: bool
    noise_floor: float
    baseline: float
    samples: int
    pairs: tuple[int, ...]
    rolls: int
    bootstrap: int
    seed: int
    against: str = "labels"
    level: Level = "feature"

    @property
    def percent(self) -> tuple[float, ...] | None:
        """Shares in percent, as utilization is reported in the literature; None when indeterminate."""
        return None if self.share is None else tuple(100 * share for share in self.share)

    def to_dict(self) -> dict[str, Any]:
        """Return lists and numbers for JSON; NaN becomes None."""
        return plain(asdict(self))


def summarised(
    exchanges: Exchanges,
    *,
    modalities: tuple[str, ...],
    score: str,
    rolls: int,
    bootstrap: int,
    seed: int,
    generator: torch.Generator,
    against: str = "labels",
    level: Level = "feature",
) -> UtilizationReport:
    """Average over samples, bootstrap, and decide whether shares can be told from noise.

    Parameters
    ----------
    exchanges
        The measurement, one column.
    modalities, score, rolls, bootstrap, seed, against, level
        As in :class:`UtilizationReport`.
    generator
        Source of the bootstrap draws.

    Returns
    -------
    UtilizationReport
        The summary.
    """
    known = exchanges.base[:, 0].isfinite()
    received, donated = (
        torch.cat([exchanges.mean_by(part, exchanges.rise, modality=m) for m in range(len(modalities))], dim=1)[known]
        for part in (exchanges.receiver, exchanges.donor)
    )
    reliance = received.nanmean(dim=0)
    replicates = resampled_means(influence(received, donated), count=bootstrap, generator=generator)
    shares = shares_of(reliance, replicates)
    return UtilizationReport(
        metric="permutation_reliance",
        score=score,
        modalities=modalities,
        reliance=tuple(reliance.tolist()),
        reliance_interval=intervals(replicates),
        share=shares.share,
        share_interval=shares.share_interval,
        indeterminate=shares.indeterminate,
        noise_floor=shares.noise_floor,
        baseline=float(exchanges.base[known].mean()),
        samples=int(known.sum()),
        pairs=tuple(received.isfinite().sum(dim=0).tolist()),
        rolls=rolls,
        bootstrap=bootstrap,
        seed=seed,
        against=against,
        level=level,
    )


def influence(received: Tensor, donated: Tensor) -> Tensor:
    """Return each sample's part in the mean rise, of the shape of the arguments (sample, modality).

    A sample acts as receiver and as donor; resampling its receipts alone gives intervals that are too narrow
    (measured: a nominal 95 % covered 74 % with 7 rolls in batches of 8). The mean stays that of ``received``.
    """
    return received + (donated - donated.nanmean(dim=0)).nan_to_num()


def plain(value: Any) -> Any:
    """Return a value in lists, dicts and numbers for JSON; NaN becomes None."""
    if isinstance(value, dict):
        return {key: plain(entry) for key, entry in value.items()}
    if isinstance(value, tuple | list):
        return [plain(entry) for entry in value]
    return None if isinstance(value, float) and value != value else value
