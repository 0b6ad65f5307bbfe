"""A guard against image transforms that cut physical values to the range of a display."""

import copy
from collections.abc import Iterator
from typing import Any

import numpy as np

from .errors import DatasetError
from .shared_geometry import albumentations

_SEEDS = range(4)
_EDGE = 256
_RAMPS = ((-25.0, -1.0), (2.0, 350.0))


class AugmentationError(DatasetError):
    """An augmentation would damage physical values, or is declared for something that is not there."""


def refuse_clipping(transform: Any, *, bands: int = 3) -> None:
    """Refuse an albumentations transform, or a pipeline of them, that does not keep physical values.

    Each transform is tried alone, with probability 1, on ramps from -25 to -1 (decibels) and from 2 to 350 (kelvin).
    One that returns nothing below 0 or nothing above 1, that makes NaN out of numbers, or that fails on float32 does
    not pass. Transforms that only move pixels pass; crops may be up to 256 pixels wide.

    Parameters
    ----------
    transform
        An albumentations transform or composition.
    bands
        Bands of the images that it is meant for.

    Raises
    ------
    AugmentationError
        If a transform does not pass; the message names it.
    """
    for leaf in _leaves(transform):
        name = type(leaf).__name__
        if reason := _damage(leaf, bands=bands):
            raise AugmentationError(
                f"transform {name}: found that it {reason}; wanted one that keeps physical values (dB, kelvin, linear "
                "power); remove it and use the degradations of `equipoise.datasets.degrade`"
            )


def refuse_moving(transform: Any) -> None:
    """Refuse a transform, or a pipeline, that moves pixels: one modality alone may not get out of step.

    Raises
    ------
    AugmentationError
        If a transform is not one of pixel values only; the message names it.
    """
    photometric = albumentations().ImageOnlyTransform
    for leaf in _leaves(transform):
        if not isinstance(leaf, photometric):
            raise AugmentationError(
                f"transform {type(leaf).__name__}: found one that moves pixels, or none of albumentations; wanted one "
                "of pixel values only, because one modality alone would get out of step; use `geometry` for that"
            )


def _leaves(transform: Any) -> Iterator[Any]:
    # Some single transforms (ColorJitter) keep a list of functions under the same name: only compositions are opened.
    if isinstance(transform, albumentations().BaseCompose):
        for item in transform.transforms:
            yield from _leaves(item)
    else:
        yield transform


def _damage(leaf: Any, *, bands: int) -> str | None:
    """Say what a transform does to physical values that it should not, or None."""
    for seed in _SEEDS:
        for low, high in _RAMPS:
            ramp = np.linspace(low, high, _EDGE * _EDGE * bands, dtype=np.float32).reshape(_EDGE, _EDGE, bands)
            try:
                certain = copy.deepcopy(leaf)
                certain.p = 1.0
                alone = albumentations().Compose([certain])
                alone.set_random_seed(seed)
                found = np.asarray(alone(image=ramp)["image"], dtype=np.float64)
            except Exception as error:
                # Whatever a transform of someone else raises on such values is the reason not to use it.
                return f"fails on float32 values from {low:g} to {high:g} ({' '.join(str(error).split())})"
            if not np.isfinite(found).all():
                return f"makes NaN out of values from {low:g} to {high:g}"
            if (low < 0 and found.min() >= 0) or (high > 1 and found.max() <= 1):
                return f"turns values from {low:g} to {high:g} into {found.min():g} to {found.max():g}"
    return None
