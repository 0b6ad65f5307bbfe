"""CoreAnswers: what a U-Net says of the middle of a window, without decoding its margins further than it must."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .features import Features


@dataclass(frozen=True, kw_only=True)
class CoreRegions:
    """What each scale has to hold so that the core's logits are those of the whole window.

    Every pair of 3x3 convolutions looks two cells far, and the head one more. What is cut away is what no cell of the
    core depends on; at the window's own border nothing is missing that the whole window would have.

    Attributes
    ----------
    inputs
        Per scale, coarse to fine, without the coarsest: rows and columns that a decoder block works on.
    outputs
        Per scale, fine to coarse: rows and columns whose values are right after it; that of the coarsest scale is what
        the decoder begins with.
    wanted
        Rows, and columns, whose logits are asked for.
    """

    inputs: tuple[tuple[slice, slice], ...]
    outputs: tuple[tuple[slice, slice], ...]
    wanted: slice

    @classmethod
    def of(cls, core: slice, *, sizes: Sequence[tuple[int, int]]) -> "CoreRegions":
        """Return the regions that a square core needs.

        Parameters
        ----------
        core
            Rows, and columns, of the window.
        sizes
            (rows, columns) of each scale, fine to coarse.
        """
        axes = [_axis_regions(core, [size[axis] for size in sizes]) for axis in (0, 1)]
        inputs, outputs = (tuple(zip(*(axis[kind] for axis in axes), strict=True)) for kind in (0, 1))
        return cls(inputs=inputs[::-1], outputs=outputs, wanted=core)

    def core(self, size: tuple[int, int]) -> tuple[slice, slice]:
        """Return the rows and the columns of the core that lie within ``size``, the window before it was padded."""
        rows, cols = (slice(self.wanted.start, min(self.wanted.stop, length)) for length in size)
        return rows, cols

    @property
    def parts(self) -> list[tuple[slice, slice]]:
        """Rows and columns of the features of each scale that the core needs, fine to coarse."""
        return [self.outputs[0], *self.inputs[::-1][1:], self.outputs[-1]]

    def fused(self, whole: Sequence[Tensor]) -> list[Tensor]:
        """Cut the fused maps of a window, fine to coarse, to what the core needs."""
        return [
            _cut(values, part).contiguous(memory_format=torch.channels_last)
            for values, part in zip(whole, self.parts, strict=True)
        ]

    def features(self, whole: Features) -> Features:
        """Cut the features of a window to what the core needs."""
        parts = self.parts
        return replace(
            whole,
            maps={
                name: [_cut(values, part).contiguous(memory_format=torch.channels_last)
                       for values, part in zip(maps, parts, strict=True)]
                for name, maps in whole.maps.items()
            },
            shares={
                name: [_cut(values, part) for values, part in zip(shares, parts, strict=True)]
                for name, shares in whole.shares.items()
            },
        )  # fmt: skip


def decode_core(decoder: nn.Module, fused: Sequence[Tensor], regions: CoreRegions) -> Tensor:
    """Run the blocks of a U-Net decoder, each on no more than the core needs.

    Parameters
    ----------
    decoder
        A decoder of segmentation-models-pytorch's U-Net.
    fused
        Maps fine to coarse, cut as :meth:`CoreRegions.features` cuts features.
    regions
        Where they lie in the window.

    Returns
    -------
    Tensor
        What the decoder says, (batch, channel, rows, columns), on the finest region of ``regions.outputs``.
    """
    unet: Any = decoder
    skips = [*fused[1:-1][::-1], None]
    outputs = regions.outputs[:-1][::-1]
    values = unet.center(fused[-1])
    for block, skip, given, wanted in zip(unet.blocks, skips, regions.inputs, outputs, strict=True):
        rows, cols = given
        values = block(values, rows.stop - rows.start, cols.stop - cols.start, skip)
        values = _cut(values, (_within(wanted[0], rows), _within(wanted[1], cols)))
    return values


def head_at(head: nn.Sequential, values: Tensor, regions: CoreRegions, *, size: tuple[int, int], every: int) -> Tensor:
    """Run a head, a 3x3 convolution and layers that look at single places, at some pixels of the core.

    Parameters
    ----------
    head
        Of the network.
    values
        What it reads, (batch, channel, rows, columns), on the finest region of ``regions.outputs``.
    regions
        Where that lies in the window.
    size
        (rows, columns) of the window before it was padded.
    every
        Distance of the pixels, from the core's first on.

    Returns
    -------
    Tensor
        Logits (batch, class, rows, columns).
    """
    convolution: Any = head[0]
    wanted = regions.core(size)
    # A kernel stands around each wanted pixel: where that is the window's first or last, zeros stand beyond it.
    before = [1 - (axis.start - found.start) for axis, found in zip(wanted, regions.outputs[0], strict=True)]
    padded = F.pad(values, (before[1], 1, before[0], 1))
    found = F.conv2d(padded, convolution.weight, convolution.bias, stride=every)
    lengths = [-(-(axis.stop - axis.start) // every) for axis in wanted]
    logits = found[..., : lengths[0], : lengths[1]]
    for layer in list(head)[1:]:
        logits = layer(logits)
    return logits


def _axis_regions(core: slice, lengths: Sequence[int]) -> tuple[list[slice], list[slice]]:
    """Return inputs and outputs of one axis, fine to coarse."""
    outputs = [slice(max(core.start - 1, 0), min(core.stop + 1, lengths[0]))]
    inputs = []
    for coarser in lengths[1:]:
        first, last = (outputs[-1].start - 2) // 2, -(-(outputs[-1].stop + 2) // 2)
        outputs.append(slice(max(first, 0), min(last, coarser)))
        inputs.append(slice(2 * outputs[-1].start, 2 * outputs[-1].stop))
    return inputs, outputs


def _cut(values: Tensor, part: tuple[slice, slice]) -> Tensor:
    return values[..., part[0], part[1]]


def _within(part: slice, whole: slice) -> slice:
    return slice(part.start - whole.start, part.stop - whole.start)
