"""What can be known of the oracle scene: information, scores and accuracy of every coalition, and reliance of Bayes."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from equipoise.models.coalitions import coalitions, shapley_values
from equipoise.models.features import Features

from .conditions import columns
from .scene import OracleScene

_AT_ONCE = 512  # patches; keeps memory near 100 MB


@dataclass(frozen=True, kw_only=True)
class ExactFigures:
    """Exact values of every coalition under one condition, by Monte Carlo over the exact posterior.

    Attributes
    ----------
    modalities
        Names in column order.
    condition
        Its name.
    information
        float64 (2 ** M,): I(Y; X_S) in nats, ``H(Y) - E[H(Y | x_S)]``, in the order of ``coalitions``.
    brier_gain
        float64 (2 ** M,): ``b(none) - b(S)`` with b half the Brier score, ``(E[sum_k p_k^2] - 1 / K) / 2``.
    accuracy
        float64 (2 ** M,): Bayes accuracy, ``E[max_k p_k]``; row 0 is chance.
    error
        float64 (3, 2 ** M): standard errors of the three above.
    """

    modalities: tuple[str, ...]
    condition: str
    information: Tensor
    brier_gain: Tensor
    accuracy: Tensor
    error: Tensor

    def shapley(self, score: str = "information") -> Tensor:
        """Return exact Shapley values float64 (M,) of ``information`` or ``brier_gain``."""
        return shapley_values(getattr(self, score), members=len(self.modalities))

    def shares(self, score: str = "information") -> Tensor:
        """Return Shapley values as shares of their sum, float64 (M,); NaN where there is nothing to share."""
        values = self.shapley(score)
        total = values.sum()
        return values / total.where(total > 0, torch.nan)


@torch.no_grad()
def exact_figures(
    scene: OracleScene, condition: str = "clear", *, patches: int = 2048, generator: torch.Generator | None = None
) -> ExactFigures:
    """Measure what every coalition knows.

    Entropies and squares are taken of the posterior itself, not of the class that was drawn, which removes the larger
    part of the Monte Carlo noise; all coalitions see the same patches.

    Parameters
    ----------
    scene
        What is observed.
    condition
        Name of the condition.
    patches
        Number of patches to average over, at least 2.
    generator
        Source of randomness; None starts the scene's own afresh.

    Returns
    -------
    ExactFigures
        With standard errors over patches.
    """
    generator = scene.generator() if generator is None else generator
    subsets = coalitions(len(scene.modalities))
    rows = []
    for start in range(0, patches, _AT_ONCE):
        batch = scene.batch(min(_AT_ONCE, patches - start), condition, generator)
        rated = scene.log_likelihoods(batch["image"], batch["valid"], scene.columns_of(batch))
        rows.append(torch.stack([_known(scene.combined(rated, batch["available"] & subset)) for subset in subsets], 1))
    values = torch.cat(rows, dim=2)
    classes = len(scene.classes)
    values[0] += torch.tensor(classes).double().log()
    values[1] -= 0.5 / classes
    mean = values.mean(dim=2)
    return ExactFigures(
        modalities=scene.modalities,
        condition=condition,
        information=mean[0],
        brier_gain=mean[1],
        accuracy=mean[2],
        error=values.std(dim=2) / values.shape[2] ** 0.5,
    )


def _known(posterior: Tensor) -> Tensor:
    """Return minus the entropy, half the sum of squares and the maximum, mean over cells, float64 (3, batch)."""
    probability = posterior.exp()
    entropy = -(probability * posterior.clamp(min=-700)).sum(dim=1)
    square = 0.5 * probability.square().sum(dim=1)
    return torch.stack([part.mean(dim=(1, 2)) for part in (-entropy, square, probability.amax(dim=1))])


class BayesNetwork:
    """The Bayes predictor in the three steps of a network, so that every meter of the package can be held against it.

    It believes in one condition. ``decode`` gives log-posteriors as logits: (batch, class, y, x), or (batch, class) for
    classification.

    Parameters
    ----------
    scene
        What is observed.
    condition
        Name of the condition that the predictor believes in, whatever it sees.
    """

    def __init__(self, scene: OracleScene, condition: str = "clear") -> None:
        self.scene, self.condition = scene, scene.index(condition)

    @property
    def modalities(self) -> tuple[str, ...]:
        """Names in the order of the columns of ``available``."""
        return self.scene.modalities

    def encode(
        self, image: Mapping[str, Tensor], *, valid: Mapping[str, Tensor] | None, available: Tensor | None
    ) -> Features:
        """Return the log-likelihoods of the states, float64 (batch, state, cells_y, cells_x), as features."""
        del available  # `fuse` leaves out what is absent
        first = next(iter(image.values()))
        if valid is None:
            valid = {name: torch.ones_like(data[:, 0], dtype=torch.bool) for name, data in image.items()}
        column = columns(self.scene.conditions, torch.full((len(first),), self.condition))
        rated = self.scene.log_likelihoods(image, valid, column)
        return Features(
            maps={name: [value] for name, value in rated.items()},
            shares={name: [] for name in rated},
            size=(first.shape[2], first.shape[3]),
        )

    def fuse(self, features: Features, available: Tensor) -> list[Tensor]:
        """Return the log-posterior of the modalities that ``available``, bool (batch, M), lets through."""
        return [self.scene.combined({name: maps[0] for name, maps in features.maps.items()}, available)]

    def decode(self, fused: list[Tensor], *, size: tuple[int, int]) -> Tensor:
        """Return the log-posterior of each pixel, or of the patch."""
        if self.scene.task == "classification":
            return fused[0][:, :, 0, 0]
        pixel = size[0] // fused[0].shape[2]
        return fused[0].repeat_interleave(pixel, dim=2).repeat_interleave(pixel, dim=3)
