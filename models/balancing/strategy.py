"""Strategy: what a balancing method may decide about a training."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ..features import Features
from ..scores import full_precision
from ..three_steps import ThreeSteps


@dataclass(frozen=True, kw_only=True)
class Step:
    """One training step, as far as the plain network has gone.

    Attributes
    ----------
    network
        In training mode.
    features
        Encoded modalities, with gradients; later passes cost fusion and decoder alone.
    available
        bool (batch, modality): what the network saw.
    logits
        float (batch, class, ...).
    target
        int64 (batch, ...).
    criterion
        Task loss, ``criterion(logits, target) -> scalar``.
    generator
        The only source of randomness, so that a resumed run repeats itself.
    progress
        Share of the training that is done, 0 to 1.
    condition
        int64 (batch,): which degradation each sample met, 0 for none; None where it is not known.
    batch
        What the step was given, for strategies that read more of it than the network does: ``image`` and ``valid`` hold
        every modality that the patches have, also those that the network lacks.
    """

    network: ThreeSteps
    features: Features
    available: Tensor
    logits: Tensor
    target: Tensor
    criterion: Callable[[Tensor, Tensor], Tensor]
    generator: torch.Generator
    progress: float
    condition: Tensor | None = None
    batch: Mapping[str, Any] = field(default_factory=dict)

    def decode(self, available: Tensor, *, features: Features | None = None) -> Tensor:
        """Return the logits, float32, from other modalities, bool (batch, modality), or from changed features."""
        features = self.features if features is None else features
        return full_precision(self.network.decode(self.network.fuse(features, available), size=features.size))


class Strategy(nn.Module):
    """A balancing method; every decision that it does not make is that of plain training.

    What it must remember from step to step lies in buffers, which are saved and restored with the network. What it
    learns itself lies in parameters, which the optimiser trains beside the network's. The ``network`` that its methods
    are given is a :class:`~equipoise.models.three_steps.ThreeSteps`.
    """

    #: Learning rate of the encoders as a share of that of the rest.
    encoder_rate: float = 1.0

    #: Whether it works on the encoder of each modality, so that a network without such encoders is refused.
    needs_encoders: bool = False

    #: Whether it tells what each encoder learns apart, so that a network whose modalities share one is refused.
    needs_own_encoders: bool = False

    #: Share of the training, 0 to 1, before which a validation says nothing about what training will end with.
    warm_up: float = 0.0

    #: What validation shall measure for :meth:`observe`: ``share`` and ``information``, or nothing.
    watches: frozenset[str] = frozenset()

    def attach(self, network: Any) -> None:
        """Build what the strategy learns itself, to fit the network; called once, before the optimiser is made."""

    def begin_epoch(self, network: Any, *, progress: float) -> None:
        """Prepare the network for an epoch; ``progress`` is the share of the training that is done, 0 to 1."""

    def available(self, batch_available: Tensor, *, generator: torch.Generator) -> Tensor:  # noqa: ARG002
        """Choose what the network sees of a batch.

        Parameters
        ----------
        batch_available
            bool (batch, modality): what is present in the data.
        generator
            The only source of randomness.

        Returns
        -------
        Tensor
            bool (batch, modality), nowhere True where ``batch_available`` is False.
        """
        return batch_available

    def adapt(self, features: Features, *, modalities: tuple[str, ...]) -> Features:  # noqa: ARG002
        """Change what the encoders saw before it is fused; ``modalities`` are the network's, in order."""
        return features

    def loss(self, step: Step, loss: Tensor) -> Tensor:  # noqa: ARG002
        """Return what is minimised, a scalar; ``loss`` is the task's."""
        return loss

    def gradients(self, network: Any) -> None:
        """Change the gradients before the optimiser uses them."""

    def observe(self, figures: Mapping[str, Sequence[float]]) -> float:  # noqa: ARG002
        """Take note of what a validation epoch measured.

        Parameters
        ----------
        figures
            For each name in :attr:`watches` one value a modality, in the network's order.

        Returns
        -------
        float
            How far the network is from what the method was told to reach; 0 where it is there, or was told nothing.
        """
        return 0.0

    def figures(self) -> dict[str, float]:
        """Return numbers to log: shares, efforts."""
        return {}

    def targets(self) -> dict[int, tuple[float, float]]:
        """Return what is steered towards: column of a modality -> lowest and highest wanted share, 0 to 1."""
        return {}


def parts_of(strategy: Strategy) -> list[Strategy]:
    """Return a strategy and all that it is made of."""
    return [part for part in strategy.modules() if isinstance(part, Strategy)]
