"""Three sensors over invented ground: their grids, footprints, noise and files."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import rasterio
from affine import Affine
from odc.geo.geobox import GeoBox
from scipy import ndimage

from .clouds import CloudCover, cover
from .fractal import FloatArray
from .ground import Ground, backscatter, reflectance, temperature

CRS = "EPSG:32632"
FINE = 2  # ground pixels along one 10 m pixel

_LEFT, _TOP, _PIXEL = 600_000.0, 5_340_000.0, 10.0
_SAR_ROTATION = 0.6  # degrees
_WEDGE = 0.283  # legs of a nodata corner as a share of the side: 0.283**2 / 2 = 4 % of the area
_DETECTOR_NOISE = 0.003  # reflectance, one standard deviation
_NETD = 0.3  # kelvin, one standard deviation


def area_box(size: int) -> GeoBox:
    """Return the reference grid: `size` x `size` pixels of 10 m in UTM zone 32 north."""
    return GeoBox((size, size), Affine(_PIXEL, 0.0, _LEFT, 0.0, -_PIXEL, _TOP), CRS)


def ground_margin(size: int) -> int:
    """Return by how many 10 m pixels the ground extends beyond the area; the rotated radar grid sets the need."""
    return 40 + size // 32


def ground_box(size: int) -> GeoBox:
    """Return the fine grid on which the ground of a `size` x `size` area is drawn."""
    margin, step = ground_margin(size), _PIXEL / FINE
    side = (size + 2 * margin) * FINE
    return GeoBox((side, side), Affine(step, 0.0, _LEFT - margin * _PIXEL, 0.0, -step, _TOP + margin * _PIXEL), CRS)


def sar_box(size: int) -> GeoBox:
    """Return the radar's 10 m grid: off the reference grid, rotated by 0.6 degrees, covering the area."""
    side, half = size + size // 40 + 20, size * _PIXEL / 2
    middle = Affine.translation(_LEFT + half + 13.7, _TOP - half - 9.1)
    placed = middle * Affine.rotation(_SAR_ROTATION) * Affine.scale(_PIXEL, -_PIXEL)
    return GeoBox((side, side), placed * Affine.translation(-side / 2, -side / 2), CRS)


