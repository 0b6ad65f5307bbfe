"""Terrain correction of Sentinel-1 GRD with an elevation model: each map pixel is sought in the radar image.

Range-Doppler backward geocoding (A. Schubert, D. Small, *Guide to Sentinel-1 Geocoding*, UZH-S1-GC-AD, 2019): the time
at which a ground point is abeam of the satellite gives the line, its slant range the column. The search is sarsen's
(extra ``terrain``). Positions are corrected, radiometry is not: backscatter stays that of the ellipsoid, and slopes
in layover or shadow are neither flattened nor marked.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
import xarray as xr
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from pyproj import Transformer
from rasterio.enums import Resampling
from rasterio.errors import RasterioError
from rasterio.warp import reproject
from scipy.ndimage import map_coordinates

from .calibration import Quantity
from .errors import SceneError
from .geocoding import pixel_ratio
from .grd import open_product, read_grd
from .modality import Modality
from .product import quiet_open
from .radar_pixels import RadarPixels
from .radar_timing import RadarTiming, read_timing
from .scene import Scene, first_line
from .sentinel1 import lazy_scene, map_grid

#: A pixel is placed as soon as it is this near to the zero-Doppler plane, metres.
_DOPPLER_DISTANCE = 0.05


def terrain_corrected(
    path: Path,
    modality: Modality,
    dem: Path,
    *,
    calibration: Quantity = "sigma0",
    remove_noise: bool = True,
    resolution: float | None = None,
    geoid_height: float = 0.0,
) -> Scene:
    """Open a Sentinel-1 GRD product on a north-up UTM grid, each pixel where the terrain puts it.

    Parameters
    ----------
    path, modality, calibration, remove_noise, resolution
        As in :func:`~equipoise.datasets.sentinel1.open_sentinel1`.
    dem
        Elevation model: any raster with a CRS, heights in metres in its first band. Where it has none, the scene has
        no valid pixel.
    geoid_height
        Metres from the ellipsoid up to the zero of ``dem``: the geoid's undulation at the place for heights above sea
        level (SRTM, Copernicus DEM), 0 for heights above the ellipsoid. Without it pixels lie off in range by about
        the undulation (-100 m to +85 m) over tan(incidence angle).

    Returns
    -------
    Scene as that of ``open_sentinel1``; bilinear in linear power.

    Raises
    ------
    SceneError
        If the product or the elevation model cannot be used, or the extra is not installed.
    """
    try:
        import sarsen.geocoding  # noqa: F401 - asked for here, so that its absence is said before anything is read
    except ImportError as error:
        raise SceneError(
            f"{path}: found no terrain correction ({first_line(error)}); wanted the extra 'terrain'; install "
            "equipoise[terrain], or open the product without an elevation model"
        ) from error
    product = read_grd(path, modality.band_names, calibration=calibration)
    where = f"{path}: {product.annotation}"
    timing = read_timing(open_product(path).read_xml(product.annotation), where=where)
    _check_dem(dem)
    radar = RadarPixels(path=path, product=product, remove_noise=remove_noise)
    pixels = TerrainPixels(
        radar=radar, geobox=map_grid(radar, resolution), timing=timing, dem=dem, geoid_height=geoid_height
    )
    said = f"range-Doppler with elevations of {dem.name}, geoid height {geoid_height:g} m"
    return lazy_scene(pixels, modality, calibration=calibration, geocoding=said)


@dataclass(frozen=True, kw_only=True, eq=False)
class TerrainPixels:
    """Pixels placed by orbit and elevation.

    Attributes
    ----------
    radar
        Source.
    geobox
        Map grid.
    timing
        Imaging geometry.
    dem
        Elevation model.
    geoid_height
        Added to its heights, metres.
    """

    radar: RadarPixels
    geobox: GeoBox
    timing: RadarTiming
    dem: Path
    geoid_height: float

    def block(self, block: GeoBox) -> NDArray[np.float32]:
        """Compute a block: float32 (band, y, x), linear power, NaN where not valid."""
        # Coarse pixels are means of as many samples as there are source pixels in them.
        times = max(1, round(pixel_ratio(self.radar.product.points, block)))
        bands, (height, width) = len(self.radar.product.images), block.shape
        rows, columns = self._image_positions(block.zoom_to((height * times, width * times)))
        window = _window(rows, columns, self.radar.product.shape)
        if window is None:
            return np.full((bands, height, width), np.nan, dtype=np.float32)
        power, top, left = self.radar.read(window)
        samples = _sampled(power, rows - top, columns - left)
        if times == 1:
            return samples
        parts = samples.reshape(bands, height, times, width, times)
        seen = np.isfinite(parts).sum(axis=(2, 4))
        total = np.nansum(parts, axis=(2, 4))
        return np.where(seen > 0, total / np.maximum(seen, 1), np.nan).astype(np.float32)

    def _image_positions(self, grid: GeoBox) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Row and column in the image of each pixel centre of ``grid``, (y, x), NaN where no height is known."""
        from sarsen.geocoding import backward_geocode
        from sarsen.orbit import OrbitPolyfitInterpolator

        timing = self.timing
        moments = timing.first_line + (timing.orbit_times * 1e9).round().astype("timedelta64[ns]")
        orbit = OrbitPolyfitInterpolator.from_position(
            xr.DataArray(timing.positions.T, {"axis": [0, 1, 2], "azimuth_time": moments}, ("axis", "azimuth_time"))
        )
        height, width = grid.shape
        affine = grid.affine
        x, y = np.meshgrid(
            affine.c + affine.a * (np.arange(width) + 0.5), affine.f + affine.e * (np.arange(height) + 0.5)
        )
        to_map = Transformer.from_crs(str(grid.crs), "EPSG:4979", always_xy=True)
        longitude, latitude = to_map.transform(x, y)
        to_earth = Transformer.from_crs("EPSG:4979", "EPSG:4978", always_xy=True)
        points = np.stack(to_earth.transform(longitude, latitude, self._heights(grid)))
        points[~np.isfinite(points)] = np.nan
        coordinates = {"axis": [0, 1, 2], "y": np.arange(height), "x": np.arange(width)}
        found = backward_geocode(
            xr.DataArray(points, coordinates, ("axis", "y", "x")), orbit, zero_doppler_distance=_DOPPLER_DISTANCE
        )
        seconds = (found.azimuth_time.values - timing.first_line) / np.timedelta64(1, "ns") * 1e-9
        slant = np.sqrt((found.dem_distance.transpose("axis", "y", "x").values ** 2).sum(axis=0))
        return timing.image_position(seconds, slant)

    def _heights(self, grid: GeoBox) -> NDArray[np.float64]:
        heights = np.full(tuple(grid.shape), np.nan)
        try:
            with rasterio.open(self.dem) as source:
                reproject(
                    rasterio.band(source, 1), heights, dst_transform=grid.affine, dst_crs=str(grid.crs),
                    src_nodata=source.nodata, dst_nodata=np.nan, resampling=Resampling.bilinear,
                )  # fmt: skip
        except (RasterioError, OSError) as error:
            raise SceneError(
                f"{self.dem}: found elevations that cannot be read ({first_line(error)}); wanted a complete raster; "
                "copy or download it again"
            ) from error
        return heights + self.geoid_height


