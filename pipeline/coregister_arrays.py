"""Co-registration of arrays in memory or lazily on disk: an xarray image onto another."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xarray as xr
from odc.geo.geobox import GeoBox
from odc.geo.xr import wrap_xr

from ..datasets.modality import Band, Modality, Unit
from ..datasets.scene import Scene
from ..datasets.warp import warp
from .coregister_scenes import reference_grid
from .errors import AlignmentError
from .placement import Registration, place
from .stage_options import CoregisterOptions


@dataclass(frozen=True, kw_only=True)
class Coregistered:
    """An image on the reference's grid.

    Attributes
    ----------
    data
        float32 (band, y, x) in the unit given, NaN where nothing is valid.
    confidence
        float32 (y, x) on the same grid: probability, 0 to 1, that the position is right within a pixel.
    registration
        Numbers: kind, correction, RMSE before and after, 90 % circle.
    """

    data: xr.DataArray
    confidence: xr.DataArray
    registration: Registration


def coregister(
    reference: xr.DataArray,
    moving: xr.DataArray,
    *,
    max_shift_m: float = 250.0,
    min_confidence: float = 0.5,
    on_failure: str = "refuse",
    reference_unit: str = "digital_number",
    moving_unit: str = "digital_number",
) -> Coregistered:
    """Bring an image onto the grid of another, at sub-pixel accuracy.

    Parameters
    ----------
    reference, moving
        (y, x) or (band, y, x) with a position, as rioxarray, odc-stac and :func:`odc.geo.xr.wrap_xr` give them; NaN or
        the ``nodata`` attribute where not valid. CRS and pixel size may differ.
    max_shift_m
        Largest shift looked for, m.
    min_confidence
        Least median confidence, 0 to 1.
    on_failure
        ``refuse`` raises; ``keep`` takes the moving image's own position, with confidence 0.
    reference_unit, moving_unit
        ``reflectance``, ``linear_power``, ``amplitude``, ``db``, ``kelvin``, ``digital_number``: radar is resampled in
        linear power, and returned in the unit given.

    Raises
    ------
    NotRegistrable
        If the images cannot be registered.
    AlignmentError
        If an image has no position.
    """
    scenes = {
        "reference": _scene(reference, "reference", Unit(reference_unit)),
        "moving": _scene(moving, "moving", Unit(moving_unit)),
    }
    options = CoregisterOptions.model_validate(
        {"max_shift_m": max_shift_m, "min_confidence": min_confidence, "on_failure": on_failure}
    )
    grid = reference_grid(scenes["reference"])
    placement = dict(place(scenes, "reference", grid, options=options))["moving"]
    values = warp(scenes["moving"], grid, displacement=placement.displacement)
    bands = scenes["moving"].modality.bands
    shown = np.stack([
        band.to_network(layer) if band.unit is Unit.DB else layer for band, layer in zip(bands, values, strict=True)
    ])  # fmt: skip
    sure = np.zeros(tuple(grid.shape), np.float32) if placement.layer is None else placement.layer.confidence_over(grid)
    return Coregistered(
        data=wrap_xr(shown, grid, nodata=float("nan"), axis=1, dims=("band", "y", "x")),
        confidence=wrap_xr(sure, grid), registration=placement.registration,
    )  # fmt: skip


def _scene(image: xr.DataArray, name: str, unit: Unit) -> Scene:
    geobox = image.odc.geobox
    if not isinstance(geobox, GeoBox) or geobox.crs is None:
        raise AlignmentError(
            f"{name}: found an array without a position; wanted one with a CRS and a transform; assign them with "
            "odc.geo.xr.assign_crs or rioxarray's write_crs and write_transform"
        )
    stacked = image if image.ndim == 3 else image.expand_dims("band")
    spatial = image.odc.spatial_dims
    data = stacked.transpose(..., *spatial).rename(
        dict(zip((stacked.dims[0], *spatial), ("band", "y", "x"), strict=True))
    )
    nodata = image.attrs.get("nodata", image.attrs.get("_FillValue"))
    clear = data.astype(np.float32) if nodata is None else data.where(data != nodata).astype(np.float32)
    bands = tuple(Band(name=f"band_{number + 1}", unit=unit) for number in range(data.sizes["band"]))
    modality = Modality(name=name, bands=bands)
    working = clear if unit not in (Unit.DB, Unit.AMPLITUDE) else xr.apply_ufunc(
        bands[0].to_working, clear, dask="parallelized", output_dtypes=[np.float32]
    )  # fmt: skip
    return Scene(modality=modality, path=Path(name), data=working, geobox=geobox)
