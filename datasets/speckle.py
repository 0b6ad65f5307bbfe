"""Speckle filters on linear power: Lee, refined Lee, Gamma-MAP; pixels that are not valid neither give nor take.

Speckle of L looks multiplies the backscatter by a gamma variable of mean 1 and variance 1/L (Goodman 1976). All three
filters weigh a local mean against the pixel itself by how much more the neighbourhood varies than speckle would.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, cast

import dask.array as da
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import correlate1d

from .errors import DatasetError, SceneError
from .scene import Scene

#: Names of the filters.
Kind = Literal["lee", "refined_lee", "gamma_map"]

#: Edge of the refined Lee filter's window, by definition.
REFINED_SIZE = 7


@dataclass(frozen=True, kw_only=True)
class SpeckleFilter:
    """Which filter, in which window.

    Attributes
    ----------
    kind
        ``lee``, ``refined_lee`` or ``gamma_map``.
    size
        Edge of the square window in pixels, odd, 3 or more; 7 for ``refined_lee``.
    looks
        Equivalent number of looks of the data: about 4.4 for Sentinel-1 IW GRD at high resolution.
    """

    kind: Kind = "refined_lee"
    size: int = REFINED_SIZE
    looks: float = 4.4

    def __post_init__(self) -> None:
        """Refuse what no filter can do.

        Raises
        ------
        DatasetError
            If the kind, the window or the number of looks makes no sense.
        """
        if self.kind not in ("lee", "refined_lee", "gamma_map"):
            raise DatasetError(
                f"speckle: found kind '{self.kind}'; wanted lee, refined_lee or gamma_map; correct the name"
            )
        _check(self.size, self.looks)
        if self.kind == "refined_lee" and self.size != REFINED_SIZE:
            raise DatasetError(
                f"speckle: found size {self.size}; wanted {REFINED_SIZE}, the window of refined_lee; leave `size` out, "
                "or choose lee"
            )

    def apply(self, power: NDArray[np.float32]) -> NDArray[np.float32]:
        """Filter an array (band, y, x), float32, linear power, NaN = not valid; shape and NaN are kept."""
        if self.kind == "refined_lee":
            return refined_lee(power, looks=self.looks)
        rule = lee if self.kind == "lee" else gamma_map
        return rule(power, size=self.size, looks=self.looks)


def filtered(scene: Scene, speckle: SpeckleFilter) -> Scene:
    """Return the scene with its speckle filtered, lazily; the result does not depend on the blocks.

    Parameters
    ----------
    scene
        Backscatter, in linear power.
    speckle
        The filter.

    Raises
    ------
    SceneError
        If a band is no backscatter.
    """
    foreign = [band.name for band in scene.modality.bands if not band.is_backscatter]
    if foreign:
        raise SceneError(
            f"{scene.path}: found bands {', '.join(foreign)} that are no radar backscatter; wanted radar for the "
            f"speckle filter; leave the filter out for modality '{scene.modality.name}'"
        )
    halo = speckle.size // 2
    lazy = da.map_overlap(
        speckle.apply, da.asarray(scene.data.data).rechunk({0: -1}), depth={0: 0, 1: halo, 2: halo},
        boundary={0: "none", 1: np.nan, 2: np.nan}, dtype=np.float32, meta=np.empty((0, 0, 0), np.float32),
    )  # fmt: skip
    said = f"{speckle.kind} {speckle.size} x {speckle.size}, {speckle.looks:g} looks"
    return replace(scene, data=scene.data.copy(data=lazy), provenance={**scene.provenance, "speckle": said})


def lee(power: NDArray[np.float32], *, size: int, looks: float) -> NDArray[np.float32]:
    """Lee filter for multiplicative noise.

    Source: J.-S. Lee, *Digital image enhancement and noise filtering by use of local statistics*, IEEE PAMI 2(2),
    1980, eq. 16-20 with a noise of mean 1: x = m + k (y - m), k = Q / (m^2 s^2 + Q), Q = (v - m^2 s^2) / (1 + s^2),
    s^2 = 1 / looks, with the mean m and the variance v of the window.

    Parameters
    ----------
    power
        (band, y, x), float32, linear power, NaN = not valid.
    size
        Edge of the window, odd, 3 or more; at edges and holes it holds the valid pixels only.
    looks
        Equivalent number of looks.

    Returns
    -------
    float32 (band, y, x), NaN where ``power`` is.

    Raises
    ------
    DatasetError
        If the window or the number of looks makes no sense.
    """
    return _in_windows(power, size, looks, _lee)


def gamma_map(power: NDArray[np.float32], *, size: int, looks: float) -> NDArray[np.float32]:
    """Gamma-MAP filter: the most probable backscatter if it is gamma distributed itself.

    Source: A. Lopes, E. Nezry, R. Touzi, H. Laur, *Structure detection and statistical adaptive speckle filtering in
    SAR images*, Int. J. Remote Sensing 14(9), 1993: the mean where the coefficient of variation is that of speckle or
    less, the pixel itself from sqrt(2) times that on, and the positive root of a x^2 + (L + 1 - a) m x - L m y = 0 in
    between, a = (1 + 1/L) / (C^2 - 1/L).

    Parameters, returns and errors are those of :func:`lee`.
    """
    return _in_windows(power, size, looks, _gamma_map)


def refined_lee(power: NDArray[np.float32], *, looks: float) -> NDArray[np.float32]:
    """Refined Lee filter: statistics from that half of a 7 x 7 window that lies on the pixel's side of an edge.

    Source: J.-S. Lee, *Refined filtering of image noise using local statistics*, Computer Graphics and Image
    Processing 15, 1981; with the edge sought everywhere, as in J.-S. Lee and E. Pottier, *Polarimetric Radar Imaging*,
    2009, section 5.3. The gradient is that of nine 3 x 3 means; each half holds 28 pixels.

    Parameters
    ----------
    power
        (band, y, x), float32, linear power, NaN = not valid.
    looks
        Equivalent number of looks.

    Returns
    -------
    float32 (band, y, x), NaN where ``power`` is.

    Raises
    ------
    DatasetError
        If the number of looks is not positive.
    """
    _check(REFINED_SIZE, looks)
    return np.stack([_refined_layer(layer, looks) for layer in power]) if len(power) else power


#: Weighs a pixel y against the mean m and variance v of its window: (y, m, v, looks) -> filtered.
_Rule = Callable[[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], float], NDArray[np.float64]]


def _lee(
    y: NDArray[np.float64], mean: NDArray[np.float64], variance: NDArray[np.float64], looks: float
) -> NDArray[np.float64]:
    noise = mean**2 / looks
    signal = np.maximum(variance - noise, 0.0) / (1 + 1 / looks)
    total = noise + signal
    return mean + np.where(total > 0, signal / np.where(total > 0, total, 1.0), 0.0) * (y - mean)


def _gamma_map(
    y: NDArray[np.float64], mean: NDArray[np.float64], variance: NDArray[np.float64], looks: float
) -> NDArray[np.float64]:
    speckle = 1 / looks
    variation = np.where(mean > 0, variance / np.where(mean > 0, mean, 1.0) ** 2, 0.0)
    textured = (variation > speckle) & (variation < 2 * speckle)
    alpha = (1 + speckle) / np.where(textured, variation - speckle, 1.0)
    half = (alpha - looks - 1) * mean
    root = (half + np.sqrt(half**2 + 4 * alpha * looks * mean * y)) / (2 * alpha)
    return np.where(variation <= speckle, mean, np.where(textured, root, y))


def _in_windows(power: NDArray[np.float32], size: int, looks: float, rule: _Rule) -> NDArray[np.float32]:
    _check(size, looks)
    out = np.empty_like(power, dtype=np.float32)
    for number, layer in enumerate(power):
        valid = np.isfinite(layer)
        values = np.where(valid, layer, 0).astype(np.float64)
        count, total, squares = (_box(part, size) for part in (valid.astype(np.float64), values, values**2))
        out[number] = np.where(valid, rule(values, *_moments(count, total, squares), looks), np.nan)
    return out


def _box(values: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    # Summed anew for each pixel: a running sum would carry rounding from bright targets, and depend on the blocks.
    ones = np.ones(size)
    return cast(
        NDArray[np.float64], correlate1d(correlate1d(values, ones, axis=0, mode="constant"), ones, 1, mode="constant")
    )


def _moments(
    count: NDArray[np.float64], total: NDArray[np.float64], squares: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and unbiased variance; a window of one pixel has none, 0."""
    mean = total / np.maximum(count, 1)
    return mean, np.maximum(squares - total * mean, 0.0) / np.maximum(count - 1, 1)


