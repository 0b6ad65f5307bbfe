"""Augmentation of several modalities at once: the same geometry for all of them."""

import os
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray


class SharedGeometry:
    """One of the eight symmetries of the square, the same for every modality and mask of a patch.

    Images, masks and labels travel through albumentations as the bands of one array, so that they cannot get out of
    step; the symmetries move pixels and never touch their values (most of albumentations' photometric transforms clip
    float32 to 0..1 and must not see physical units).
    """

    def __init__(self) -> None:
        os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # no look-up on the network at import
        import albumentations

        self._transform = albumentations.Compose([albumentations.D4(p=1.0)])

    def __call__(
        self, arrays: Mapping[str, NDArray[np.float32]], *, seed: int
    ) -> dict[str, NDArray[np.float32]]:  # fmt: skip
        """Transform arrays (band, y, x) of one square patch together; the same seed gives the same geometry."""
        sizes = [array.shape[0] for array in arrays.values()]
        stacked = np.concatenate(list(arrays.values())).transpose(1, 2, 0)
        self._transform.set_random_seed(seed)
        turned = self._transform(image=np.ascontiguousarray(stacked))["image"].transpose(2, 0, 1)
        parts = np.split(turned, np.cumsum(sizes)[:-1])
        return {name: np.ascontiguousarray(part) for name, part in zip(arrays, parts, strict=True)}
