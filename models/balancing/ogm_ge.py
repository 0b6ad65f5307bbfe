"""On-the-fly gradient modulation: the encoder of the modality that is ahead learns more slowly, with noise."""

import torch
from torch import Tensor

from ..scores import brier_score
from ..three_steps import ThreeSteps
from .strategy import Step, Strategy
from .unimodal import alone


class OgmGe(Strategy):
    """Scale the gradients of encoder m by ``1 - tanh(alpha rho_m)`` where ``rho_m > 1`` (Peng et al., CVPR 2022).

    ``rho_m`` is how sure modality m alone is of the truth, against the mean of the others; here ``1 - b`` of the shared
    decision layers on that modality alone stands for it. Gaussian noise with the deviation of each scaled gradient is
    added ("generalisation enhancement").

    Parameters
    ----------
    alpha
        Strength, 0 to 1.
    noise
        Whether noise is added.
    """

    needs_encoders = True
    needs_own_encoders = True
    factors: Tensor
    draw: Tensor

    def __init__(self, modalities: int, *, alpha: float = 0.3, noise: bool = True) -> None:
        super().__init__()
        self.alpha, self.noise = alpha, noise
        self._batches = 0
        self.register_buffer("factors", torch.ones(modalities, dtype=torch.float64))
        self.register_buffer("draw", torch.zeros((), dtype=torch.int64))

    def loss(self, step: Step, loss: Tensor) -> Tensor:
        """Note how far each modality is; the loss stays."""
        count = step.available.shape[1]
        with torch.no_grad():
            sure = torch.full((count,), torch.nan, dtype=torch.float64)
            for column in range(count):
                rows, logits = alone(step, column)
                if len(rows):
                    sure[column] = 1 - brier_score(logits.float(), step.target[rows]).nanmean().double()
        found = torch.ones_like(self.factors)
        for column in range(count):
            others = torch.cat([sure[:column], sure[column + 1 :]]).nanmean()
            ahead = float(sure[column] / others)
            if ahead > 1:
                found[column] = 1 - torch.tanh(torch.tensor(self.alpha * ahead))
        # Where gradients are accumulated over batches, the mean of the batches counts.
        self._batches += 1
        self.factors = found if self._batches == 1 else self.factors + (found - self.factors) / self._batches
        self.draw.fill_(int(torch.randint(2**31, (1,), generator=step.generator, device=step.generator.device)))
        return loss

    def gradients(self, network: ThreeSteps) -> None:
        """Scale the encoders' gradients."""
        self._batches = 0
        generator = torch.Generator().manual_seed(int(self.draw))
        for encoder, factor in zip(network.modality_encoders(), self.factors.tolist(), strict=True):
            for parameter in encoder.parameters():
                if factor == 1 or parameter.grad is None:
                    continue
                deviation = float(parameter.grad.std()) if self.noise and parameter.grad.numel() > 1 else 0.0
                parameter.grad.mul_(factor)
                if deviation > 0:
                    noise = torch.randn(parameter.grad.shape, generator=generator).to(parameter.grad)
                    parameter.grad.add_(noise, alpha=deviation)

    def figures(self) -> dict[str, float]:
        """Return the factors by column."""
        return {f"gradient_factor_{m}": value for m, value in enumerate(self.factors.tolist())}
