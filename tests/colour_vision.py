"""Colour vision: colours as people see them who lack one kind of cones, and how well they tell them apart."""

from collections.abc import Iterable
from itertools import combinations

import numpy as np
from skimage.color import deltaE_ciede2000, rgb2lab

#: Complete lack of one kind of cones, on linear RGB (Machado, Oliveira, Fernandes, IEEE TVCG 2009, table 1).
LACKING = {
    "protanopia": ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998)),
    "deuteranopia": ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.011820, 0.042940, 0.968881)),
    "tritanopia": ((1.255528, -0.076749, -0.178779), (-0.078411, 0.930809, 0.147602), (0.004733, 0.691367, 0.303900)),
}  # fmt: skip


def seen(colours: np.ndarray, lacking: str) -> np.ndarray:
    """Return sRGB colours, float (colour, 3), 0 to 1, as they look to somebody; ``""`` lacks nothing."""
    if not lacking:
        return colours
    linear = np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)
    mixed = np.clip(linear @ np.array(LACKING[lacking]).T, 0, 1)
    return np.where(mixed <= 0.0031308, 12.92 * mixed, 1.055 * mixed ** (1 / 2.4) - 0.055)


def nearest(colours: Iterable[tuple[float, float, float]], lacking: str = "") -> tuple[float, tuple[int, int]]:
    """Return the least CIEDE2000 distance of two of the colours, and which they are; about 2 is just seen."""
    lab = rgb2lab(seen(np.array(list(colours), dtype=float), lacking)[None])[0]
    return min((float(deltaE_ciede2000(lab[a], lab[b])), (a, b)) for a, b in combinations(range(len(lab)), 2))
