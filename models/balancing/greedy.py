"""Greedy re-balancing: from time to time the modality that lags is left alone with the task."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ..features import Features
from ..learning_speed import ConditionalLearningSpeed
from ..three_steps import ThreeSteps
from .strategy import Strategy

_RATE = 0.1


class Greedy(Strategy):
    """Re-balancing by conditional learning speed (Wu, Jastrzebski, Cho and Geras, ICML 2022, algorithm 1).

    Speeds are taken in regular steps. Where the fastest modality leads the slowest by more than ``lead``, the features
    of all but the slowest are replaced by their running means for ``steps`` steps: the network has to learn from that
    one. The running mean of a modality comes from that modality. Ours: any number of modalities, one shared decoder,
    and features in the place of gates.

    Parameters
    ----------
    modalities
        Their number.
    lead
        Difference of speeds, in powers of ten, that starts re-balancing.
    steps
        Steps that it takes.
    start
        Share of the training before the first time.
    """

    needs_encoders = True
    needs_own_encoders = True
    left: Tensor
    lagging: Tensor

    def __init__(self, modalities: int, *, lead: float = 0.01, steps: int = 5, start: float = 0.1) -> None:
        super().__init__()
        self.lead, self.steps, self.start = lead, steps, start
        self.speed = ConditionalLearningSpeed(modalities)
        self.means: dict[str, list[Tensor]] = {}
        self.progress = 0.0
        self.register_buffer("left", torch.zeros((), dtype=torch.int64))
        self.register_buffer("lagging", torch.zeros((), dtype=torch.int64))

    def begin_epoch(self, network: ThreeSteps, *, progress: float) -> None:  # noqa: ARG002
        """Note how far the training is."""
        self.progress = progress

    def adapt(self, features: Features, *, modalities: tuple[str, ...]) -> Features:
        """Replace what the faster modalities show while re-balancing; follow their means otherwise."""
        if int(self.left) == 0:
            for name in modalities:
                pairs = zip(features.maps[name], features.shares[name], strict=True)
                found = [_mean(feature, share) for feature, share in pairs]
                known = self.means.get(name, found)
                self.means[name] = [old + _RATE * (new - old) for old, new in zip(known, found, strict=True)]
            return features
        faster = [name for number, name in enumerate(modalities) if number != int(self.lagging)]
        return features.replaced({name: self.means[name] for name in faster if name in self.means})

    def gradients(self, network: ThreeSteps) -> None:
        """Take the speeds of a regular step, and decide about the next ones."""
        if int(self.left) > 0:
            self.left -= 1
            return
        self.speed.accumulate(network)
        speeds = [value for value in self.speed.speeds() if value is not None]
        if self.progress < self.start or len(speeds) < len(self.speed.total):
            return
        if max(speeds) - min(speeds) > self.lead:
            self.left.fill_(self.steps)
            self.lagging.fill_(speeds.index(min(speeds)))

    def figures(self) -> dict[str, float]:
        """Return the speeds by column."""
        return {f"speed_{m}": value for m, value in enumerate(self.speed.speeds()) if value is not None}

    def get_extra_state(self) -> dict[str, Any]:
        """Return the running means, whose shapes only the network knows."""
        return {"means": self.means}

    def set_extra_state(self, state: Mapping[str, Any]) -> None:
        """Take the running means of an interrupted training."""
        self.means = dict(state["means"])


def _mean(feature: Tensor, share: Tensor) -> Tensor:
    """Mean over samples and valid places, (channel, 1, 1), without gradient."""
    weight = share.sum().clamp_min(torch.finfo(share.dtype).tiny)
    return ((feature.detach() * share).sum(dim=(0, 2, 3)) / weight)[:, None, None]