def ir_box(size: int) -> GeoBox:
    """Return the thermal sensor's 30 m grid: off the reference grid, covering the area."""
    side = -(-size // 3) + 8
    return GeoBox((side, side), Affine(30.0, 0.0, _LEFT - 109.0, 0.0, -30.0, _TOP + 113.0), CRS)


def eo_unseen(size: int) -> npt.NDArray[np.bool_]:
    """Return the north-east corner that lies outside the optical swath, on the reference grid, (y, x)."""
    row, column = np.ogrid[0.5:size, 0.5:size]
    return column - row > (1.0 - _WEDGE) * size


def sar_unseen(size: int, *, shift: tuple[float, float] | None = None) -> npt.NDArray[np.bool_]:
    """Return the south-west corner that lies outside the radar swath, (y, x).

    Parameters
    ----------
    size
        Side of the area in 10 m pixels.
    shift
        None: on the radar's own grid. Else on the reference grid, where the file's positions lie off by this vector
        (east, north in metres, to be added to them).
    """
    box = sar_box(size)
    side = box.shape[0]
    if shift is None:
        row, column = np.ogrid[0.5:side, 0.5:side]
    else:
        to_sar = ~box.affine * Affine.translation(-shift[0], -shift[1]) * area_box(size).affine
        y, x = np.ogrid[0.5:size, 0.5:size]
        column, row = to_sar.a * x + to_sar.b * y + to_sar.c, to_sar.d * x + to_sar.e * y + to_sar.f
    return np.asarray(row - column > (1.0 - _WEDGE) * side, dtype=np.bool_)


def observe(
    field: FloatArray, *, ground: GeoBox, box: GeoBox, shift: tuple[float, float], footprint_m: float
) -> FloatArray:
    """Read the ground where the pixels of `box` truly lie.

    Parameters
    ----------
    field
        Physical values on `ground`, (band, y, x).
    ground, box
        Grids of the field and of the file.
    shift
        (east, north) in metres: true position minus the position that `box` states.
    footprint_m
        Standard deviation of the Gaussian footprint in metres.

    Returns
    -------
    ndarray of float32, (band, y, x)
        The field at the true pixel centres of `box`.
    """
    to_ground = ~ground.affine * Affine.translation(*shift) * box.affine
    matrix = np.array([[to_ground.e, to_ground.d], [to_ground.b, to_ground.a]])
    # The half pixels pass from corner-based coordinates (affine) to centre-based ones (arrays).
    offset = np.array([to_ground.f, to_ground.c]) + matrix @ (0.5, 0.5) - 0.5
    sigma, shape = footprint_m / ground.affine.a, (box.shape[0], box.shape[1])
    blurred = (ndimage.gaussian_filter(band, sigma) for band in field)
    return np.stack([ndimage.affine_transform(band, matrix, offset, output_shape=shape, order=1) for band in blurred])


def detected(seen: FloatArray, *, rng: np.random.Generator) -> npt.NDArray[np.uint16]:
    """Return reflectance with detector noise as digital numbers (times 10000), at least 1 because 0 is nodata."""
    noisy = seen + rng.normal(0.0, _DETECTOR_NOISE, seen.shape)
    return np.clip(np.rint(noisy * 10_000), 1, 65_535).astype(np.uint16)


def speckled(power: FloatArray, *, looks: float, rng: np.random.Generator) -> FloatArray:
    """Return `power` times gamma noise of mean 1 and variance ``1 / looks``."""
    return np.asarray(power * rng.gamma(looks, 1.0 / looks, power.shape), dtype=np.float32)


def write_eo(folder: Path, ground: Ground, *, clouds: CloudCover, rng: np.random.Generator, seed: int) -> Path:
    """Write ``eo.tif``: uint16, reflectance times 10000 of blue, green, red and nir, nodata 0."""
    size = clouds.codes.shape[0]
    clear = observe(
        reflectance(ground, rng=rng), ground=ground.geobox, box=area_box(size), shift=(0.0, 0.0), footprint_m=4.0
    )
    digital = detected(cover(clear, clouds), rng=rng)
    digital[:, eo_unseen(size)] = 0
    return write_raster(
        folder / "eo.tif", digital, box=area_box(size), names=("blue", "green", "red", "nir"), nodata=0, scale=1e-4,
        tags={"modality": "eo", "units": "reflectance", "seed": str(seed)},
    )  # fmt: skip


def write_sar(
    folder: Path,
    ground: Ground,
    *,
    size: int,
    shift: tuple[float, float],
    looks: float,
    rng: np.random.Generator,
    seed: int,
) -> Path:
    """Write ``sar.tif``: float32, gamma0 of VV and VH in linear power with gamma speckle of `looks`, nodata 0."""
    power = observe(backscatter(ground, rng=rng), ground=ground.geobox, box=sar_box(size), shift=shift, footprint_m=4.0)
    noisy = speckled(power, looks=looks, rng=rng)
    noisy[:, sar_unseen(size)] = 0.0
    return write_raster(
        folder / "sar.tif", noisy, box=sar_box(size), names=("VV", "VH"), nodata=0.0,
        tags={"modality": "sar", "units": "linear_power", "looks": f"{looks:g}", "seed": str(seed)},
    )  # fmt: skip


def write_ir(
    folder: Path, ground: Ground, *, size: int, shift: tuple[float, float], rng: np.random.Generator, seed: int
) -> Path:
    """Write ``ir.tif``: float32 brightness temperature in kelvin, 30 m, noise of 0.3 K, nodata -9999."""
    kelvin = observe(
        temperature(ground, rng=rng), ground=ground.geobox, box=ir_box(size), shift=shift, footprint_m=12.0
    )
    noisy = (kelvin + rng.normal(0.0, _NETD, kelvin.shape)).astype(np.float32)
    return write_raster(
        folder / "ir.tif", noisy, box=ir_box(size), names=("brightness_temperature",), nodata=-9999.0,
        tags={"modality": "ir", "units": "kelvin", "seed": str(seed)},
    )  # fmt: skip


def write_raster(
    path: Path,
    values: npt.NDArray[np.generic],
    *,
    box: GeoBox,
    names: Sequence[str],
    nodata: float,
    scale: float | None = None,
    tags: Mapping[str, str] | None = None,
    colors: Sequence[str] = (),
) -> Path:
    """Write a tiled, deflated GeoTIFF whose bytes depend on the arguments alone.

    Parameters
    ----------
    path
        File to write or replace.
    values
        (band, y, x); the file takes its dtype.
    box
        Grid of the values.
    names
        Description of each band.
    nodata
        Value that means "no observation".
    scale
        Factor from stored number to physical value; None writes none.
    tags
        Dataset tags.
    colors
        ``#rrggbb`` of the values 0, 1, ... for a single uint8 band.

    Returns
    -------
    Path
        `path`.
    """
    profile = {
        "driver": "GTiff", "height": box.shape[0], "width": box.shape[1], "count": len(values),
        "dtype": values.dtype.name, "crs": CRS, "transform": box.affine, "nodata": nodata,
        "tiled": True, "blockxsize": 256, "blockysize": 256, "compress": "deflate", "zlevel": 1,
    }  # fmt: skip
    with rasterio.open(path, "w", **profile) as file:
        file.write(values)
        file.update_tags(**(tags or {}))
        file.descriptions = tuple(names)
        if scale is not None:
            file.scales, file.offsets = (scale,) * len(values), (0.0,) * len(values)
        if colors:
            rgb = [bytes.fromhex(color.removeprefix("#")) for color in colors]
            file.write_colormap(1, {value: (*channels, 255) for value, channels in enumerate(rgb)})
    return path