#: Gradients of the 3 x 3 means (rows: north, middle, south), and the two cells on either side of their edge.
_GRADIENTS = (
    (((-1, 0, 1), (-1, 0, 1), (-1, 0, 1)), (1, 0), (1, 2)),
    (((-1, -1, -1), (0, 0, 0), (1, 1, 1)), (0, 1), (2, 1)),
    (((0, 1, 1), (-1, 0, 1), (-1, -1, 0)), (2, 0), (0, 2)),
    (((1, 1, 0), (1, 0, -1), (0, -1, -1)), (2, 2), (0, 0)),
)


def _halves() -> tuple[tuple[tuple[int, int], ...], ...]:
    """Offsets (down, right) of the eight half windows: two a gradient, on the side of its first and second cell."""
    reach = range(-(REFINED_SIZE // 2), REFINED_SIZE // 2 + 1)
    found = []
    for _, *cells in _GRADIENTS:
        for down, right in ((row - 1, column - 1) for row, column in cells):
            found.append(tuple((y, x) for y in reach for x in reach if y * down + x * right >= 0))
    return tuple(found)


_HALVES = _halves()


def _refined_layer(layer: NDArray[np.float32], looks: float) -> NDArray[np.float32]:
    valid = np.isfinite(layer)
    values = np.where(valid, layer, 0).astype(np.float64)
    half = _sides(values, valid)
    reach = REFINED_SIZE // 2
    padded_values, padded_valid = np.pad(values, reach), np.pad(valid, reach).astype(np.float64)
    out = np.full(layer.shape, np.nan, dtype=np.float32)
    for number, offsets in enumerate(_HALVES):
        rows, columns = np.nonzero(valid & (half == number))
        count, total, squares = np.zeros((3, len(rows)))
        for down, right in offsets:
            place = rows + (reach + down), columns + (reach + right)
            part = padded_values[place]
            count += padded_valid[place]
            total += part
            squares += part * part
        out[rows, columns] = _lee(values[rows, columns], *_moments(count, total, squares), looks)
    return out


def _sides(values: NDArray[np.float64], valid: NDArray[np.bool_]) -> NDArray[np.int8]:
    """Return the number in ``_HALVES`` of the half window on each pixel's side of the strongest edge."""
    height, width = values.shape
    # Blocks reach beyond the image: half of a 3 x 3 whose centre lies outside may lie inside.
    count, total = (_box(np.pad(part, 3).astype(np.float64), 3) for part in (valid, values))
    around = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    centre = around[3:-3, 3:-3]
    means = {}
    for row in range(3):
        for column in range(3):
            part = around[2 * row + 1 : 2 * row + 1 + height, 2 * column + 1 : 2 * column + 1 + width]
            # One that holds nothing is taken as like the centre: no edge is seen there.
            means[row, column] = np.where(np.isnan(part), centre, part)
    gradients = [
        abs(sum((weights[row][column] * mean for (row, column), mean in means.items()), np.zeros_like(centre)))
        for weights, _, _ in _GRADIENTS
    ]
    distances = [(abs(means[first] - centre), abs(means[second] - centre)) for _, first, second in _GRADIENTS]
    strongest = np.argmax(gradients, axis=0)
    nearer = np.choose(strongest, [second < first for first, second in distances])
    return (2 * strongest + nearer).astype(np.int8)


def _check(size: int, looks: float) -> None:
    if size < 3 or size % 2 == 0:
        raise DatasetError(f"speckle: found size {size}; wanted an odd window of 3 pixels or more; correct `size`")
    if not (np.isfinite(looks) and looks > 0):
        raise DatasetError(f"speckle: found {looks} looks; wanted a positive number; correct `looks`")
