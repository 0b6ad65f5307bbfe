"""Frozen head: encoders are trained each alone, then frozen; fresh decision layers are trained on all of them."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from ..three_steps import ThreeSteps
from .strategy import Step, Strategy
from .unimodal import unimodal_losses


class FrozenHead(Strategy):
    """The two-phase recipe of Singh et al. (Sensors 2024): unimodal pre-training, then decision layers alone.

    In the first phase the loss is the mean of the unimodal task losses, through shared decision layers (the paper gives
    each modality its own). Then fusion, decoder and head start again from random weights, and the encoders stand still,
    batch normalisation included.

    Parameters
    ----------
    pretraining
        Share of the training that the first phase takes, 0 to 1; the change comes with an epoch.
    """

    needs_encoders = True
    frozen: Tensor

    def __init__(self, pretraining: float = 0.5) -> None:
        super().__init__()
        self.pretraining = self.warm_up = pretraining
        self.register_buffer("frozen", torch.zeros((), dtype=torch.bool))

    def begin_epoch(self, network: ThreeSteps, *, progress: float) -> None:
        """Freeze the encoders when their time is over."""
        if progress < self.pretraining:
            return
        if not bool(self.frozen):
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                for part in decision_layers(network):
                    _restart(part)
            self.frozen.fill_(True)
        for encoder in network.modality_encoders():
            encoder.requires_grad_(False).eval()

    def loss(self, step: Step, loss: Tensor) -> Tensor:
        """Return the unimodal losses' mean in the first phase, the task's afterwards."""
        if bool(self.frozen):
            return loss
        losses = [found for _, found in unimodal_losses(step)]
        return torch.stack(losses).mean() if losses else loss

    def observe(self, figures: Mapping[str, Sequence[float]]) -> float:  # noqa: ARG002
        """Return 1 in the first phase: a network that is still to be restarted is not what was asked for."""
        return 0.0 if bool(self.frozen) else 1.0


def decision_layers(network: ThreeSteps) -> list[nn.Module]:
    """Return every module, at any depth, that holds no part of an encoder and is no part of one."""
    encoders = {id(part) for encoder in network.modality_encoders() for part in encoder.modules()}
    return [part for part in network.modules() if encoders.isdisjoint(map(id, part.modules()))]


def _restart(layer: nn.Module) -> None:
    reset = getattr(layer, "reset_parameters", None)
    if callable(reset):
        reset()
