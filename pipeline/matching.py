"""Matching between modalities: by how much the structure of two images agrees, block by block, at every shift."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from .structure import Structure

#: Least share of a block that both images must cover.
LEAST_COVER = 0.3

#: Least mean square of the structure of a block: below it, there is nothing but rounding.
LEAST_STRUCTURE = 1e-6


@dataclass(frozen=True, kw_only=True)
class ScoreSurfaces:
    """How well blocks of a reference agree with a moving image at every whole shift.

    Attributes
    ----------
    scores
        float32 (block, 2 radius + 1, 2 radius + 1): correlation of the structure, about -1 to 1, by shift in rows and
        columns; the middle is no shift. A peak at (radius + r, radius + c) says that the block's content lies r rows
        down and c columns right in the moving image.
    centres
        float64 (block, 2): row and column of the middle of what is valid in each block, in pixels of the reference.
    """

    scores: NDArray[np.float32]
    centres: NDArray[np.float64]

    @property
    def radius(self) -> int:
        """Largest shift in pixels."""
        return (self.scores.shape[1] - 1) // 2

    def __len__(self) -> int:
        return len(self.scores)

    @classmethod
    def joined(cls, parts: Sequence["ScoreSurfaces"]) -> "ScoreSurfaces":
        """Return the blocks of all parts, which have one radius, in their order."""
        return cls(
            scores=np.concatenate([part.scores for part in parts]),
            centres=np.concatenate([part.centres for part in parts]),
        )


def score_surfaces(
    reference: Structure, moving: Structure, corners: NDArray[np.intp], *, size: int, radius: int
) -> ScoreSurfaces:
    """Correlate blocks of the reference with the moving image at every shift up to ``radius``.

    Masked correlation through the Fourier transform: what is not valid in either image counts nowhere, and the sum is
    divided by what both cover (Padfield 2012, with the means taken over the whole block and window).

    Parameters
    ----------
    reference, moving
        Structure on the same pixels.
    corners
        Upper left row and column of each block, (block, 2); shifted blocks may reach beyond the image.
    size
        Edge of a block, px.
    radius
        Largest shift, px.

    Returns
    -------
    Surfaces of the blocks that both images cover by :data:`LEAST_COVER`, centres in pixels of these images.
    """
    pad = ((radius, radius), (radius, radius))
    channels, weight = np.pad(moving.channels, ((0, 0), *pad)), np.pad(moving.weight, pad)
    scores, centres = [], []
    for row, col in corners:
        block = slice(row, row + size), slice(col, col + size)
        window = slice(row, row + size + 2 * radius), slice(col, col + size + 2 * radius)
        part = reference.weight[block]
        surface = _surface(reference.channels[:, *block], part, channels[:, *window], weight[window], radius)
        if surface is not None:
            scores.append(surface)
            centres.append((row + _middle(part.sum(axis=1)), col + _middle(part.sum(axis=0))))
    edge = 2 * radius + 1
    return ScoreSurfaces(
        scores=np.array(scores, np.float32).reshape(-1, edge, edge), centres=np.array(centres, float).reshape(-1, 2)
    )


def _surface(
    block: NDArray[np.float32],
    weight: NDArray[np.float32],
    window: NDArray[np.float32],
    seen: NDArray[np.float32],
    radius: int,
) -> NDArray[np.float32] | None:
    """Return the scores of one block, or None where too little is covered or nothing has structure."""
    area, covered = weight.size, float(weight.sum())
    if covered < LEAST_COVER * area or not seen.any():
        return None
    block, window = _centred(block, weight), _centred(window, seen)
    energies = float(np.vdot(block, block)), float(np.vdot(window, window)) / float(seen.sum()) * covered
    if min(energies) < LEAST_STRUCTURE * covered:
        return None
    edge, shape = 2 * radius + 1, (fft.next_fast_len(window.shape[1], real=True),) * 2
    product = np.einsum("cyx,cyx->yx", np.conj(fft.rfft2(block, shape)), fft.rfft2(window, shape))
    scores = fft.irfft2(product, shape)[:edge, :edge]
    if covered < area or not seen.all():
        common = fft.irfft2(np.conj(fft.rfft2(weight, shape)) * fft.rfft2(seen, shape), shape)[:edge, :edge]
        if common.mean() < LEAST_COVER * area:
            return None
        # At shifts that cover little, chance would win by the division alone.
        scores = scores * (covered / np.maximum(common, covered / 5))
    return (scores / np.sqrt(energies[0] * energies[1])).astype(np.float32)


def _centred(channels: NDArray[np.float32], weight: NDArray[np.float32]) -> NDArray[np.float32]:
    mean = channels.sum(axis=(1, 2)) / weight.sum()  # channels are 0 where the weight is
    return (channels - mean[:, None, None]) * weight


def _middle(weights: NDArray[np.float32]) -> float:
    return float(np.arange(len(weights)) @ weights / weights.sum())
