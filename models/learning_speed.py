"""Learning speed: which modality a network is learning from, read off its gradients."""

from collections.abc import Iterable
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn.utils import get_total_norm

from .errors import require


class EncoderNetwork(Protocol):
    """A module whose encoders, in the order of its modalities, can be told from the rest."""

    def modality_encoders(self) -> Iterable[nn.Module]:
        """One module per modality."""
        ...

    def parameters(self) -> Iterable[nn.Parameter]:
        """All parameters, the encoders' included."""
        ...


class ConditionalLearningSpeed(nn.Module):
    """Speed at which each modality's encoder learns, against what all modalities share.

    Per step and group of parameters ``mu = ||grad||^2 / ||theta||^2``, added up over steps; the speed of modality m is
    ``s_m = log10(sum mu_m / sum mu_shared)``, ``mu_m`` of its encoder and ``mu_shared`` of fusion, decoder and head.
    After the conditional learning speed of Wu, Jastrzebski, Cho, Geras (ICML 2022), who compare the cross-modal with
    the unimodal parameters of each of two branches. Ours: any number of modalities and one shared decoder, whose part
    cancels in differences ``s_i - s_k``. The modality that is ahead has the largest speed.

    Parameters
    ----------
    modalities
        Their number, at least 1.

    Raises
    ------
    ModelError
        There is no modality.
    """

    total: Tensor
    shared: Tensor
    steps: Tensor

    def __init__(self, modalities: int) -> None:
        super().__init__()
        require(modalities >= 1, f"{modalities} modalities", "at least 1", "correct it")
        # Buffers, so that a resumed training goes on with the sums of the interrupted one.
        self.register_buffer("total", torch.zeros(modalities, dtype=torch.float64))
        self.register_buffer("shared", torch.zeros((), dtype=torch.float64))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def accumulate(self, network: EncoderNetwork) -> None:
        """Take in the gradients of one step: after ``backward``, unscaled, before the optimiser moves the parameters.

        Parameters
        ----------
        network
            Its parameters without a gradient, as of a modality that the batch lacks or of a frozen encoder, add 0.

        Raises
        ------
        ModelError
            The number of encoders is another.
        """
        encoders = [list(encoder.parameters()) for encoder in network.modality_encoders()]
        count = len(self.total)
        require(len(encoders) == count, f"{len(encoders)} encoders", f"{count}", "make one meter per network")
        own = {id(parameter) for group in encoders for parameter in group}
        self.total += torch.stack([_relative(group) for group in encoders]).to(self.total)
        self.shared += _relative([part for part in network.parameters() if id(part) not in own]).to(self.shared)
        self.steps += 1

    def reset(self) -> None:
        """Forget all steps."""
        for buffer in (self.total, self.shared, self.steps):
            buffer.zero_()

    def speeds(self) -> tuple[float | None, ...]:
        """Return ``s_m`` in the order of the encoders; None where nothing was learned, for one there is no speed.

        Returns
        -------
        tuple of float or None
            Powers of ten: 1 is a relative change ten times that of the shared parameters.
        """
        return tuple(
            float((total / self.shared).log10()) if total > 0 and self.shared > 0 else None for total in self.total
        )

    def differences(self) -> Tensor:
        """Return ``s_i - s_k``, float64 (modality, modality), antisymmetric; NaN where a speed is undefined."""
        logarithm = self.total.where(self.total > 0, torch.nan).log10()
        return logarithm[:, None] - logarithm[None, :]


def _relative(parameters: Iterable[nn.Parameter]) -> Tensor:
    """Return ``||grad||^2 / ||theta||^2`` of a group, float64 (); 0 where there is no gradient."""
    parameters = list(parameters)
    gradients = [part.grad for part in parameters if part.grad is not None]
    if not gradients:
        return torch.zeros((), dtype=torch.float64)
    gradient, size = (get_total_norm(group).double().square() for group in (gradients, parameters))
    return gradient / size.clamp_min(torch.finfo(torch.float64).tiny)
