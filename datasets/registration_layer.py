"""Registration layers: how sure the position of an aligned raster is, and how it was corrected, place by place."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from pyproj.exceptions import CRSError
from rasterio.errors import RasterioError

from .errors import SceneError
from .lattice import mean_over
from .product import quiet_open
from .scene import first_line

#: Bands of the file, in order.
BANDS = ("confidence", "radius90", "east", "north")

#: Tag that holds the CRS as the stack's description holds it: GeoTIFF keys cannot tell every CRS.
_CRS_TAG = "lattice_crs"


@dataclass(frozen=True, kw_only=True, eq=False)
class RegistrationLayer:
    """What co-registration knows of the position of one modality in one scene.

    Between nodes everything is bilinear, beyond the outermost nodes it is constant.

    Attributes
    ----------
    grid
        A coarse lattice that reaches the edges of the scene's grid, in its CRS; its pixel centres are the nodes.
    confidence
        float32 (y, x): probability, 0 to 1, that the position is right within one pixel of the matching grid; 0 where
        registration was refused and the file's position kept.
    radius90
        float32 (y, x): radius of the circle that holds the true position with 90 %, in units of the CRS; NaN where
        registration was refused.
    east, north
        float32 (y, x): the correction that was applied, in units of the CRS along its x and y axes.
    """

    grid: GeoBox
    confidence: NDArray[np.float32]
    radius90: NDArray[np.float32]
    east: NDArray[np.float32]
    north: NDArray[np.float32]

    def __post_init__(self) -> None:
        for name in BANDS:
            object.__setattr__(self, name, np.ascontiguousarray(getattr(self, name), dtype=np.float32))
        confidence, radius = self.confidence, self.radius90
        allowed = {
            "confidence": (confidence >= 0) & (confidence <= 1), "radius90": np.isnan(radius) | (radius >= 0),
            "east": np.isfinite(self.east), "north": np.isfinite(self.north),
        }  # fmt: skip
        for name, good in allowed.items():
            if good.shape != tuple(self.grid.shape) or not good.all():
                raise SceneError(
                    f"registration layer: found `{name}` of shape {good.shape}, {int((~good).sum())} of its values out "
                    f"of range; wanted {self.grid.shape.y} x {self.grid.shape.x} nodes, a confidence from 0 to 1, "
                    "radii from 0 on or NaN, and finite corrections; run `equipoise coregister` again with --force"
                )

    def save(self, path: Path, *, tags: Mapping[str, str] | None = None) -> None:
        """Write a small GeoTIFF of four float32 bands, whose pixel centres are the nodes; renamed into place.

        Parameters
        ----------
        path
            Target; its folder exists.
        tags
            Of the dataset, beside those that the format needs.
        """
        crs = self.grid.crs
        temporary = path.with_name(f".{path.name}.tmp")
        profile = {
            "driver": "GTiff", "height": self.grid.shape[0], "width": self.grid.shape[1], "count": len(BANDS),
            "dtype": "float32", "crs": None if crs is None else crs.to_wkt(), "transform": self.grid.affine,
            "nodata": float("nan"), "compress": "deflate", "interleave": "band",
        }  # fmt: skip
        try:
            with rasterio.open(temporary, "w", **profile) as writer:
                # Point: programs that draw values at places, not over areas, put them on the nodes. GDAL's own
                # transform, which all here read, is that of the pixels' corners either way.
                writer.update_tags(**{**(tags or {}), _CRS_TAG: str(crs), "AREA_OR_POINT": "Point"})
                for number, name in enumerate(BANDS, start=1):
                    writer.set_band_description(number, name)
                    writer.write(getattr(self, name), number)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)

    @classmethod
    def load(cls, path: Path) -> "RegistrationLayer":
        """Read what :meth:`save` wrote.

        Raises
        ------
        SceneError
            If the file is missing, damaged, or something else.
        """
        try:
            with quiet_open(path) as source:
                if source.descriptions != BANDS or _CRS_TAG not in source.tags():
                    raise ValueError(f"{source.count} bands {source.descriptions}, wanted {BANDS} and their CRS")
                grid = GeoBox(source.shape, source.transform, source.tags()[_CRS_TAG])
                return cls(grid=grid, **dict(zip(BANDS, source.read(), strict=True)))
        except (RasterioError, OSError, TypeError, ValueError, CRSError) as error:
            raise SceneError(
                f"{path}: found no readable registration layer ({first_line(error)}); wanted the output of `equipoise "
                "coregister`; run that stage again with --force"
            ) from error

    def confidence_over(self, target: GeoBox) -> NDArray[np.float32]:
        """Return the mean confidence over each pixel of a grid.

        Parameters
        ----------
        target
            A grid in the layer's CRS, of patches or tiles: its pixels may be smaller or larger than the way between
            nodes.

        Returns
        -------
        float32 (y, x), 0 to 1.

        Raises
        ------
        SceneError
            If the grid is in another CRS.
        """
        if target.crs != self.grid.crs:
            raise SceneError(
                f"registration layer: found a grid in {target.crs}; wanted {self.grid.crs}, that of the scene; run "
                "`equipoise coregister` again with --force"
            )
        return mean_over(self.grid, self.confidence, target)
