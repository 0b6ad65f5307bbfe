"""Temperature: one number that makes a network as sure as it is right, and a network whose answers it divides."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from .errors import require
from .features import Features
from .losses import IGNORE

#: Temperatures that are looked for: beyond them a network knows nothing, or was never wrong.
LOWEST, HIGHEST = 0.05, 20.0

_HALVINGS = 50  # of the interval in the logarithm: finer than float32 tells


def fit_temperature(logits: Tensor, target: Tensor) -> float:
    """Find the temperature T that minimises the negative log-likelihood of ``softmax(logits / T)``.

    One scalar for all classes; the predicted class stays (Guo, Pleiss, Sun, Weinberger, ICML 2017). The loss is convex
    in 1/T, so that halving the interval by the sign of its derivative finds the minimum.

    Parameters
    ----------
    logits
        float (place, class).
    target
        int64 (place,), 255 to leave out.

    Returns
    -------
    float
        T from :data:`LOWEST` to :data:`HIGHEST`; 1 where nothing is labelled.

    Raises
    ------
    ModelError
        The logits are not all finite.
    """
    known = target != IGNORE
    values, truth = logits[known].double(), target[known]
    require(
        bool(values.isfinite().all()), "logits that are not finite", "numbers", "train with a smaller learning rate"
    )
    if not len(truth):
        return 1.0
    right = values.gather(1, truth[:, None])[:, 0].mean()
    low, high = torch.tensor([LOWEST, HIGHEST]).double().log().tolist()
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        chance = (values * torch.tensor(-middle).exp()).softmax(dim=1)
        # d NLL / d(1/T) = E[mean logit under the answer] - E[logit of the truth]: positive where it is too sure.
        if (chance * values).sum(dim=1).mean() > right:
            low = middle
        else:
            high = middle
    return float(torch.tensor((low + high) / 2).exp())


class TemperedNetwork(nn.Module):
    """A network in the three steps whose logits are divided by a temperature.

    Parameters
    ----------
    network
        A :class:`~equipoise.models.three_steps.ThreeSteps`.
    temperature
        Above 0; more than 1 makes it less sure.
    """

    def __init__(self, network: Any, temperature: float) -> None:
        super().__init__()
        require(
            0 < temperature < float("inf"), f"temperature {temperature}", "a number above 0", "train the model again"
        )
        self.network = network
        self.temperature = temperature

    @property
    def modalities(self) -> tuple[str, ...]:
        """Names in the order of the columns of ``available``."""
        names: tuple[str, ...] = self.network.modalities
        return names

    @property
    def spec(self) -> Any:
        """The network's description."""
        return self.network.spec

    def encode(self, image: Mapping[str, Tensor], *, valid: Mapping[str, Tensor], available: Tensor) -> Features:
        """Return the features of each modality."""
        features: Features = self.network.encode(image, valid=valid, available=available)
        return features

    def fuse(self, features: Features, available: Tensor) -> list[Tensor]:
        """Join the features of the modalities that ``available`` lets through."""
        fused: list[Tensor] = self.network.fuse(features, available)
        return fused

    def decode(self, fused: list[Tensor], *, size: tuple[int, int]) -> Tensor:
        """Return logits (batch, class, ...), divided by the temperature."""
        logits: Tensor = self.network.decode(fused, size=size)
        return logits / self.temperature
