"""AROSICS as a peer of co-registration: its global and its local mode."""

import contextlib
import io
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
from coregister_pair import (
    Pair,
    Transform,
    by_shift,
    filled,
    valid_of,
)
from numpy.typing import NDArray

#: A declared nodata value that no image holds: without one AROSICS takes what the corners hold for it.
_NODATA = -9999.0


def _geo_arrays(pair: Pair) -> tuple[dict[str, Any], tuple[float, ...]]:
    """Return the arguments that both AROSICS classes share, and the geotransform.

    Pixels that are not valid hold the mean and are declared bad, as its documentation asks for clouds.
    """
    from geoarray import GeoArray
    from osgeo import gdal, osr

    if not hasattr(gdal, "config_options"):  # AROSICS asks for GDAL 3.8; all that it misses in 3.6 is this
        gdal.config_options = _config_options
    osr.UseExceptions()
    system = osr.SpatialReference()
    system.ImportFromEPSG(32631)  # any in metres: the pixels' size is all that matters
    geotransform = (500000.0, pair.pixel_m, 0.0, 5000000.0, 0.0, -pair.pixel_m)

    def geo(array: NDArray[Any]) -> Any:
        return GeoArray(array, geotransform, system.ExportToWkt(), q=True)

    given: dict[str, Any] = {
        "im_ref": geo(filled(pair.reference)), "im_tgt": geo(filled(pair.moving)),
        "nodata": (_NODATA, _NODATA),
        "max_shift": pair.max_shift_px,  # the benchmark's, not 5 px
        "CPUs": 1,  # seconds of CPU are compared
        "q": True, "progress": False,
    }  # fmt: skip
    for name, image in (("mask_baddata_ref", pair.reference), ("mask_baddata_tgt", pair.moving)):
        if not valid_of(image).all():
            given[name] = geo(~valid_of(image))
    return given, geotransform


@contextlib.contextmanager
def _config_options(options: dict[str, str]) -> Iterator[None]:
    """Set GDAL's options for a while, as gdal.config_options does since GDAL 3.7."""
    from osgeo import gdal

    before = {key: gdal.GetConfigOption(key) for key in options}
    try:
        for key, value in options.items():
            gdal.SetConfigOption(key, value)
        yield
    finally:
        for key, value in before.items():
            gdal.SetConfigOption(key, value)


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Keep what AROSICS prints and warns of, even when asked to be quiet, out of the benchmark's table."""
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def arosics_global(pair: Pair) -> Transform | None:
    """Align by AROSICS' one shift, from its default window of 256 px at the centre of the overlap."""
    from arosics import COREG

    with _quietly():
        given, _ = _geo_arrays(pair)
        try:
            found = COREG(**given)
            found.calculate_spatial_shifts()
        except (RuntimeError, ValueError, AssertionError):  # what it raises when it finds no match, or refuses one
            return None
    if not found.success or found.x_shift_px is None:
        return None
    # It tells the correction, how the moving image has to go, in pixels that count down and to the right.
    return by_shift(-float(found.y_shift_px), -float(found.x_shift_px))


def arosics_local(pair: Pair, **filters: Any) -> Transform | None:
    """Align by AROSICS' tie points with windows of 256 px, and the warp that its own deshifter makes of them.

    That warp is GDAL's thin-plate spline through the tie points that passed its filters, or their mean shift where
    fewer than five did (its min_points_local_corr).
    """
    from arosics import COREG_LOCAL

    with _quietly():
        given, geotransform = _geo_arrays(pair)
        try:
            # A tie point each 64 px: windows overlap by three quarters, 256 points in 1000 x 1000 px.
            found = COREG_LOCAL(**given, grid_res=64, window_size=(256, 256), **filters)
            found.calculate_spatial_shifts()
            info = found.coreg_info if found.success else None
        except (RuntimeError, ValueError, AssertionError):  # as above
            return None
    if info is None:
        return None
    if len(info["GCPList"]) < 5:
        return by_shift(-float(info["mean_shifts_px"]["y"]), -float(info["mean_shifts_px"]["x"]))
    return _thin_plates(info["GCPList"], geotransform, pair)


def _thin_plates(tie_points: list[Any], geotransform: tuple[float, ...], pair: Pair) -> Transform:
    """Return GDAL's spline from places on the ground to pixels of the moving image, at full precision."""
    from osgeo import gdal, osr

    system = osr.SpatialReference()
    system.ImportFromEPSG(32631)
    height, width = pair.moving.shape
    image = gdal.GetDriverByName("MEM").Create("", width, height, 1)
    image.SetGCPs(tie_points, system.ExportToWkt())
    spline = gdal.Transformer(image, None, ["METHOD=GCP_TPS"])

    def transform(points: NDArray[np.float64]) -> NDArray[np.float64]:
        x = geotransform[0] + (points[:, 1] + 0.5) * geotransform[1]
        y = geotransform[3] + (points[:, 0] + 0.5) * geotransform[5]
        moved, _ = spline.TransformPoints(True, np.column_stack([x, y]).tolist())
        # GDAL counts from a pixel's corner.
        return np.array([(line - 0.5, pixel - 0.5) for pixel, line, _ in moved]) - points

    return transform


def arosics_local_relaxed(pair: Pair) -> Transform | None:
    """Align by AROSICS' tie points, with fewer of them thrown away."""
    # Level 1 leaves out the test of structural similarity, which images of two kinds cannot pass, and the RANSAC after
    # it; its documentation asks for a lower reliability where the signal is poor (default: 60 %).
    return arosics_local(pair, tieP_filter_level=1, min_reliability=30)
