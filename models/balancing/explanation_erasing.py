"""Explanation-guided erasing: the modality that is used too much is hidden where the answer rests on it most."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import require
from ..features import Features
from .exchange import kept_statistics
from .saliency import feature_saliency, most_salient
from .share_target import ShareTarget
from .strategy import Step, Strategy

_MOST = 0.8


class ExplanationErasing(Strategy):
    """A second loss on features from which the most salient cells of over-used modalities are erased.

    ``loss + L(decode(erased))``. The saliency of each modality's coarsest features is computed in the step
    (:func:`~equipoise.models.balancing.saliency.feature_saliency`); of a modality that is used more than is allowed,
    the most salient share ``e_m`` of the cells counts as not observed, at every scale. After each validation epoch
    ``e_m <- clip(e_m + gain (r_m - allowed_m), 0, .8)``, with the bounded share ``r_m`` and the allowed share that is
    nearest to it; without a target, the modality's share of the information.

    That explanations which are computed in training change what is shown is the idea of ET (Ayyar et al., ICIP 2024,
    known to us by its abstract), which hides what is not salient. Ours: what is salient is hidden, of the modality that
    is used too much alone, in features and not in pixels, and by how much is controlled by shares. Experimental.

    Parameters
    ----------
    target
        Allowed shares; free for all modalities: those of the information.
    enough
        Within which an epoch counts as there; None: as ``target``.
    gain
        Of the control, above 0.
    warm_up
        Share of the training before which nothing is erased.

    Raises
    ------
    ModelError
        ``gain`` is not above 0.
    """

    needs_encoders = True
    erased: Tensor

    def __init__(
        self, target: ShareTarget, *, enough: ShareTarget | None = None, gain: float = 1.0, warm_up: float = 0.1
    ) -> None:
        super().__init__()
        require(gain > 0, f"gain {gain}", "above 0", "correct it")
        self.target, self.enough = target, target if enough is None else enough
        self.gain, self.warm_up = gain, warm_up
        self.bound = any(pair != (0.0, 1.0) for pair in zip(target.low, target.high, strict=True))
        self.watches = frozenset({"share"} if self.bound else {"share", "information"})
        self.register_buffer("erased", torch.zeros(len(target.low), dtype=torch.float64))

    def loss(self, step: Step, loss: Tensor) -> Tensor:
        """Add the loss on what is left when the most salient cells are erased."""
        if step.progress < self.warm_up or not bool((self.erased > 0).any()):
            return loss
        features = erase(step, [float(value) for value in self.erased])
        with kept_statistics(step.network):
            return loss + step.criterion(step.decode(step.available, features=features), step.target)

    def observe(self, figures: Mapping[str, Sequence[float]]) -> float:
        """Erase more of what is used too much, less of what is not; return how far shares are from the target."""
        shares = figures.get("share")
        if shares is None:
            return 0.0
        found = torch.tensor(shares, dtype=torch.float64, device=self.erased.device)
        if self.bound:
            allowed = self.target.nearest(found)
        else:
            allowed = torch.tensor(figures.get("information", shares), dtype=torch.float64, device=self.erased.device)
        self.erased.add_(self.gain * (found - allowed)).clamp_(0, _MOST)
        return self.enough.miss(shares) if self.bound else 0.0

    def figures(self) -> dict[str, float]:
        """Return the erased shares by column."""
        return {f"erased_{column}": value for column, value in enumerate(self.erased.tolist())}

    def targets(self) -> dict[int, tuple[float, float]]:
        """Return lowest and highest wanted share by column, where there is a wish."""
        pairs = enumerate(zip(self.enough.low, self.enough.high, strict=True))
        return {column: pair for column, pair in pairs if pair != (0.0, 1.0)}


def erase(step: Step, fractions: Sequence[float]) -> Features:
    """Return the step's features without the most salient cells of some modalities.

    Parameters
    ----------
    step
        As :func:`~equipoise.models.balancing.saliency.feature_saliency` takes it.
    fractions
        Share of the observed cells of each modality that is erased, 0 to 1, in the network's order.

    Returns
    -------
    Features
        With valid shares of 0 where something was erased, at every scale; maps are those of the step.
    """
    shares = dict(step.features.shares)
    saliency = feature_saliency(step)
    for name, values, fraction in zip(step.network.modalities, saliency, fractions, strict=True):
        if values is None or fraction <= 0:
            continue
        seen = shares[name][-1][:, 0] > 0
        kept = (~most_salient(values, seen, fraction=fraction)).to(shares[name][-1])[:, None]
        shares[name] = [share * F.interpolate(kept, size=share.shape[-2:], mode="nearest") for share in shares[name]]
    return replace(step.features, shares=shares)
