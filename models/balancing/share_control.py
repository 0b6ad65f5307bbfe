"""Share control: how strongly a modality's reliance is pressed down so that the shares come where they are wanted."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor, distributed, nn

#: Weight of a new measurement in the running reliance.
_RATE = 0.05

#: Reliance (a difference of bounded scores) below which there is nothing to share.
_LEAST = 1e-3


class ShareControl(nn.Module):
    """A PI controller a modality, whose effort grows as a hyperbolic sine.

    The error is the distance of a share from the nearest allowed one: ``effort = clip(scale sinh(kp error + sum), 0,
    most)``, where the sum grows by ``ki error`` a step, positive or negative, and is bound to what the clip can use.
    How strongly a share answers to an effort differs a hundredfold between networks; near equilibrium a step of the
    logarithm moves the share by a part of the way that it has to go, whatever that strength, so that one setting serves
    all of them. An integral multiplier is dual ascent on the constraint, and the proportional part damps it (Stooke et
    al., ICML 2020, for constraints in general); ``ki / kp`` is the rate of the running mean, whose delay it makes up
    for.

    Parameters
    ----------
    modalities
        Their number.
    conditions
        Number of conditions whose reliance is followed apart; 1 where they are not told apart.
    proportional, integral
        ``kp``, and ``ki`` a step.
    scale
        Effort below which the answer is linear.
    most
        Largest effort.
    """

    reliance: Tensor
    seen: Tensor
    summed: Tensor
    offset: Tensor
    effort: Tensor

    def __init__(
        self, modalities: int, *, conditions: int = 1, proportional: float = 8.0, integral: float = 0.4,
        scale: float = 0.1, most: float = 50.0,
    ) -> None:  # fmt: skip
        super().__init__()
        self.proportional, self.integral, self.scale, self.most = proportional, integral, scale, most
        for name in ("reliance", "seen", "summed", "effort"):
            self.register_buffer(name, torch.zeros(conditions, modalities, dtype=torch.float64))
        self.register_buffer("offset", torch.zeros(modalities, dtype=torch.float64))

    def measure(self, found: Mapping[tuple[int, int], float]) -> None:
        """Take in what one step shows, (condition, modality) -> reliance; the mean over processes counts.

        Every process has to call it in every step.
        """
        sums, counts = torch.zeros_like(self.reliance), torch.zeros_like(self.reliance)
        for place, reliance in found.items():
            sums[place], counts[place] = reliance, 1
        summed_over_processes(sums, counts)
        follow(self.reliance, self.seen, sums, counts)

    def total(self, condition: int) -> float:
        """Return the sum of what the network relies on, at least a little above 0."""
        return max(float(self.reliance[condition].clamp_min(0).sum()), _LEAST)

    def shares(self, condition: int) -> Tensor | None:
        """Return the running shares, float64 (modality,), or None before every modality was measured."""
        if not bool((self.seen[condition] > 0).all()):
            return None
        return self.reliance[condition].clamp_min(0) / self.total(condition)

    def press(self, condition: int, allowed: Tensor) -> None:
        """Move the efforts by the distance of the shares, as validation would see them, from the allowed ones."""
        shares = self.shares(condition)
        if shares is None:
            return
        error = shares - self.offset - allowed.to(shares)
        limit = math.asinh(self.most / self.scale)
        summed = (self.summed[condition] + self.integral * error).clamp(-limit, limit)
        self.summed[condition] = summed
        self.effort[condition] = (self.scale * torch.sinh(self.proportional * error + summed)).clamp(0, self.most)


def follow(running: Tensor, seen: Tensor, sums: Tensor, counts: Tensor) -> None:
    """Move running means towards the means of a step where it has any; all float64 of one shape, changed in place."""
    # The first measurements count fully: an average that starts at 0 would take them for nothing.
    weight = (1 / (1 + seen)).clamp_min(_RATE) * (counts > 0)
    running += weight * (sums / counts.clamp_min(1) - running)
    seen += counts > 0


def summed_over_processes(*tensors: Tensor) -> None:
    """Replace tensors by their sums over all training processes, in place; nothing happens where there is one."""
    if distributed.is_available() and distributed.is_initialized():
        for tensor in tensors:
            distributed.all_reduce(tensor)