def _check_dem(dem: Path) -> None:
    try:
        with quiet_open(dem) as source:
            crs = source.crs
    except (RasterioError, OSError) as error:
        raise SceneError(
            f"{dem}: found no elevation model that opens ({first_line(error)}); wanted a raster of heights in metres; "
            "correct the path"
        ) from error
    if crs is None:
        raise SceneError(f"{dem}: found no CRS; wanted a georeferenced elevation model; assign one")


def _window(
    rows: NDArray[np.float64], columns: NDArray[np.float64], shape: tuple[int, int]
) -> tuple[slice, slice] | None:
    """Row and column slices of the image that hold all positions and their neighbours; None if there are none."""
    inside = (rows > -1) & (rows < shape[0]) & (columns > -1) & (columns < shape[1])
    if not inside.any():
        return None
    window = []
    for positions, size in ((rows[inside], shape[0]), (columns[inside], shape[1])):
        window.append(slice(max(0, math.floor(positions.min())), min(size, math.floor(positions.max()) + 2)))
    return window[0], window[1]


def _sampled(
    power: NDArray[np.float32], rows: NDArray[np.float64], columns: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Sample (band, y, x) bilinearly at positions; NaN where half of what is needed, or more, is not valid."""
    positions = np.stack([np.where(np.isfinite(part), part, -9.0) for part in (rows, columns)])
    valid = np.isfinite(power).all(axis=0)
    weight = map_coordinates(valid.astype(np.float32), positions, order=1, mode="constant")
    out = np.full((len(power), *rows.shape), np.nan, dtype=np.float32)
    usable = weight > 0.5
    for layer, target in zip(power, out, strict=True):
        value = map_coordinates(np.where(valid, layer, 0), positions, order=1, mode="constant")
        target[usable] = value[usable] / weight[usable]
    return out
