"""Cases of the co-registration benchmark: real and invented pairs, known warps, clouds, speckle and holes.

Places are (row, col) in pixels. A known warp says where a pixel of the moved image was taken from; its inverse says
where the content went. Images are read from EQUIPOISE_DATA: Los Angeles (Sentinel-2 and Sentinel-1 at 10 m), Landsat 8
with its thermal band, OMBRIA's chips, the MultiEarth stacks.
"""

import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
import rasterio
import xarray as xr
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from scipy import ndimage

from equipoise.datasets.modality import Band, Modality, Unit
from equipoise.datasets.opening import open_scene
from equipoise.datasets.scene import Scene
from equipoise.datasets.synthetic import write_scene
from equipoise.datasets.warp import warp
from equipoise.pipeline.matching_view import view_of
from equipoise.pipeline.registered import registered

Image = NDArray[np.float32]
Places = NDArray[np.float64]
Warp = Callable[[Places], Places]

DATA = Path(os.environ.get("EQUIPOISE_DATA", "."))
SIZE, PIXEL_M, CHECKS = 1000, 10.0, 140

#: Rows of the upper left corners of five crops in each half of Los Angeles. The defaults were chosen on the western
#: half; the eastern one shares no pixel with it.
ROWS, HALVES = (0, 262, 524, 786, 1048), {"west": 0, "east": 1048}

#: Check points keep this far from the edge, px, and from the ocean, where neither sensor shows anything that stays.
MARGIN, SEA_MARGIN = 40, 41


@dataclass(frozen=True, kw_only=True)
class Case:
    """One pair of images with a known warp.

    ``unmoved`` is the moving image before the warp, which is aligned with the reference as far as that is known.
    """

    name: str
    kind: str
    half: str
    reference: Image
    moving: Image
    unmoved: Image
    taken_from: Warp
    checks: Places


def known_warp(kind: str, rng: np.random.Generator, size: int) -> Warp:
    """Return a shift of up to 20 px; an affine map (.6 degrees, .8 % scale, 10 px); a smooth field; or nothing."""
    middle = (size - 1) / 2
    if kind == "none":
        return lambda places: places.copy()
    if kind == "shift":
        shift = rng.uniform(-20, 20, 2)
        shift *= min(1, 20 / np.hypot(*shift))
        return lambda places: places - shift
    if kind == "affine":
        turn, scale, shear = (
            np.deg2rad(rng.uniform(-0.6, 0.6)),
            1 + rng.uniform(-0.008, 0.008, 2),
            rng.uniform(-6e-3, 6e-3),
        )
        matrix = np.array([[np.cos(turn) * scale[0], shear - np.sin(turn)], [np.sin(turn), np.cos(turn) * scale[1]]])
        move = rng.uniform(-10, 10, 2)
        return lambda places: (places - middle) @ matrix.T + middle - move
    move, amplitude = rng.uniform(-6, 6, 2), rng.uniform(1.5, 4, 2)
    phase, wave = rng.uniform(0, 2 * np.pi, (2, 2)), rng.uniform(0.5, 1.2, (2, 2)) * 2 * np.pi / size

    def field(places: Places) -> Places:
        parts = [
            amplitude[axis] * np.sin(wave[axis, 0] * places[:, 0] + phase[axis, 0])
            * np.cos(wave[axis, 1] * places[:, 1] + phase[axis, 1])
            for axis in (0, 1)
        ]  # fmt: skip
        return places - move - np.stack(parts, axis=1)

    return field


def went_to(taken_from: Warp, places: Places) -> Places:
    """Return where the content of places of the unmoved image lies after the warp, by fixed-point iteration."""
    found = places.copy()
    for _ in range(30):
        found = found - (taken_from(found) - places)
    return found


def warped(image: Image, taken_from: Warp, *, origin: tuple[int, int], size: int) -> Image:
    """Resample a part of an image by a warp (cubic), NaN where it was not seen."""
    rows, cols = np.mgrid[0:size, 0:size]
    places = taken_from(np.stack([rows.ravel(), cols.ravel()], axis=1).astype(float)) + np.array(origin)
    values = ndimage.map_coordinates(image, places.T, order=3, mode="constant", cval=np.nan)
    return values.reshape(size, size).astype(np.float32)


