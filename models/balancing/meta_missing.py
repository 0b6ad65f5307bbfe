"""Meta step for missing modalities: decision layers that have just learned from a subset answer for everything."""

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from ..errors import require
from ..evaluation import present
from ..features import Features
from ..scores import full_precision
from ..three_steps import ThreeSteps
from .exchange import kept_statistics
from .gradient_reversal import ramp, reversed_gradient
from .strategy import Step, Strategy
from .subset_sampling import SubsetSampling

#: Kinds of network that have a fused feature map; the others join answers.
_WITH_FEATURES = frozenset({"fusion", "early"})

_HIDDEN = 64


class MetaMissing(Strategy):
    r"""An inner step on a subset of the modalities, an outer loss on all of them, and a detector to hide from.

    With features ``F``, decision layers ``phi`` (fusion, decoder, head), task loss ``L`` and a random subset ``S`` of
    what is present, ``A``::

        g    = d L(phi; F, S) / d phi
        phi' = phi - alpha g                          g is a constant: first order
        loss = L(phi'; F, A) + inner_weight L(phi; F, S) + D

    The gradient of the outer loss at ``phi'`` reaches ``phi`` as it is, and the encoders through ``F``. ``D`` is the
    cross entropy of a small detector that reads the pooled coarsest fused map of ``S`` and says of each modality
    whether it was shown. The detector learns; what is below it gets the reversed gradient, with a weight that rises
    from 0 to ``adversary``.

    Inner steps on partial and outer ones on full modalities, and the adversarial detector of missing modalities, are
    those of Konwer et al., "Enhancing modality-agnostic representations via meta-learning for brain tumor segmentation"
    (ICCV 2023), of which the abstract alone was at hand. From first-order MAML (Finn et al., ICML 2017) it differs in
    this: one inner step, on the decision layers alone, from the same samples; and the inner loss is minimised, too.
    Ours: these differences, all constants, the detector's form, and that it is asked only about modalities that we hid
    or could have hidden ourselves, so that features need not hide what a scene looks like where a sensor never looks.

    Experimental. It replaces the task's loss: name it before strategies that add to it.

    Parameters
    ----------
    alpha
        Length of the inner step, 0 or more; at 0 this is joint training on full and partial inputs.
    inner_weight
        Weight of the loss of the subset, 0 or more.
    adversary
        Weight of the reversed gradient at the end of training, 0 or more; 0: no detector. Networks that join answers
        (``late``, ``i2m2``) have no fused features and never have one.

    Raises
    ------
    ModelError
        A setting is out of range.
    """

    def __init__(self, *, alpha: float = 0.1, inner_weight: float = 1.0, adversary: float = 1.0) -> None:
        super().__init__()
        for name, value in (("alpha", alpha), ("inner_weight", inner_weight), ("adversary", adversary)):
            require(0 <= value < float("inf"), f"{name} {value}", "0 or more", "correct it")
        self.alpha, self.inner_weight, self.adversary = alpha, inner_weight, adversary
        self.subsets = SubsetSampling()
        self.detector: PresenceDetector | None = None

    def attach(self, network: ThreeSteps) -> None:
        """Build the detector where there is something to hide and somewhere to look."""
        if self.adversary > 0 and len(network.modalities) > 1 and network.kind in _WITH_FEATURES:
            widths = network.spec.widths
            self.detector = PresenceDetector(widths[max(widths)], modalities=len(network.modalities))

    def loss(self, step: Step, loss: Tensor) -> Tensor:  # noqa: ARG002 (the outer loss takes its place)
        """Return outer and inner loss, and the detector's where there is one."""
        shown = present(step.features, step.available, modalities=step.network.modalities)
        drawn = self.subsets.available(shown, generator=step.generator)
        # The main pass alone enters the running statistics of batch normalisation.
        with kept_statistics(step.network):
            fused = step.network.fuse(step.features, drawn)
            inner = step.criterion(full_precision(step.network.decode(fused, size=step.features.size)), step.target)
            moved = moved_parameters(step.network, inner, alpha=self.alpha)
            logits = functional_call(_Answer(step.network), moved, (step.features, step.available))
        total = step.criterion(logits, step.target) + self.inner_weight * inner
        asked = shown & (shown.sum(dim=1, keepdim=True) > 1)
        if self.detector is None or not bool(asked.any()):
            return total
        weight = ramp(step.progress, most=self.adversary)
        pooled = reversed_gradient(fused[-1].mean(dim=(-2, -1)), weight)
        return total + detector_loss(self.detector(pooled), drawn, asked=asked)


class PresenceDetector(nn.Module):
    """Says of each modality whether it was there, from pooled features.

    Parameters
    ----------
    width
        Channels of the features.
    modalities
        How many are asked about.
    """

    def __init__(self, width: int, *, modalities: int) -> None:
        super().__init__()
        # Normalised, so that features cannot hide by being small.
        self.layers = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, _HIDDEN), nn.ReLU(), nn.Linear(_HIDDEN, modalities)
        )

    def forward(self, pooled: Tensor) -> Tensor:
        """Return logits, float32 (batch, modality), of presence from float (batch, channel)."""
        return full_precision(self.layers(pooled))


def detector_loss(logits: Tensor, drawn: Tensor, *, asked: Tensor) -> Tensor:
    """Return the mean binary cross entropy over what is asked.

    Parameters
    ----------
    logits
        float (batch, modality).
    drawn
        bool (batch, modality): what was shown.
    asked
        bool (batch, modality), at least one True: what counts.

    Returns
    -------
    Tensor
        Scalar, in nats.
    """
    drawn, asked = drawn.to(logits.device), asked.to(logits.device)
    return F.binary_cross_entropy_with_logits(logits[asked], drawn[asked].to(logits.dtype))


def moved_parameters(network: ThreeSteps, loss: Tensor, *, alpha: float) -> dict[str, Tensor]:
    """Return the decision layers' parameters after one step of gradient descent.

    The gradient is taken for a constant, so that what comes back to a moved parameter reaches its origin as it is.

    Parameters
    ----------
    network
        Whose parameters outside of the encoders move; those that are frozen, or that ``loss`` does not depend on, stay.
    loss
        Scalar; its graph is kept.
    alpha
        Length of the step.

    Returns
    -------
    dict
        ``network.<name>`` -> tensor of the parameter's shape.
    """
    encoders = {id(item) for encoder in network.modality_encoders() for item in encoder.parameters()}
    chosen = {
        f"network.{name}": item
        for name, item in network.named_parameters()
        if item.requires_grad and id(item) not in encoders
    }
    found = torch.autograd.grad(loss, list(chosen.values()), retain_graph=True, allow_unused=True)
    return {
        name: item - alpha * gradient.detach()
        for (name, item), gradient in zip(chosen.items(), found, strict=True)
        if gradient is not None
    }


class _Answer(nn.Module):
    """Fusion and decoder as one call, for parameters that are given from outside."""

    def __init__(self, network: ThreeSteps) -> None:
        super().__init__()
        self.network = network

    def forward(self, features: Features, available: Tensor) -> Tensor:
        """Return the logits, float32."""
        return full_precision(self.network.decode(self.network.fuse(features, available), size=features.size))
