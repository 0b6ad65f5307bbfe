"""The chips, their division, and what normalises them."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from .chips import MODALITIES, Chips, Image
from .division import Division, divided


@dataclass(frozen=True, kw_only=True, eq=False)
class Imagery:
    """Everything that is read. Equal to itself alone, so that what was cut of it can be kept.

    Attributes
    ----------
    chips, division
        What there is.
    mean, std
        Per modality float32 (band, 1, 1), over the training chips alone.
    """

    chips: Chips
    division: Division
    mean: dict[str, Image]
    std: dict[str, Image]

    @classmethod
    def of(cls, chips: Chips) -> "Imagery":
        """Divide chips and measure the training ones."""
        division = divided(chips)
        seen = {name: chips.image[name][division.train] for name in MODALITIES}
        return cls(
            chips=chips, division=division,
            mean={name: values.mean(axis=(0, 2, 3))[:, None, None] for name, values in seen.items()},
            std={name: values.std(axis=(0, 2, 3))[:, None, None] + 1e-6 for name, values in seen.items()},
        )  # fmt: skip

    def thinned(self, every: int) -> "Imagery":
        """Return the same with one in so many validation and test chips."""
        few = {name: getattr(self.division, name)[::every] for name in ("validation", "test")}
        return replace(self, division=replace(self.division, **few))

    def normalised(self, seen: dict[str, Image]) -> tuple[dict[str, Image], dict[str, NDArray[np.bool_]]]:
        """Normalise images (..., band, y, x).

        Returns
        -------
        images
            float32, zeros where a band was not measured.
        valid
            bool (..., y, x), where all bands were.
        """
        valid = {name: np.isfinite(values).all(axis=-3) for name, values in seen.items()}
        images = {
            name: np.nan_to_num((values - self.mean[name]) / self.std[name]).astype(np.float32)
            for name, values in seen.items()
        }
        return images, valid
