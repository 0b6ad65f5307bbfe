"""Missing-modality probe: whether one can tell from a network's fused features which modality was not there."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from .bootstrap import Interval, intervals, resampled_sums
from .coalitions import coalitions
from .errors import require
from .evaluation import Batch, ThreeStepNetwork, encoded, evaluating, observed
from .utilization_report import plain

#: Samples without which there is nothing to learn from and to test on.
LEAST_SAMPLES = 8

#: Weight of the squared coefficients, so that a probe of many channels and few samples does not memorise.
_DECAY = 1e-2

_STEPS = 100


@dataclass(frozen=True, kw_only=True)
class MissingProbe:
    """What a linear probe of the coarsest fused features tells of each modality's presence.

    A network whose fused features are the same whatever was missing gives .5; one that hands on *what* it saw along
    with *that* it saw it gives 1. After the missing-modality detector that Konwer et al. (ICCV 2023) train against;
    ours is linear, fitted afterwards, and changes nothing.

    Attributes
    ----------
    metric
        ``"missing_modality_probe"``.
    modalities
        Names, in the order of the other tuples.
    accuracy
        Balanced accuracy on samples that the probe was not fitted on, 0 to 1; .5 is chance. None with fewer than
        :data:`LEAST_SAMPLES` samples, or where the modality never was or never was missing.
    interval
        95 % percentile bootstrap intervals over these samples, or None.
    samples
        Samples that were fitted on, and tested on.
    bootstrap, seed
        As asked for.
    """

    metric: str
    modalities: tuple[str, ...]
    accuracy: tuple[float | None, ...]
    interval: tuple[Interval | None, ...]
    samples: tuple[int, int]
    bootstrap: int
    seed: int

    def to_dict(self) -> dict[str, Any]:
        """Return lists and numbers for JSON."""
        return plain(asdict(self))


def missing_modality_probe(
    network: ThreeStepNetwork, batches: Iterable[Batch], *, bootstrap: int = 1000, seed: int = 0
) -> MissingProbe:
    """Fit a probe on half of the samples, every subset of what each has, and test it on the other half.

    Parameters
    ----------
    network
        Put into evaluation mode and back; any checkpoint of a network with the three steps, such as
        ``equipoise.load_model(folder).predictor.network``. Networks that join answers (``late``, ``i2m2``, ensembles)
        have no fused features: of them the joined answer is probed.
    batches
        Dicts with ``image`` and where present ``valid`` and ``available``.
    bootstrap, seed
        Replicates, and the seed of their draws and of the halves.

    Returns
    -------
    MissingProbe
        An accuracy a modality.

    Raises
    ------
    ModelError
        There is no batch, or there are fewer than two replicates.
    """
    require(bootstrap >= 2, f"{bootstrap} bootstrap replicates", "at least 2", "correct it")
    vectors, shown, sample = _collected(network, batches)
    count = int(sample.max()) + 1
    generator = torch.Generator().manual_seed(seed)
    fitted = torch.zeros(count, dtype=torch.bool)
    fitted[torch.randperm(count, generator=generator)[: count // 2]] = True
    found = [
        _probed(vectors, shown[:, column], sample, fitted, bootstrap=bootstrap, generator=generator)
        if count >= LEAST_SAMPLES else (None, None)
        for column in range(shown.shape[1])
    ]  # fmt: skip
    return MissingProbe(
        metric="missing_modality_probe", modalities=network.modalities, bootstrap=bootstrap, seed=seed,
        accuracy=tuple(accuracy for accuracy, _ in found), interval=tuple(interval for _, interval in found),
        samples=(int(fitted.sum()), int((~fitted).sum())),
    )  # fmt: skip


@torch.no_grad()
def _collected(network: ThreeStepNetwork, batches: Iterable[Batch]) -> tuple[Tensor, Tensor, Tensor]:
    """Return pooled features, float32 (row, channel), what was shown, bool (row, modality), and the sample."""
    vectors, shown, sample, count = [], [], [], 0
    with evaluating(network):
        for batch in batches:
            inputs = observed(network, batch)
            features = encoded(network, inputs)
            for row in coalitions(len(network.modalities))[1:]:
                rows = (inputs.available.cpu() | ~row).all(dim=1).nonzero().flatten()
                if len(rows) == 0:
                    continue
                kept = features.of(rows.to(features.device))
                fused = network.fuse(kept, row.expand(len(rows), -1).to(features.device))[-1]
                vectors.append(_pooled(fused.float()).cpu())
                shown.append(row.expand(len(rows), -1))
                sample.append(rows + count)
            count += len(inputs.available)
    require(count > 0, "no batch", "at least one", "check the split")
    return torch.cat(vectors), torch.cat(shown), torch.cat(sample)


def _pooled(fused: Tensor) -> Tensor:
    """Return the mean over places, (row, channel); joined answers of classification have no places."""
    return fused if fused.ndim == 2 else fused.mean(dim=(-2, -1))


def _probed(
    vectors: Tensor, shown: Tensor, sample: Tensor, fitted: Tensor, *, bootstrap: int, generator: torch.Generator
) -> tuple[float | None, Interval | None]:
    """Fit and test one modality's probe."""
    train = fitted[sample]
    if any(len(shown[part].unique()) < 2 for part in (train, ~train)):
        return None, None
    middle, spread = vectors[train].mean(dim=0), vectors[train].std(dim=0).clamp_min(1e-6)
    scaled = (vectors - middle) / spread
    weight = _fit(scaled[train], shown[train].float())
    right = ((scaled[~train] @ weight[:-1] + weight[-1]) > 0) == shown[~train]
    # A column each for hits and cases of both kinds, a row a sample: balanced accuracy is a mean of two quotients.
    rows = sample[~train]
    table = torch.zeros(len(fitted), 4, dtype=torch.float64)
    for column, kind in enumerate((shown[~train], ~shown[~train])):
        table[:, 2 * column].index_add_(0, rows, (right & kind).double())
        table[:, 2 * column + 1].index_add_(0, rows, kind.double())
    table = table[~fitted]
    draws = _balanced(resampled_sums(table, count=bootstrap, generator=generator))
    (interval,) = intervals(draws[:, None])
    return float(_balanced(table.sum(dim=0, keepdim=True))), interval


def _balanced(sums: Tensor) -> Tensor:
    return (sums[:, 0] / sums[:, 1] + sums[:, 2] / sums[:, 3]) / 2


def _fit(values: Tensor, wanted: Tensor) -> Tensor:
    """Return coefficients and offset, float32 (channel + 1,), of a logistic regression that weighs both kinds alike."""
    share = wanted.mean()
    weights = torch.where(wanted > 0, 0.5 / share, 0.5 / (1 - share))
    found = torch.zeros(values.shape[1] + 1, requires_grad=True)
    optimizer = torch.optim.LBFGS([found], max_iter=_STEPS, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        logits = values @ found[:-1] + found[-1]
        loss = F.binary_cross_entropy_with_logits(logits, wanted, weight=weights) + _DECAY * found[:-1].square().sum()
        loss.backward()
        return loss

    with torch.enable_grad():
        optimizer.step(closure)
    return found.detach()
