"""Geometry that all modalities, masks and labels of a window share, through albumentations."""

import os
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

FloatLayers = NDArray[np.float32]

#: Channels of one call: OpenCV 5 refuses arrays of more than 128.
_CHANNELS = 64

#: Resampling rules of bands -> OpenCV's interpolation flags.
_RULES = {"nearest": 0, "bilinear": 1, "cubic": 2}


def albumentations() -> ModuleType:
    """Import albumentations: late, because it takes a second, and without its look for updates on the network."""
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    import albumentations

    return albumentations


class SharedGeometry:
    """One of the symmetries of the window: of the eight of a square, of the four of any other rectangle.

    Images, masks and labels travel through albumentations as the bands of one array, so that they cannot get out of
    step; the symmetries move pixels and never touch their values (most of albumentations' photometric transforms clip
    float32 to 0..1 and must not see physical units).
    """

    def __init__(self) -> None:
        library = albumentations()
        self._square = library.Compose([library.D4(p=1.0)])
        # One draw of four, not two of two: one seed makes all transforms of a pipeline draw the same numbers.
        half_turn = library.Sequential([library.HorizontalFlip(p=1.0), library.VerticalFlip(p=1.0)], p=1.0)
        single = (library.NoOp(p=1.0), library.HorizontalFlip(p=1.0), library.VerticalFlip(p=1.0))
        self._rectangle = library.Compose([library.OneOf([*single, half_turn], p=1.0)])

    def __call__(self, arrays: Mapping[str, FloatLayers], *, seed: int) -> dict[str, FloatLayers]:
        """Transform arrays (band, y, x) of one window together; the same seed gives the same geometry.

        Parameters
        ----------
        arrays
            Name -> float32 (band, y, x), all of one height and width; any values, NaN too.
        seed
            0 to 2**32 - 1.

        Returns
        -------
        Name -> float32 (band, y, x) of the same shapes, new arrays.
        """
        sizes = [array.shape[0] for array in arrays.values()]
        stacked = np.concatenate(list(arrays.values()))
        transform = self._square if stacked.shape[1] == stacked.shape[2] else self._rectangle
        parts = np.split(_transformed(transform, stacked, seed=seed), np.cumsum(sizes)[:-1])
        return {name: np.ascontiguousarray(part) for name, part in zip(arrays, parts, strict=True)}


class SmallAffine:
    """A small rotation, change of scale and shift about the window's middle, interpolated in physical values.

    An interpolated pixel is valid only where every source pixel that it was made from is valid and inside the window:
    what is not valid never bleeds into what is. (Albumentations alone would spread NaN under some kernels, blend its
    fill value under others, and take no fill for more than four bands.)

    Parameters
    ----------
    rotation_deg
        Largest rotation, degrees, either way.
    scale
        Largest change of scale, as a share of 1, either way.
    shift
        Largest shift, as a share of the window's edge, either way.
    """

    def __init__(self, *, rotation_deg: float, scale: float, shift: float) -> None:
        library = albumentations()

        def compose(rule: str, fill: float) -> Any:
            return library.Compose([
                library.Affine(
                    rotate=(-rotation_deg, rotation_deg), scale=(1 - scale, 1 + scale), keep_ratio=True,
                    translate_percent=(-shift, shift), interpolation=_RULES[rule], fill=fill, p=1.0,
                )
            ])  # fmt: skip

        # One transform a rule and fill value; equal seeds draw equal geometry for all of them.
        self._values = {rule: compose(rule, 0.0) for rule in _RULES}
        self._unusable = {rule: compose(rule, 1.0) for rule in ("nearest", "bilinear")}
        self._codes = compose("nearest", 255.0)

    def image(self, layers: FloatLayers, *, rules: Sequence[str], seed: int) -> FloatLayers:
        """Move the bands of one or more images.

        Parameters
        ----------
        layers
            float32 (band, y, x), NaN where not valid.
        rules
            Resampling rule of each band: ``nearest``, ``bilinear`` or ``cubic``.
        seed
            0 to 2**32 - 1; the same seed gives the same geometry.

        Returns
        -------
        float32 (band, y, x), a new array, NaN where not valid.
        """
        out = np.empty_like(layers)
        for rule in dict.fromkeys(rules):
            chosen = [number for number, other in enumerate(rules) if other == rule]
            unusable = ~np.isfinite(layers[chosen])
            moved = _transformed(self._values[rule], np.where(unusable, 0, layers[chosen]), seed=seed)
            # The support of a cubic sample is that of a linear one and a pixel more on each side.
            if rule == "cubic":
                unusable = ndimage.maximum_filter(unusable, size=(1, 3, 3), mode="constant", cval=True)
            support = self._unusable["nearest" if rule == "nearest" else "bilinear"]
            moved[_transformed(support, unusable.astype(np.float32), seed=seed) > 0] = np.nan
            out[chosen] = moved
        return out

    def codes(self, layers: NDArray[np.uint8], *, seed: int) -> NDArray[np.uint8]:
        """Move rasters of codes (layer, y, x), uint8, by nearest neighbour; 255 comes in from outside."""
        return _transformed(self._codes, layers.astype(np.float32), seed=seed).astype(np.uint8)


def _transformed(transform: Any, layers: FloatLayers, *, seed: int) -> FloatLayers:
    """Run an albumentations pipeline on (layer, y, x), some layers at a time, all with the same geometry."""
    parts = []
    for first in range(0, len(layers), _CHANNELS):
        transform.set_random_seed(seed)
        chunk = np.ascontiguousarray(layers[first : first + _CHANNELS].transpose(1, 2, 0))
        parts.append(np.atleast_3d(transform(image=chunk)["image"]).transpose(2, 0, 1))
    return np.concatenate(parts) if parts else layers
