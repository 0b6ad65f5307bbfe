"""Pairs of images of one invented ground by two sensors, the second displaced by a known map."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from odc.geo.xr import wrap_xr
from scipy import ndimage

from equipoise.datasets.modality import Band, Modality, Unit
from equipoise.datasets.scene import Scene

#: Displacement, px, at places (n, 2) in rows and columns: (n, 2).
Displaced = Callable[[NDArray[np.float64]], NDArray[np.float64]]

#: Pixels of ground around an image: what a displacement brings in is ground, too.
MARGIN = 48


def ground(rng: np.random.Generator, shape: tuple[int, int]) -> NDArray[np.float64]:
    """Fields of four kinds, 1 to 4, with sharp borders: steps are what all sensors see. Wider by :data:`MARGIN`."""
    field = ndimage.gaussian_filter(rng.standard_normal([edge + 2 * MARGIN for edge in shape]), 4)
    return ndimage.gaussian_filter(np.digitize(field / field.std(), [-0.8, 0, 0.8]).astype(float), 0.7) + 1


def seen(fields: NDArray[np.float64], displaced: Displaced | None = None) -> NDArray[np.float64]:
    """Return the ground without its margin; what lies at p in it is found at p + displaced(p)."""
    found = places_of([edge - 2 * MARGIN for edge in fields.shape])
    origin = found
    if displaced is not None:
        for _ in range(8):  # each round leaves the displacement's slope, a few per cent, of the error
            origin = found - displaced(origin)
    return ndimage.map_coordinates(fields, (origin + MARGIN).T, order=3).reshape([e - 2 * MARGIN for e in fields.shape])


def as_radar(image: NDArray[np.float64], rng: np.random.Generator, *, speckle: float = 0.3) -> NDArray[np.float64]:
    """Return another sensor's image of the same: dark where this one is bright, and speckled, in dB."""
    return -10 * np.log10(image * np.exp(speckle * rng.standard_normal(image.shape)))


def in_memory(
    name: str,
    image: NDArray[np.floating],
    grid: GeoBox,
    *,
    unit: Unit = Unit.DIGITAL_NUMBER,
    bands: Sequence[str] | None = None,
) -> Scene:
    """Return an image (y, x) or (band, y, x) in working units as an opened scene of that name."""
    values = np.asarray(image, np.float32).reshape(-1, *grid.shape)
    names = bands or [f"{name}{number}" for number in range(len(values))]
    data = wrap_xr(values, grid, axis=1, dims=("band", *grid.dimensions)).assign_coords(band=list(names))
    modality = Modality(name=name, bands=tuple(Band(name=band, unit=unit) for band in names))
    return Scene(modality=modality, path=Path(f"{name}.tif"), data=data, geobox=grid)


def places_of(shape: Sequence[int]) -> NDArray[np.float64]:
    """Return rows and columns of all pixels, (n, 2)."""
    return np.stack(np.meshgrid(*(np.arange(edge, dtype=float) for edge in shape), indexing="ij"), axis=-1).reshape(
        -1, 2
    )


def shifted(rows: float, cols: float) -> Displaced:
    """Return the same displacement everywhere."""
    return lambda places: np.tile([rows, cols], (len(places), 1)).astype(float)


def turned(degrees: float, shape: Sequence[int], *, rows: float = 0.0, cols: float = 0.0) -> Displaced:
    """Return a rotation about the middle of an image, and a shift."""
    angle, middle = np.deg2rad(degrees), (np.array(shape) - 1) / 2
    matrix = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) - np.eye(2)
    return lambda places: (places - middle) @ matrix.T + [rows, cols]


def bent(pixels: float, shape: Sequence[int]) -> Displaced:
    """Return a smooth field: half a wave over the image in either direction, of that height."""
    height, width = shape
    return lambda places: (
        pixels * np.stack([np.sin(np.pi * places[:, 1] / width) + 1, np.cos(np.pi * places[:, 0] / height)], axis=1)
    )


def blots(rng: np.random.Generator, shape: tuple[int, int], share: float, *, size: float = 16.0) -> NDArray[np.bool_]:
    """Return holes (y, x), True there, that take a share of the image."""
    field = ndimage.gaussian_filter(rng.standard_normal(shape), size)
    return field > np.quantile(field, 1 - share)
