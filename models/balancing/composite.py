"""Composite: several strategies on one training."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from ..features import Features
from ..network import FusionUNet
from .strategy import Step, Strategy


class Composite(Strategy):
    """Strategies one after the other: each sees what the one before left of the data, the loss and the gradients.

    Parameters
    ----------
    parts
        In the order of their effect.
    """

    def __init__(self, parts: Sequence[Strategy]) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)
        self.encoder_rate = min((part.encoder_rate for part in parts), default=1.0)
        self.watches = frozenset[str]().union(*(part.watches for part in parts))

    def attach(self, network: FusionUNet) -> None:
        """Let every part build what it learns itself."""
        for part in self._strategies():
            part.attach(network)

    def begin_epoch(self, network: FusionUNet, *, progress: float) -> None:
        """Let every part prepare the network."""
        for part in self._strategies():
            part.begin_epoch(network, progress=progress)

    def available(self, batch_available: Tensor, *, generator: torch.Generator) -> Tensor:
        """Return what every part lets through, bool (batch, modality)."""
        for part in self._strategies():
            batch_available = part.available(batch_available, generator=generator)
        return batch_available

    def adapt(self, features: Features, *, modalities: tuple[str, ...]) -> Features:
        """Return the features as the last part leaves them."""
        for part in self._strategies():
            features = part.adapt(features, modalities=modalities)
        return features

    def loss(self, step: Step, loss: Tensor) -> Tensor:
        """Return the loss as the last part leaves it."""
        for part in self._strategies():
            loss = part.loss(step, loss)
        return loss

    def gradients(self, network: FusionUNet) -> None:
        """Let every part change the gradients."""
        for part in self._strategies():
            part.gradients(network)

    def observe(self, figures: Mapping[str, Sequence[float]]) -> float:
        """Tell every part what validation measured; return the largest distance from what is wanted."""
        return max((part.observe(figures) for part in self._strategies()), default=0.0)

    def figures(self) -> dict[str, float]:
        """Return the figures of all parts."""
        return {name: value for part in self._strategies() for name, value in part.figures().items()}

    def _strategies(self) -> list[Strategy]:
        return [part for part in self.parts if isinstance(part, Strategy)]
