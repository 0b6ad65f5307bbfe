"""MMPareto: each encoder follows a direction that serves the fused loss and its own unimodal loss at once."""

import torch
from torch import Tensor

from ..three_steps import ThreeSteps
from .strategy import Step, Strategy
from .unimodal import unimodal_losses


class MMPareto(Strategy):
    """Gradients of encoder m from the fused and the unimodal loss, joined without conflict (Wei and Hu, ICML 2024).

    Where the two agree (cosine >= 0) they are added. Where they do not, the smallest vector of their convex hull, ``a
    g_f + (1 - a) g_u`` with ``a = clip((g_u - g_f) . g_u / |g_f - g_u|^2, 0, 1)``, gives the direction, and their sum's
    length the length times ``stretch``. Decision layers follow the sum of all losses.

    Parameters
    ----------
    stretch
        Factor of the length in a conflict, at least 1.
    """

    needs_encoders = True
    needs_own_encoders = True

    def __init__(self, stretch: float = 1.5) -> None:
        super().__init__()
        self.stretch = stretch
        self._joined: dict[int, tuple[Tensor, int]] = {}

    def loss(self, step: Step, loss: Tensor) -> Tensor:
        """Return the sum of the fused and the unimodal losses; note the encoders' directions."""
        total, encoders = loss, step.network.modality_encoders()
        for column, own in unimodal_losses(step):
            parameters = [item for item in encoders[column].parameters() if item.requires_grad]
            if parameters:
                fused, single = (_flat(found, parameters) for found in (loss, own))
                before, count = self._joined.get(column, (torch.zeros_like(fused), 0))
                self._joined[column] = (before + joined_direction(fused, single, stretch=self.stretch), count + 1)
            total = total + own
        return total

    def gradients(self, network: ThreeSteps) -> None:
        """Give the encoders their directions; the mean of them where gradients were accumulated."""
        encoders = network.modality_encoders()
        for column, (direction, count) in self._joined.items():
            start = 0
            for parameter in encoders[column].parameters():
                if not parameter.requires_grad:
                    continue
                part = direction[start : start + parameter.numel()] / count
                parameter.grad = part.reshape(parameter.shape).to(parameter)
                start += parameter.numel()
        self._joined = {}


def joined_direction(fused: Tensor, single: Tensor, *, stretch: float) -> Tensor:
    """Join two gradients, float (n,) each, as :class:`MMPareto` says; returns float (n,)."""
    both = fused + single
    if torch.dot(fused, single) >= 0:
        return both
    gap = fused - single
    weight = (torch.dot(-gap, single) / gap.square().sum().clamp_min(torch.finfo(gap.dtype).tiny)).clamp(0, 1)
    smallest = weight * fused + (1 - weight) * single
    length = smallest.norm()
    return both if length == 0 else smallest * (stretch * both.norm() / length)


def _flat(loss: Tensor, parameters: list[torch.nn.Parameter]) -> Tensor:
    found = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
    return torch.cat(
        [
            (torch.zeros_like(item) if part is None else part).flatten()
            for item, part in zip(parameters, found, strict=True)
        ]
    )
