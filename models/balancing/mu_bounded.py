"""Bounded utilization targets: shares of reliance, by a bounded score, held where the user wants them."""

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor

from ..scores import build_score
from .exchange import holders, rise
from .share_control import ShareControl
from .share_target import ShareTarget
from .strategy import Step, Strategy

Depth = Literal["decoder", "all"]

#: Share of the patches that is exchanged in segmentation: a step then costs 1.3 times a plain one (benchmarks).
_OF_PIXELS = 0.25

#: Share of the training over which targets move from the shares that are there to those that are wanted.
_APPROACH = 0.3


class MuBounded(Strategy):
    """Press the reliance on over-used modalities down until every share is where it is wanted.

    Each step measures ``R_m`` (see :func:`~equipoise.models.balancing.exchange.rise`) on cached features and adds
    ``sum_m effort_m [R_m]+ / sum_k [R_k]+`` to the loss, the denominator a running mean without gradient. Efforts come
    from :class:`~equipoise.models.balancing.share_control.ShareControl` and are never negative: a share rises because
    the others fall, since pressing a reliance up teaches a network to fail on purpose on pairs that do not belong
    together. After Singh et al. (Sensors 2024), with a bounded score and all modalities under control.

    Parameters
    ----------
    target
        Allowed shares, in the network's order.
    enough
        Shares that count as reached when epochs are compared; None for ``target``.
    metric
        A name in :data:`~equipoise.models.scores.SCORES`.
    depth
        What the pressure teaches: ``all``, the encoders at a fifth of the learning rate, or ``decoder`` (fusion,
        decoder, head), against which encoders push that learn from the task alone.
    control
        ``pi``, or ``fixed``: an effort of ``strength`` wherever a share is too large.
    strength
        The fixed effort.
    fraction
        Share of a batch that is exchanged in a step, at least two samples; None: a quarter for segmentation, whose
        pixels are many, all for classification, whose passes cost little.
    per_step
        Modalities that are exchanged in a step, in turn; None for all.
    warm_up
        Share of the training before the pressure begins: early shares say nothing.
    conditions
        Number of conditions that are steered apart.
    """

    turn: Tensor
    begun: Tensor
    watches = frozenset({"share"})

    def __init__(
        self,
        target: ShareTarget,
        *,
        enough: ShareTarget | None = None,
        metric: str = "brier",
        depth: Depth = "all",
        control: Literal["pi", "fixed"] = "pi",
        strength: float = 1.0,
        fraction: float | None = None,
        per_step: int | None = None,
        warm_up: float = 0.1,
        conditions: int = 1,
    ) -> None:
        super().__init__()
        self.target, self.metric, self.depth = target, metric, depth
        self.enough = target if enough is None else enough
        self.fixed = strength if control == "fixed" else None
        self.fraction, self.per_step, self.warm_up = fraction, per_step, warm_up
        self.control = ShareControl(len(target.low), conditions=conditions)
        self.encoder_rate = 0.2 if depth == "all" else 1.0
        self.register_buffer("turn", torch.zeros((), dtype=torch.int64))
        self.register_buffer("begun", torch.full((conditions, len(target.low)), torch.nan, dtype=torch.float64))

    def loss(self, step: Step, loss: Tensor) -> Tensor:
        """Add the pressure."""
        rises = {}
        for condition, rows in self._groups(step):
            state = step.generator.get_state()
            for column in self._columns(step):
                # The same pairs for every modality: chance in the pairs is then no chance in the shares.
                step.generator.set_state(state)
                found = self._reliance(step, column, rows, pressed=self._pressed(condition, column))
                if found is not None:
                    rises[condition, column] = found, len(rows)
        self.turn.add_(1).remainder_(step.available.shape[1])
        self.control.measure({place: float(found.detach()) for place, (found, _) in rises.items()})
        if step.progress < self.warm_up:
            return loss
        for condition in dict.fromkeys(condition for condition, _ in rises):
            self._steer(condition, progress=step.progress)
        for (condition, column), (found, count) in rises.items():
            effort = float(self.control.effort[condition, column]) * count / len(step.available)
            if effort > 0:
                loss = loss + effort * found.clamp_min(0) / self.control.total(condition)
        return loss

    def _columns(self, step: Step) -> list[int]:
        """Modalities whose turn it is."""
        count, first = step.available.shape[1], int(self.turn)
        return [(first + n) % count for n in range(count if self.per_step is None else min(self.per_step, count))]

    def _groups(self, step: Step) -> list[tuple[int, Tensor]]:
        """Conditions that are steered apart, and int64 (n,) their samples; here all that are as they were are one."""
        return [(0, unchanged(step).nonzero().flatten())]

    def _pressed(self, condition: int, column: int) -> bool:
        """Whether the last step pressed a modality; where not, its exchange is decoded without a gradient."""
        return self.fixed is not None or float(self.control.effort[condition, column]) > 0

    def _reliance(self, step: Step, column: int, rows: Tensor, *, pressed: bool) -> Tensor | None:
        """Mean rise over the samples that have a modality, or None where two are not to be had."""
        most = self._portion(step, len(rows))
        chosen = rows[holders(step.available[rows], column, most=most, generator=step.generator)]
        if len(chosen) < 2:
            return None
        with torch.set_grad_enabled(pressed and torch.is_grad_enabled()):
            found = rise(step, column, chosen, score=build_score(self.metric), detached=self.depth != "all")
        labelled = found[found.isfinite()]
        return labelled.mean() if len(labelled) else None

    def _portion(self, step: Step, count: int) -> int:
        """Return how many of some samples are exchanged."""
        fraction = self.fraction or (_OF_PIXELS if step.target.ndim > 1 else 1.0)
        return max(2, round(fraction * count))

    def _allowed(self, condition: int, shares: Tensor) -> Tensor:  # noqa: ARG002
        """Return the allowed shares, float64 (modality,), that are nearest to those that are."""
        return self.target.nearest(shares)

    def _steer(self, condition: int, *, progress: float) -> None:
        """Press towards the allowed shares, by a way that begins at the shares that were there before the pressure."""
        shares = self.control.shares(condition)
        if shares is None:
            return
        seen = shares - self.control.offset
        if bool(self.begun[condition].isnan().any()):
            self.begun[condition] = seen
        began = self.begun[condition]
        left = max(0.0, 1 - (progress - self.warm_up) / _APPROACH)
        allowed = self._allowed(condition, seen) + left * (began - self._allowed(condition, began))
        self.control.press(condition, allowed)
        if self.fixed is not None:
            self.control.effort[condition] = self.fixed * (seen > allowed + 1e-6)

    def observe(self, figures: Mapping[str, Sequence[float]]) -> float:
        """Learn how the shares of training steps differ from those of validation; return how far the latter are off."""
        found, shares = figures.get("share"), self.control.shares(0)
        if found is None:
            return 0.0
        if shares is not None:
            gap = shares - torch.tensor(found, dtype=shares.dtype, device=shares.device)
            self.control.offset += 0.5 * (gap - self.control.offset)
        return self.enough.miss(found)

    def targets(self) -> dict[int, tuple[float, float]]:
        """Return lowest and highest wanted share by column, where there is a wish."""
        pairs = enumerate(zip(self.enough.low, self.enough.high, strict=True))
        return {column: pair for column, pair in pairs if pair != (0.0, 1.0)}

    def figures(self) -> dict[str, float]:
        """Return running shares and efforts by column, of the first condition."""
        shares = self.control.shares(0)
        found = {f"effort_{m}": float(value) for m, value in enumerate(self.control.effort[0])}
        return found if shares is None else found | {f"running_share_{m}": float(x) for m, x in enumerate(shares)}


def unchanged(step: Step) -> Tensor:
    """Return bool (batch,): samples whose features are those that were encoded."""
    if step.features.changed is None:
        return torch.ones(len(step.available), dtype=torch.bool, device=step.available.device)
    return ~step.features.changed
