"""WindowAnswers: what the network says of a batch of windows, at a precision, averaged over symmetries."""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from ..models.features import Features
from .errors import PipelineError
from .reliance import Method, contributions

#: Name of a precision -> data type of the network's activations.
PRECISIONS = {"32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

#: Axes along which a window is turned over: the symmetries that keep its pixels upright.
FLIPS: Mapping[str, tuple[tuple[int, ...], ...]] = {"none": ((),), "flips": ((), (-1,), (-2,), (-2, -1))}


@dataclass(frozen=True, kw_only=True)
class LowPrecision:
    """A network whose steps run under autocast; its logits are float32.

    Attributes
    ----------
    network
        A :class:`~equipoise.models.three_steps.ThreeSteps` on its device.
    dtype
        Data type of its activations; float32 changes nothing.
    """

    network: Any
    dtype: torch.dtype

    @property
    def modalities(self) -> tuple[str, ...]:
        """Names in the order of the columns of ``available``."""
        return self.network.modalities

    def encode(self, image: Mapping[str, Tensor], *, valid: Mapping[str, Tensor], available: Tensor) -> Features:
        """Return the features of each modality."""
        with self._autocast(available.device):
            return self.network.encode(image, valid=valid, available=available)

    def fuse(self, features: Features, available: Tensor) -> list[Tensor]:
        """Join the features of the modalities that ``available`` lets through."""
        with self._autocast(available.device):
            return self.network.fuse(features, available)

    def decode(self, fused: list[Tensor], *, size: tuple[int, int]) -> Tensor:
        """Return logits float32 (batch, class, y, x)."""
        with self._autocast(fused[0].device):
            logits: Tensor = self.network.decode(fused, size=size)
        return logits.float()

    def core_answers(self, features: Features, core: slice | None, *, every: int = 1) -> Callable[[Tensor], Tensor]:
        """Return what turns ``available`` into logits float32 of the core."""
        with self._autocast(features.device):
            inner = self.network.core_answers(features.as_type(self.dtype), core, every=every)

        def answer(available: Tensor) -> Tensor:
            with self._autocast(available.device):
                logits: Tensor = inner(available)
            return logits.float()

        return answer

    def _autocast(self, device: torch.device) -> torch.autocast:
        enabled = self.dtype != torch.float32
        return torch.autocast(device.type, dtype=self.dtype if enabled else None, enabled=enabled)


@dataclass(frozen=True, kw_only=True)
class WindowAnswers:
    """Answers windows.

    Attributes
    ----------
    network
        As for :class:`LowPrecision`.
    prior
        Class shares in training, float32 (class,).
    reliance
        How contributions are computed, or ``none``.
    synergy
        Whether contributions get a channel more (:func:`~equipoise.pipeline.reliance.contributions`).
    precision
        A name in :data:`PRECISIONS`; softmax, averages and contributions are float32 in any case.
    augment
        A name in :data:`FLIPS`.
    temperature
        Divides the logits that probabilities are made of; contributions are those of the network as it was trained.
    core
        Rows, and columns, in the middle of the windows, that contributions are computed for; None: all.
    every
        They are computed for every n-th row and column of it.
    reliance_precision
        The name of the precision at which subsets of the modalities are answered; None: that of all of them.
    """

    network: Any
    prior: Tensor
    reliance: Method | Literal["none"]
    synergy: bool = False
    precision: str = "32"
    augment: str = "none"
    temperature: float = 1.0
    core: slice | None = None
    every: int = 1
    reliance_precision: str | None = None

    @torch.inference_mode()
    def __call__(self, tensors: Mapping[str, Any]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return probabilities and contributions.

        Parameters
        ----------
        tensors
            ``image``, ``valid`` and ``available`` of a batch of windows.

        Returns
        -------
        Probabilities float32 (window, class, y, x), the mean over the symmetries; and the modalities'
        contributions to that of the likeliest class, float32 (window, modality, rows, columns) of the core, with the
        synergy behind them where it was asked for; without reliance, an array without modalities.
        """
        network: Any = LowPrecision(network=self.network, dtype=PRECISIONS[self.precision])
        available, turns = tensors["available"], FLIPS[self.augment]
        kept: list[tuple[Features, Tensor]] = []
        probability: Tensor | None = None
        trained: Tensor | None = None
        for axes in turns:
            features = network.encode(_flipped(tensors["image"], axes), valid=_flipped(tensors["valid"], axes),
                                      available=available)  # fmt: skip
            logits = network.decode(network.fuse(features, available), size=features.size)
            probability = _added(probability, (logits / self.temperature).softmax(dim=1).flip(axes) / len(turns))
            if self.reliance != "none":
                trained = _added(trained, logits.softmax(dim=1).flip(axes) / len(turns))
                kept.append((features, logits))
        assert probability is not None  # noqa: S101 (for the type checker)
        if trained is None or self.reliance == "none":
            return probability.cpu().numpy(), np.zeros((len(available), 0, 0, 0), dtype=np.float32)
        phi: Tensor | None = None
        low: Any = LowPrecision(network=self.network, dtype=PRECISIONS[self.reliance_precision or self.precision])
        for axes, (features, logits) in zip(turns, kept, strict=True):
            # Each symmetry explains the mean answer: the contributions then sum to v(all) - v(none) of the mean.
            full = logits if len(turns) == 1 else trained.flip(axes).log()
            found = contributions(
                low, features, available, full=full, prior=self.prior, method=self.reliance, synergy=self.synergy,
                core=self.core, every=self.every,
            )  # fmt: skip
            phi = _added(phi, found.flip(axes) / len(turns))
        assert phi is not None  # noqa: S101 (likewise)
        return probability.cpu().numpy(), phi.cpu().numpy()


def multiplies_bf16(device: torch.device) -> bool:
    """Whether a CPU has instructions that multiply in bfloat16; on other devices float32 is no burden: False."""
    if device.type != "cpu":
        return False
    # Not in every version of torch.
    can: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(can.get("amx_bf16") or can.get("avx512_bf16"))


def check_precision(precision: str, device: torch.device) -> None:
    """Try a precision on a device.

    Raises
    ------
    PipelineError
        If the device cannot work at it.
    """
    wanted = PRECISIONS[precision]
    if wanted == torch.float32:
        return
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns and goes on in 32 bits, which the answer's type tells
            with torch.inference_mode(), torch.autocast(device.type, dtype=wanted):
                found = F.conv2d(torch.ones(1, 4, 8, 8, device=device), torch.ones(4, 4, 3, 3, device=device))
        works = found.dtype == wanted and bool(torch.isfinite(found).all())
        reason = f"it answers in {found.dtype}"
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        works, reason = False, " ".join(str(error).split())[:120]
    if not works:
        raise PipelineError(
            f"found a device, {device}, that does not work at precision {precision} ({reason}); wanted one that does; "
            "set `predict.precision: 32`"
        )


def _added(total: Tensor | None, part: Tensor) -> Tensor:
    return part if total is None else total + part


def _flipped(tensors: Mapping[str, Tensor], axes: tuple[int, ...]) -> dict[str, Tensor]:
    # Dates have no place to turn over.
    return {name: values.flip(axes) if axes and values.ndim > 2 else values for name, values in tensors.items()}
