"""Missing-full consistency: what a network says from some modalities shall be what it says from all of them."""

import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import require
from ..evaluation import present
from ..scores import full_precision
from .exchange import kept_statistics
from .strategy import Step, Strategy
from .subset_sampling import SubsetSampling


class Consistency(Strategy):
    """Hide some modalities of each sample, and pull the answer towards the one from everything that is present.

    With task loss ``L``, logits ``f`` and a random subset ``S`` of what is present, ``A``::

        loss = L(A) + partial L(S) + weight T^2 KL(softmax(f_A / T) || softmax(f_S / T))

    The full answer is a constant in the last term: it teaches and is not pulled down. The divergence is the mean over
    places of which the subset saw something, labelled or not. Encoders run once.

    Subsets drawn uniformly are those of mmFormer (Zhang et al., MICCAI 2022); soft answers at a temperature as targets
    those of Hinton et al. (2015). Ours: both passes on the same features in one step, and unlabelled places.

    Parameters
    ----------
    partial
        Weight of the subset's own loss, 0 or more.
    weight
        Of the divergence, 0 or more.
    temperature
        ``T``, above 0.

    Raises
    ------
    ModelError
        A setting is out of range.
    """

    def __init__(self, *, partial: float = 1.0, weight: float = 1.0, temperature: float = 4.0) -> None:
        super().__init__()
        for name, value in (("partial", partial), ("weight", weight)):
            require(0 <= value < float("inf"), f"{name} {value}", "0 or more", "correct it")
        require(0 < temperature < float("inf"), f"temperature {temperature}", "above 0", "correct it")
        self.partial, self.weight, self.temperature = partial, weight, temperature
        self.subsets = SubsetSampling()

    def loss(self, step: Step, loss: Tensor) -> Tensor:
        """Add what the subset says of the labels, and how far it is from what everything says."""
        shown = present(step.features, step.available, modalities=step.network.modalities)
        drawn = self.subsets.available(shown, generator=step.generator)
        rows = (shown & ~drawn).any(dim=1).nonzero().flatten()
        if len(rows) == 0 or (self.partial == 0 and self.weight == 0):
            return loss
        with kept_statistics(step.network):
            logits = step.decode(drawn[rows], features=step.features.of(rows))
        if self.partial > 0:
            loss = loss + self.partial * step.criterion(logits, step.target[rows])
        if self.weight > 0:
            usable = self._seen(step, rows, drawn[rows], logits)
            loss = loss + self.weight * divergence(
                logits, full_precision(step.logits[rows]).detach(), temperature=self.temperature, usable=usable
            )
        return loss

    def _seen(self, step: Step, rows: Tensor, drawn: Tensor, logits: Tensor) -> Tensor:
        """Return 1 where a modality of the subset was valid: float (n, y, x), or (n,) for classification."""
        valid = step.batch.get("valid")
        if valid is None or logits.ndim == 2:
            return torch.ones_like(logits[:, 0])
        masks = [
            valid[name][rows].to(logits.device) & drawn[:, column, None, None].to(logits.device)
            for column, name in enumerate(step.network.modalities)
        ]
        return torch.stack(masks).any(dim=0).to(logits)


def divergence(logits: Tensor, wanted: Tensor, *, temperature: float, usable: Tensor) -> Tensor:
    """Return ``T^2 KL(softmax(wanted / T) || softmax(logits / T))``, the mean over places by their weight.

    Parameters
    ----------
    logits, wanted
        float32 (batch, class, ...); ``wanted`` gets no gradient here only if it has no history.
    temperature
        ``T``, above 0.
    usable
        float (batch, ...): weight of each place.

    Returns
    -------
    Tensor
        Scalar of 0 or more; 0 where no place counts.
    """
    each = F.kl_div(
        (logits / temperature).log_softmax(dim=1), (wanted / temperature).softmax(dim=1), reduction="none"
    ).sum(dim=1)
    return temperature**2 * (each * usable).sum() / usable.sum().clamp_min(torch.finfo(usable.dtype).tiny)