@lru_cache(maxsize=1)
def los_angeles() -> tuple[Image, Image, NDArray[np.bool_]]:
    """Return luminance, radar VH as delivered, both in display units of 0 to 255, and what is land."""
    with rasterio.open(DATA / "prepared" / "los_angeles_S2RGB.tif") as source:
        optical = source.read().astype(np.float32).mean(axis=0)
    with rasterio.open(DATA / "prepared" / "los_angeles_S1VH.tif") as source:
        radar = source.read(1).astype(np.float32)
    dark, _ = ndimage.label(cv2.GaussianBlur(radar, (0, 0), 8) < 48)
    sea = (dark == dark[2000, 20]).astype(np.uint8)  # the ocean is in the south-western corner
    return optical, radar, cv2.dilate(sea, np.ones((SEA_MARGIN, SEA_MARGIN))) == 0


@lru_cache(maxsize=1)
def aligned_radar() -> Image:
    """Return the radar of Los Angeles, brought onto the optics by the field that the whole scene gives.

    As delivered the two disagree by one to three pixels, locally by more, so that no affine answer is right anywhere.
    What the whole scene says (2048 px) is taken for the truth: its floor is some tenths of a pixel.
    """
    optical, radar, _ = los_angeles()
    reference, moving = in_memory(optical), in_memory(radar)
    found = registered(view_of(reference), view_of(moving), reference.geobox, radius_m=300)
    values = warp(moving, reference.geobox, displacement=found.displacement)[0]
    return np.where(np.isfinite(values), values, np.float32(np.nanmedian(values)))


def check_points(size: int, *, count: int = CHECKS, margin: int = MARGIN) -> Places:
    """Return places spread at random, the same for every case of a size."""
    return np.random.default_rng(0).uniform(margin, size - margin, (count, 2))


def city_cases(kinds: tuple[str, ...], halves: tuple[str, ...] = tuple(HALVES)) -> Iterator[Case]:
    """Yield the pairs of Los Angeles, each by each kind of warp; kinds with a stress are affine maps."""
    optical, _, land = los_angeles()
    radar = aligned_radar()
    for half in halves:
        for number, row in enumerate(ROWS):
            origin = (row, HALVES[half])
            window = slice(row, row + SIZE), slice(origin[1], origin[1] + SIZE)
            checks = check_points(SIZE, count=2 * CHECKS)
            dry = land[tuple((checks + origin).astype(int).T)]
            for turn, kind in enumerate(kinds):
                rng = np.random.default_rng([number, turn, HALVES[half]])
                taken_from = known_warp(kind if kind in ("none", "shift", "affine", "local") else "affine", rng, SIZE)
                noisy = speckled(radar, int(kind.split()[1]), rng) if kind.startswith("speckle") else radar
                reference, moving = optical[window], warped(noisy, taken_from, origin=origin, size=SIZE)
                if kind == "clouds and wedge":
                    reference, moving = clouded(reference, rng), wedged(moving)
                if kind == "20 m":
                    moving = coarsened(moving, 2)
                yield Case(
                    name=f"{half} {row}", kind=kind, half=half, reference=reference, moving=moving,
                    unmoved=radar[window], taken_from=taken_from, checks=checks[dry][:CHECKS],
                )  # fmt: skip


def speckled(image: Image, looks: int, rng: np.random.Generator) -> Image:
    """Multiply the square of an image, which is taken for power, by gamma noise of mean 1."""
    return (image * np.sqrt(rng.gamma(looks, 1 / looks, image.shape))).astype(np.float32)


def clouded(image: Image, rng: np.random.Generator, *, share: float = 0.3) -> Image:
    """Return the image with smooth blobs over ``share`` of it masked."""
    field = cv2.GaussianBlur(rng.standard_normal(image.shape).astype(np.float32), (0, 0), 40)
    return np.where(field > np.quantile(field, 1 - share), np.float32(np.nan), image)


