"""Exchange within a step: how much worse a network gets when one modality comes from another sample, with gradients."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from ..exchanges import roll_derangement
from .strategy import Step

Score = Callable[[Tensor, Tensor], Tensor]


def holders(available: Tensor, column: int, *, most: int | None, generator: torch.Generator) -> Tensor:
    """Draw samples that have a modality.

    Parameters
    ----------
    available
        bool (batch, modality).
    column
        The modality.
    most
        How many at most; None for all.
    generator
        Draws them where there are more.

    Returns
    -------
    Tensor
        int64 (n,), ascending.
    """
    found = available[:, column].nonzero().flatten()
    if most is None or len(found) <= most:
        return found
    order = torch.randperm(len(found), generator=generator, device=generator.device)[:most]
    return found[order.sort().values.to(found.device)]


def rise(step: Step, column: int, rows: Tensor, *, score: Score, detached: bool) -> Tensor:
    """Return how much each sample's score rises when it receives one modality of another.

    ``b(f(pi_m x), y) - b(f(x), y)`` with a roll derangement ``pi_m`` of features among ``rows``. The gradient is that
    of the first term: lowering it makes the network right in spite of the exchange, while a gradient of the second
    would let it get there by being wrong on what belongs together.

    Parameters
    ----------
    step
        Has the logits of what belongs together.
    column
        The modality that moves.
    rows
        int64 (n,), n >= 2: samples that have it.
    score
        ``score(logits, target)``, float (n,).
    detached
        Whether encoders are left out of the gradient.

    Returns
    -------
    Tensor
        float32 (n,); NaN for a sample without a label.
    """
    features = (step.features.detached() if detached else step.features).of(rows)
    shift = 1 + int(torch.randint(len(rows) - 1, (1,), generator=step.generator, device=step.generator.device))
    donors = roll_derangement(len(rows), shift).to(rows.device)
    with kept_statistics(step.network):
        mixed = step.decode(
            step.available[rows], features=features.rolled(step.network.modalities[column], donors)
        ).float()
    target = step.target[rows]
    return score(mixed, target) - score(step.logits[rows].detach().float(), target)


@contextmanager
def kept_statistics(network: nn.Module) -> Iterator[None]:
    """Keep what batch normalisation remembers: passes on samples that do not exist must not enter it."""
    layers = [part for part in network.modules() if isinstance(part, nn.modules.batchnorm._BatchNorm)]
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.momentum = 0.0
    try:
        yield
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
