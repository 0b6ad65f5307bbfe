"""Scenes: one acquisition of one modality, lazily, in physical units, on its own grid."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.errors import RasterioError

from .errors import EmptySceneError, SceneError
from .modality import Band, Modality, Unit, implausible_unit
from .notebook_view import grid_words, notebook_view
from .quality import Quality

#: Pixels along each edge of the windows on which declared units are checked, and windows along each edge of a scene.
UNIT_SAMPLE, UNIT_WINDOWS = 128, 3

#: Scenes up to this edge are looked at whole: one read costs less than nine.
SMALL_SCENE = 512


@dataclass(frozen=True, kw_only=True)
class Scene:
    """One acquisition of one modality.

    Attributes
    ----------
    modality
        What the bands mean; scale, offset and unit are those of the file.
    path
        The file or product that was opened.
    data
        Lazy array (band, y, x), float32, working units (linear power for radar), NaN where not valid.
        Coordinates follow :attr:`geobox`.
    geobox
        Grid: CRS (or None), affine, shape. Rotated grids are kept as they are.
    acquired
        Acquisition time as the product states it, ISO 8601, or None.
    quality
        Lazy array (y, x), uint8, `Quality` codes; None where nothing is known of clouds.
    provenance
        Product name, processing baseline, where scale and offset came from: text by name.
    uniform
        Whether its values hold for the whole place by definition, as those of a table do: there is nothing to register.
    """

    modality: Modality
    path: Path
    data: xr.DataArray
    geobox: GeoBox
    acquired: str | None = None
    quality: xr.DataArray | None = None
    provenance: Mapping[str, str] = field(default_factory=dict)
    uniform: bool = False

    @property
    def valid(self) -> xr.DataArray:
        """Lazy mask (y, x): True where every band is usable."""
        return self.data.notnull().all("band")

    def read(self, roi: tuple[slice, slice] = (slice(None), slice(None))) -> NDArray[np.float32]:
        """Read pixels.

        Parameters
        ----------
        roi
            Row and column slices on :attr:`geobox`.

        Returns
        -------
        float32 (band, y, x) in working units, NaN where not valid.

        Raises
        ------
        SceneError
            If the file is truncated or corrupt.
        """
        return cast(NDArray[np.float32], self._computed(self.data[(slice(None), *roi)]))

    def read_quality(self, roi: tuple[slice, slice] = (slice(None), slice(None))) -> NDArray[np.uint8]:
        """Read `Quality` codes, uint8 (y, x); all unknown where the scene has no quality layer.

        Raises
        ------
        SceneError
            If the file is truncated or corrupt.
        """
        if self.quality is None:
            shape = self.geobox[roi].shape
            return np.full(tuple(shape), Quality.UNKNOWN, dtype=np.uint8)
        return cast(NDArray[np.uint8], self._computed(self.quality[roi]))

    def without_clouds(self) -> "Scene":
        """Return the scene with cloud and shadow made not valid."""
        if self.quality is None:
            return self
        hidden = self.quality.isin([int(Quality.CLOUD), int(Quality.SHADOW)])
        return replace(self, data=self.data.where(~hidden).astype(np.float32))

    def _repr_html_(self) -> str:
        """Return grid, bands with the units that they are read in, and time, for notebooks; reads no pixel."""
        bands = ", ".join(f"{band.name} ({band.working_unit})" for band in self.modality.bands)
        rows = {"grid": grid_words(self.geobox), "bands": bands, "acquired": self.acquired or "not known"}
        return notebook_view(f"Scene of {self.modality.name}", self.path.name, rows)

    def _computed(self, lazy: xr.DataArray) -> NDArray[np.generic]:
        try:
            return lazy.compute(scheduler="synchronous").values
        except (RasterioError, OSError, UnicodeDecodeError) as error:  # GDAL quotes a damaged file's own bytes
            raise SceneError(
                f"{self.path}: found pixel data that cannot be read ({first_line(error)}); wanted a complete raster; "
                "copy or download the file again"
            ) from error


def check_scene(scene: Scene) -> None:
    """Read samples of the scene and refuse it if it holds no data or cannot be of the declared units.

    Raises
    ------
    EmptySceneError
        If no pixel is valid.
    SceneError
        If the values contradict the unit.
    """
    sample = np.concatenate([scene.read(roi).reshape(len(scene.modality.bands), -1) for roi in _windows(scene)], axis=1)
    if not np.isfinite(sample).any():
        # The samples may lie in holes: only the whole scene proves that there is nothing.
        if not bool(scene._computed(scene.valid.any())):
            raise EmptySceneError(
                f"{scene.path}: found no valid pixel; wanted observed data; check the file, its clouds, and the nodata "
                f"value of modality '{scene.modality.name}'"
            )
        return
    for band, layer in zip(scene.modality.bands, sample, strict=True):
        values = layer if band.unit is band.working_unit else _as_declared(band, layer)
        if reason := implausible_unit(band.unit, values[np.isfinite(values)]):
            raise SceneError(f"{scene.path}: band '{band.name}' is declared as {band.unit}: found {reason}")


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or its type."""
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def _as_declared(band: Band, layer: NDArray[np.float32]) -> NDArray[np.float32]:
    if band.unit is Unit.DB:
        return np.float32(10) * np.log10(np.where(layer > 0, layer, np.nan))
    return np.sign(layer) * np.sqrt(np.abs(layer))


def _windows(scene: Scene) -> Iterator[tuple[slice, slice]]:
    """Windows that are spread over the scene; small scenes are one window."""
    rows, cols = (_slices(size) for size in scene.geobox.shape)
    for row in rows:
        for col in cols:
            yield row, col


def _slices(size: int) -> list[slice]:
    if size <= SMALL_SCENE:
        return [slice(0, size)]
    starts = np.linspace(0, size - UNIT_SAMPLE, UNIT_WINDOWS).astype(int)
    return [slice(start, start + UNIT_SAMPLE) for start in starts.tolist()]