def wedged(image: Image) -> Image:
    """Return the image without a corner, as where a swath ends."""
    rows, cols = np.mgrid[0 : image.shape[0], 0 : image.shape[1]]
    return np.where(rows * 0.6 + cols < 0.45 * image.shape[1], np.float32(np.nan), image)


def coarsened(image: Image, factor: int) -> Image:
    """Return means over ``factor`` x ``factor`` pixels, each as many pixels of the fine grid: a coarser sensor."""
    rows, cols = (edge // factor * factor for edge in image.shape)
    small = image[:rows, :cols].reshape(rows // factor, factor, cols // factor, factor).mean(axis=(1, 3))
    return np.pad(
        small.repeat(factor, 0).repeat(factor, 1), [(0, image.shape[0] - rows), (0, image.shape[1] - cols)], mode="edge"
    )


def embedded_cases(size: int = 700) -> Iterator[Case]:
    """Yield optics against radar of invented scenes, one look and four: aligned by construction."""
    for seed in (1, 2, 3):
        for looks in (1.0, 4.0):
            with tempfile.TemporaryDirectory() as folder:
                made = write_scene(
                    Path(folder), size=size, seed=seed, looks=looks, sar_shift_m=(0, 0), ir_shift_m=(0, 0)
                )
                eo = open_scene(
                    made.paths["eo"], Modality(name="eo", bands=_bands(Unit.REFLECTANCE, "blue", "green", "red"))
                )
                sar = open_scene(made.paths["sar"], Modality(name="sar", bands=_bands(Unit.LINEAR_POWER, "VV")))
                reference = eo.read().mean(axis=0)
                radar = 10 * np.log10(np.maximum(warp(sar, eo.geobox)[0], 1e-5))
            whole = np.where(np.isfinite(radar), radar, np.nanmedian(radar)).astype(np.float32)
            for turn, kind in enumerate(("shift", "affine", "local")):
                taken_from = known_warp(kind, np.random.default_rng([seed, turn]), size)
                yield Case(
                    name=f"embedded {seed}, {looks:g} looks", kind=f"embedded {kind}", half="east", reference=reference,
                    moving=warped(whole, taken_from, origin=(0, 0), size=size), unmoved=radar, taken_from=taken_from,
                    checks=check_points(size),
                )  # fmt: skip


def optical_cases() -> Iterator[Case]:
    """Yield Sentinel-2 red against blue of Los Angeles: what AROSICS was made for."""
    with rasterio.open(DATA / "prepared" / "los_angeles_S2RGB.tif") as source:
        red, _, blue = source.read().astype(np.float32)
    for row in (0, 1048):
        for turn, kind in enumerate(("shift", "affine", "local")):
            origin = (row, HALVES["east"])
            taken_from = known_warp(kind, np.random.default_rng([row, turn]), SIZE)
            window = slice(row, row + SIZE), slice(origin[1], origin[1] + SIZE)
            yield Case(
                name=f"red-blue {row}", kind=f"optical {kind}", half="east", reference=red[window],
                moving=warped(blue, taken_from, origin=origin, size=SIZE), unmoved=blue[window], taken_from=taken_from,
                checks=check_points(SIZE),
            )  # fmt: skip


def in_memory(image: Image, *, pixel_m: float = PIXEL_M) -> Scene:
    """Return an image (y, x) as a scene in UTM; units are its own."""
    grid = GeoBox(image.shape, Affine(pixel_m, 0, 500_000, 0, -pixel_m, 4_000_000), "EPSG:32611")
    data = xr.DataArray(image[None], dims=("band", "y", "x"))
    return Scene(
        modality=Modality(name="image", bands=_bands(Unit.DIGITAL_NUMBER, "value")), path=Path("memory"), data=data,
        geobox=grid,
    )  # fmt: skip


def _bands(unit: Unit, *names: str) -> tuple[Band, ...]:
    scale = 1e-4 if unit is Unit.REFLECTANCE else None
    return tuple(Band(name=name, unit=unit, scale=scale) for name in names)
