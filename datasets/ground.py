"""The ground of the synthetic scene: six classes, structure that every sensor sees, and what each sensor would read."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from odc.geo.geobox import GeoBox
from scipy.spatial import cKDTree

from .fractal import FloatArray, fractal_field, level_within

ClassMap = npt.NDArray[np.uint8]

CLASS_NAMES = ("forest", "flooded_forest", "grassland", "cropland", "unheated_buildings", "heated_buildings")
CLASS_COLORS = ("#123f24", "#2a9d8f", "#c5e8a0", "#e9b824", "#7d8db0", "#e4572e")
CLASS_MODALITY = ("sar", "sar", "eo", "eo", "ir", "ir")
"""The one modality in which each class differs from the others, in the order of `CLASS_NAMES`."""

_SHARES = (0.18, 0.16, 0.18, 0.17, 0.16, 0.15)
_PLAIN, _LINE, _PATCH = 0, 1, 2

# One row per signature: background (every class of another sensor), first and second class of the sensor's own pair,
# line structure, patch structure. The structure's rows are absolute, so they carry no class information.
_EO_REFLECTANCE = (
    (0.060, 0.080, 0.085, 0.230),
    (0.035, 0.075, 0.040, 0.390),
    (0.095, 0.130, 0.185, 0.290),
    (0.028, 0.030, 0.030, 0.040),
    (0.320, 0.330, 0.340, 0.360),
)
_SAR_DECIBEL = ((-10.0, -16.5), (-14.0, -20.5), (-6.0, -12.5), (-19.0, -25.5), (0.0, -6.5))
_IR_KELVIN = ((290.0,), (284.5,), (296.0,), (303.0,), (279.0,))


@dataclass(frozen=True, kw_only=True)
class Ground:
    """The truth on a fine grid that extends beyond the mapped area."""

    geobox: GeoBox
    """Grid of the ground."""

    classes: ClassMap
    """Class of each pixel, (y, x), 0-5."""

    structure: ClassMap
    """0 plain, 1 line (road, ditch), 2 small patch (yard, roof), (y, x); drawn without regard to the classes."""


def draw_ground(geobox: GeoBox, *, rng: np.random.Generator, pixel: float) -> Ground:
    """Draw classes and structure.

    Parameters
    ----------
    geobox
        Fine grid to draw on.
    rng
        Source of randomness.
    pixel
        Side of one pixel of the mapped area (10 m) in pixels of `geobox`; all shapes are sized by it.

    Returns
    -------
    Ground
        Classes and structure on `geobox`.
    """
    shape = (geobox.shape[0], geobox.shape[1])
    classes = _draw_classes(shape, rng=rng, pixel=pixel)
    return Ground(geobox=geobox, classes=classes, structure=_draw_structure(shape, rng=rng, pixel=pixel))


def reflectance(ground: Ground, *, rng: np.random.Generator) -> FloatArray:
    """Return the reflectance of blue, green, red and near infrared, (band, y, x), 0-1.

    Texture: brightness varies by 10 % (one standard deviation), greenness by 12 % in red and 8 % in near infrared.
    """
    brightness, greenness = _texture(ground, rng=rng), _texture(ground, rng=rng)
    gains = np.array([[0.10, 0.0], [0.10, 0.0], [0.10, -0.12], [0.10, 0.08]], dtype=np.float32)
    plain = _signature(ground, "eo", _EO_REFLECTANCE)
    for band, (bright, green) in zip(plain, gains, strict=True):
        band *= np.exp(bright * brightness + green * greenness)
    return plain


def backscatter(ground: Ground, *, rng: np.random.Generator) -> FloatArray:
    """Return gamma0 of VV and VH in linear power, (band, y, x), without speckle; texture of 1.1 dB."""
    common, cross = _texture(ground, rng=rng), _texture(ground, rng=rng)
    decibel = _signature(ground, "sar", _SAR_DECIBEL)
    decibel[0] += 1.1 * common
    decibel[1] += 1.1 * (0.7 * common + 0.714 * cross)
    return np.asarray(np.exp(decibel * np.float32(np.log(10.0) / 10.0)), dtype=np.float32)


def temperature(ground: Ground, *, rng: np.random.Generator) -> FloatArray:
    """Return the brightness temperature in kelvin, (1, y, x); texture of 1.4 K."""
    return _signature(ground, "ir", _IR_KELVIN) + np.float32(1.4) * _texture(ground, rng=rng)


def _draw_classes(shape: tuple[int, int], *, rng: np.random.Generator, pixel: float) -> ClassMap:
    """Let six random fields compete for every pixel, then lay a stream of flooded forest, 3 px wide, over them."""
    bounds = {"longest": 170.0 * pixel, "shortest": 8.0 * pixel}
    fields = np.stack([fractal_field(shape, rng=rng, slope=2.4, **bounds) for _ in CLASS_NAMES])
    _balance(fields)
    classes = fields.argmax(axis=0).astype(np.uint8)
    course = fractal_field(shape, rng=rng, longest=400.0 * pixel, shortest=24.0 * pixel, slope=3.0)
    steepness = np.hypot(*np.gradient(course))
    classes[np.abs(course) < 1.5 * pixel * steepness] = CLASS_NAMES.index("flooded_forest")
    return classes


def _balance(fields: FloatArray) -> None:
    """Raise or lower each field in place until the shares of the pixels that it wins are near `_SHARES`."""
    sample = fields[:, ::7, ::7].reshape(len(fields), -1).copy()
    for _ in range(60):
        won = np.bincount(sample.argmax(axis=0), minlength=len(fields)) / sample.shape[1]
        step = (1.5 * (np.array(_SHARES) - won)).astype(np.float32)
        sample += step[:, None]
        fields += step[:, None, None]


def _draw_structure(shape: tuple[int, int], *, rng: np.random.Generator, pixel: float) -> ClassMap:
    """Draw lines 2.5 px wide between random parcels, and small patches; together about 5 % of the ground."""
    spacing, step = 112.0 * pixel, max(round(pixel), 1)
    grid = np.stack(np.meshgrid(*(np.arange(-1, n / spacing + 1) for n in shape), indexing="ij"), axis=-1)
    seeds = ((grid + rng.uniform(0.1, 0.9, grid.shape)) * spacing).reshape(-1, 2)
    coarse = np.stack(np.meshgrid(*(np.arange(0.0, n + step, step) for n in shape), indexing="ij"), axis=-1)
    bend = [fractal_field(coarse.shape[:2], rng=rng, longest=120.0, shortest=24.0) for _ in range(2)]
    points = coarse + 2.5 * pixel * np.stack(bend, axis=-1)
    distance, nearest = cKDTree(seeds).query(points, k=2)
    between = np.linalg.norm(seeds[nearest[..., 1]] - seeds[nearest[..., 0]], axis=-1)
    # Distance to the straight line half-way between the two nearest seeds.
    to_line = (distance[..., 1] ** 2 - distance[..., 0] ** 2) / (2.0 * between)
    structure = np.full(shape, _PLAIN, dtype=np.uint8)
    patches = fractal_field(shape, rng=rng, longest=40.0 * pixel, shortest=6.0 * pixel, slope=0.5)
    structure[patches > 2.6] = _PATCH
    structure[_enlarge(to_line, shape, step=step) < 1.25 * pixel] = _LINE
    return structure


def _enlarge(values: npt.NDArray[np.float64], shape: tuple[int, int], *, step: int) -> FloatArray:
    """Interpolate nodes that stand `step` pixels apart, linearly, to every pixel of `shape`."""
    fine = values.astype(np.float32)
    for axis, size in enumerate(shape):
        position = np.arange(size) / step
        lower = np.floor(position).astype(np.intp)
        weight = (position - lower).astype(np.float32).reshape((-1, 1) if axis == 0 else (1, -1))
        fine = fine.take(lower, axis) * (1 - weight) + fine.take(lower + 1, axis) * weight
    return fine


def _texture(ground: Ground, *, rng: np.random.Generator) -> FloatArray:
    """Draw within-class variation that no class can be told by; wavelengths of 6-40 fine pixels."""
    field = fractal_field(ground.classes.shape, rng=rng, longest=60.0, shortest=6.0, slope=1.0)
    return level_within(field, ground.classes)


def _signature(ground: Ground, modality: str, table: tuple[tuple[float, ...], ...]) -> FloatArray:
    """Look up `table` for every pixel, (band, y, x): its own pair's classes apart, all others as background."""
    own = [index for index, name in enumerate(CLASS_MODALITY) if name == modality]
    row = np.zeros(len(CLASS_NAMES), dtype=np.uint8)
    row[own] = (1, 2)
    rows = np.where(ground.structure == _PLAIN, row[ground.classes], ground.structure + 2)
    return np.stack([np.array(band, dtype=np.float32)[rows] for band in zip(*table, strict=True)])
