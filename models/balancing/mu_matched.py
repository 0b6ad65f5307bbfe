"""Matched utilization: under each condition the network shall rely on a modality as much as it tells there."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ..coalitions import coalitions, shapley_values
from ..evaluation import evaluating
from ..scores import brier_score
from .mu_bounded import Depth, MuBounded, unchanged
from .share_control import follow, summed_over_processes
from .share_target import ShareTarget
from .strategy import Step


class MuMatched(MuBounded):
    """Share targets that follow the information of each modality, condition by condition.

    ``t_m(c)`` is the running share of ``phi_m(c)``, the Shapley values of ``v(S) = b(none) - b(S)`` from the same
    network, without gradient. It belongs behind subset sampling, so that "absent" is an input that the network knows,
    and degradations, whose kinds are the conditions.

    Parameters
    ----------
    modalities
        Their number.
    conditions
        Number of kinds of degradation, none included; samples of a kind beyond it count as the last.
    fraction
        Share of each condition's samples on which information and exchange are measured, as in ``MuBounded``.
    depth, warm_up
        As in :class:`~equipoise.models.balancing.mu_bounded.MuBounded`. Targets that move with chance in a few samples
        of a condition do encoders more harm than good.
    """

    information: Tensor
    counted: Tensor
    watches = frozenset({"share", "information"})

    def __init__(
        self, modalities: int, *, conditions: int = 16, fraction: float | None = None, depth: Depth = "decoder",
        warm_up: float = 0.2,
    ) -> None:  # fmt: skip
        anything = ShareTarget(low=(0.0,) * modalities, high=(1.0,) * modalities)
        super().__init__(anything, fraction=fraction, depth=depth, warm_up=warm_up, conditions=conditions)
        self.register_buffer("information", torch.zeros(conditions, modalities, dtype=torch.float64))
        self.register_buffer("counted", torch.zeros(conditions, modalities, dtype=torch.float64))

    def _groups(self, step: Step) -> list[tuple[int, Tensor]]:
        """Tell samples apart by condition, and measure each group's information on the way."""
        complete = step.available.all(dim=1) & unchanged(step)
        if step.condition is None:
            conditions = torch.zeros(len(complete), dtype=torch.int64, device=complete.device)
        else:
            conditions = step.condition.clamp(0, len(self.counted) - 1)
        groups = []
        sums, counts = torch.zeros_like(self.information), torch.zeros_like(self.information)
        for condition in conditions.unique().tolist():
            rows = ((conditions == condition) & complete).nonzero().flatten()
            if len(rows) >= 2:
                groups.append((condition, rows))
                found = information(step, rows[: self._portion(step, len(rows))]).to(sums)
                if bool(found.isfinite().all()):
                    sums[condition], counts[condition] = found, 1
        summed_over_processes(sums, counts)
        follow(self.information, self.counted, sums, counts)
        return groups

    def _allowed(self, condition: int, shares: Tensor) -> Tensor:
        positive = self.information[condition].clamp_min(0)
        return shares if float(positive.sum()) <= 0 else positive / positive.sum()

    def observe(self, figures: Mapping[str, Sequence[float]]) -> float:
        """Return half the distance of validation's shares from its information."""
        super().observe(figures)
        if not {"share", "information"} <= figures.keys():
            return 0.0
        return 0.5 * sum(abs(a - b) for a, b in zip(figures["share"], figures["information"], strict=True))


@torch.no_grad()
def information(step: Step, rows: Tensor) -> Tensor:
    """Return the Shapley values of ``v(S) = b(none) - b(S)`` on some samples, float64 (modality,)."""
    features, available, target = step.features.of(rows), step.available[rows], step.target[rows]
    with evaluating(step.network):  # a batch of nothing has no statistics of its own
        values = [
            -brier_score(step.decode(available & subset, features=features).float(), target).nanmean().double()
            for subset in coalitions(available.shape[1]).to(available.device)
        ]
    return shapley_values(torch.stack(values), members=available.shape[1])
