"""Features: what the encoders saw, kept so that every later pass costs only fusion and decoder."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True, kw_only=True)
class Features:
    """Encoded modalities of one batch.

    Attributes
    ----------
    maps
        Per modality the projected feature maps (batch, channel, y, x), fine to coarse; zeros for a sample in
        which the modality is absent.
    shares
        Per modality and scale the valid share of each cell, float (batch, 1, y, x) in [0, 1]; 0 for a sample in
        which the modality is absent.
    size
        (rows, columns) of the input in pixels, before padding.
    changed
        bool (batch,): samples of which something was replaced, so that they tell nothing of the scene's reliance; None
        where there is none.
    """

    maps: Mapping[str, list[Tensor]]
    shares: Mapping[str, list[Tensor]]
    size: tuple[int, int]
    changed: Tensor | None = None

    @property
    def batch(self) -> int:
        """Number of samples."""
        return next(iter(self.shares.values()))[0].shape[0]

    @property
    def device(self) -> torch.device:
        """Where the tensors lie."""
        return next(iter(self.shares.values()))[0].device

    def rolled(self, modality: str, index: Tensor) -> Self:
        """Give every sample another sample's modality, features and valid shares together.

        Parameters
        ----------
        modality
            The one that moves; all others stay.
        index
            int64 (batch,): sample ``b`` receives the modality of sample ``index[b]``.

        Returns
        -------
        Features
            A new value; the tensors of the other modalities are shared with this one.
        """
        return replace(
            self,
            maps={**self.maps, modality: [feature[index] for feature in self.maps[modality]]},
            shares={**self.shares, modality: [share[index] for share in self.shares[modality]]},
        )

    def detached(self) -> Self:
        """Return the same values without their history: what is computed from them teaches no encoder."""
        return replace(self, maps={name: [feature.detach() for feature in maps] for name, maps in self.maps.items()})

    def as_type(self, dtype: torch.dtype) -> Self:
        """Return the same maps in another data type; shares stay as they are."""
        return replace(self, maps={name: [feature.to(dtype) for feature in maps] for name, maps in self.maps.items()})

    def replaced(self, means: Mapping[str, list[Tensor]]) -> Self:
        """Return the features with some modalities saying the same everywhere; which cells they saw stays.

        Parameters
        ----------
        means
            Modality -> per scale (channel, 1, 1).
        """
        same = {name: [m.expand_as(f) for m, f in zip(means[name], self.maps[name], strict=True)] for name in means}
        return replace(self, maps={**self.maps, **same})

    def of(self, rows: Tensor) -> Self:
        """Return some samples, int64 (n,), in that order."""
        return replace(
            self,
            maps={name: [feature[rows] for feature in maps] for name, maps in self.maps.items()},
            shares={name: [share[rows] for share in shares] for name, shares in self.shares.items()},
            changed=None if self.changed is None else self.changed[rows],
        )


def padded_size(size: tuple[int, int], *, depth: int) -> tuple[int, int]:
    """Return the size that an encoder of this depth can take.

    Two cells at the deepest scale are the least, because batch normalisation cannot train on a single value.

    Parameters
    ----------
    size
        (rows, columns) in pixels, each at least 1.
    depth
        Number of strides of the encoder.

    Returns
    -------
    tuple of int
        (rows, columns): multiples of ``2 ** depth``, each at least ``2 * 2 ** depth``.
    """
    stride = 2**depth
    rows, columns = (max(2, -(-length // stride)) * stride for length in size)
    return rows, columns


def pad(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Extend (batch, band, y, x) with zeros below and to the right up to ``size`` (rows, columns)."""
    rows, columns = image.shape[-2:]
    if (rows, columns) == size:
        return image
    return F.pad(image, (0, size[1] - columns, 0, size[0] - rows))


def valid_shares(valid: Tensor, *, scales: tuple[int, ...]) -> list[Tensor]:
    """Downsample a validity mask by area.

    Parameters
    ----------
    valid
        float (batch, 1, y, x), 1 where usable; y and x are multiples of ``2 ** max(scales)``.
    scales
        Scale numbers; scale ``k`` has stride ``2 ** k``.

    Returns
    -------
    list of Tensor
        float (batch, 1, y / stride, x / stride) in [0, 1] per scale.
    """
    return [F.avg_pool2d(valid, 2**scale) for scale in scales]
