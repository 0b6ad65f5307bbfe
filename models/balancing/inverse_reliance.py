"""Inverse-reliance sampling: the weaker a modality is alone, the more often the network must do with it alone."""

import torch
from torch import Tensor

from ..scores import brier_score
from .strategy import Step, Strategy

_RATE = 0.05


class InverseReliance(Strategy):
    """Per sample, with probability ``alone``, one modality only, drawn with weight ``1 / strength_m``.

    ``strength_m`` is the running ``1 - b`` of the network on modality m alone. After the sampling of SGMA (2026), which
    draws modalities inversely to their robustness.

    Parameters
    ----------
    modalities
        Their number.
    alone
        Share of samples that show one modality.
    """

    strength: Tensor

    def __init__(self, modalities: int, *, alone: float = 0.5) -> None:
        super().__init__()
        self.alone = alone
        self.register_buffer("strength", torch.ones(modalities, dtype=torch.float64))

    def available(self, batch_available: Tensor, *, generator: torch.Generator) -> Tensor:
        """Draw, bool (batch, modality); a sample keeps one modality at least."""
        place = generator.device
        present = batch_available.to(place)
        weight = present / self.strength.to(place).clamp_min(0.05)
        weight = torch.where(present.any(dim=1, keepdim=True), weight, torch.ones_like(weight))
        chosen = torch.multinomial(weight, 1, generator=generator)[:, 0]
        only = torch.nn.functional.one_hot(chosen, present.shape[1]).bool() & present
        single = torch.rand(len(present), generator=generator, device=place) < self.alone
        return torch.where(single[:, None], only, present).to(batch_available.device)

    def loss(self, step: Step, loss: Tensor) -> Tensor:
        """Note how the modalities do alone; the loss stays."""
        lonely = step.available.sum(dim=1) == 1
        if bool(lonely.any()):
            score = 1 - brier_score(step.logits.detach().float(), step.target).double()
            for column in range(step.available.shape[1]):
                found = score[lonely & step.available[:, column]]
                found = found[found.isfinite()]
                if len(found):
                    self.strength[column] += _RATE * (found.mean().to(self.strength) - self.strength[column])
        return loss

    def figures(self) -> dict[str, float]:
        """Return the strengths by column."""
        return {f"strength_{m}": value for m, value in enumerate(self.strength.tolist())}
