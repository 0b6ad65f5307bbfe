"""Utilization settings: what the ``mu_`` strategies are asked to reach, and how."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from .composite import Composite
from .explanation_erasing import ExplanationErasing
from .frozen_head import FrozenHead
from .mu_bounded import Depth, MuBounded
from .share_target import ShareTarget, Wish
from .strategy import Strategy


@dataclass(frozen=True, kw_only=True)
class Utilization:
    """The reliance that the user chooses.

    Attributes
    ----------
    target
        Modality -> share, range of shares, or None where it is free; modalities that are not named are free.
    metric
        ``brier``, ``clipped_ce`` or ``cross_entropy``.
    depth
        ``head``, ``decoder`` or ``all``; None: ``all`` for ``mu_bounded``, ``decoder`` for ``mu_matched``.
    tolerance
        Distance from a point target that counts as reached.
    control
        ``pi`` (the effort finds itself) or ``fixed``.
    strength
        The fixed effort, and the largest weight of ``mu_legacy``.
    fraction
        Share of a batch that is exchanged in a step; None: a quarter for segmentation, whose pixels are many, all for
        classification, whose passes cost little.
    """

    target: Mapping[str, Wish] = field(default_factory=dict)
    metric: str = "brier"
    depth: Literal["head", "decoder", "all"] | None = None
    tolerance: float = 0.02
    control: Literal["pi", "fixed"] = "pi"
    strength: float = 1.0
    fraction: float | None = None

    def of(self, modalities: Sequence[str]) -> ShareTarget:
        """Return the targets in the network's order."""
        return ShareTarget.of(self.target, modalities, tolerance=self.tolerance)

    def reach(self, usual: Depth) -> Depth:
        """Return what the pressure teaches, ``usual`` if nothing was chosen; frozen encoders leave the decoder."""
        return usual if self.depth is None else "all" if self.depth == "all" else "decoder"

    def erasing(self, modalities: Sequence[str]) -> Strategy:
        """Return the strategy that erases what is used too much; an epoch within half the tolerance is as a hit."""
        return ExplanationErasing(
            ShareTarget.of(self.target, modalities, tolerance=0),
            enough=ShareTarget.of(self.target, modalities, tolerance=self.tolerance / 2),
        )

    def bounded(self, modalities: Sequence[str]) -> Strategy:
        """Return the strategy that steers towards them; an epoch within half the tolerance is as good as a hit."""
        aim = ShareTarget.of(self.target, modalities, tolerance=0)
        enough = ShareTarget.of(self.target, modalities, tolerance=self.tolerance / 2)
        phases = FrozenHead() if self.depth == "head" else None
        warm_up = 0.1 if phases is None else phases.pretraining + 0.05
        steering = MuBounded(
            aim, enough=enough, metric=self.metric, depth=self.reach("all"), control=self.control,
            strength=self.strength, fraction=self.fraction, warm_up=warm_up,
        )  # fmt: skip
        return steering if phases is None else Composite([phases, steering])
