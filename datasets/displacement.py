"""Displacement: by how much the position that a file claims is to be corrected, place by place."""

from dataclasses import dataclass

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from .errors import SceneError
from .lattice import at_places

#: Rows of a grid for which a field is interpolated at once: the sums are in float64.
_ROWS = 256


@dataclass(frozen=True, kw_only=True, eq=False)
class Displacement:
    """A field of corrections, added to the position that a source file claims, at the true place.

    What lies at ``p`` is found in the source at ``p - d(p)``. Between nodes the field is bilinear, beyond the outermost
    nodes it is constant.

    Attributes
    ----------
    lattice
        Its pixel centres are the nodes; its CRS is that of the grid onto which the source is brought.
    east, north
        float32 (y, x) at the nodes, in units of the CRS along its x and y axes; finite.
    """

    lattice: GeoBox
    east: NDArray[np.float32]
    north: NDArray[np.float32]

    def __post_init__(self) -> None:
        for name in ("east", "north"):
            values = np.ascontiguousarray(getattr(self, name), dtype=np.float32)
            if values.shape != tuple(self.lattice.shape) or not np.isfinite(values).all():
                raise SceneError(
                    f"displacement: found `{name}` of shape {values.shape}, {int((~np.isfinite(values)).sum())} of its "
                    f"values not finite; wanted a number at each of the {self.lattice.shape.y} x "
                    f"{self.lattice.shape.x} nodes; fill the field before it is applied"
                )
            object.__setattr__(self, name, values)

    @classmethod
    def constant(cls, geobox: GeoBox, *, east: float, north: float) -> "Displacement":
        """Return the same correction everywhere, in units of the CRS of ``geobox``; four nodes lie over its extent."""
        rows, cols = geobox.shape
        lattice = GeoBox((2, 2), geobox.affine * Affine.scale(cols / 2, rows / 2), geobox.crs)
        return cls(lattice=lattice, east=np.full((2, 2), east, np.float32), north=np.full((2, 2), north, np.float32))

    @property
    def largest(self) -> float:
        """Length of the largest correction, in units of the CRS."""
        return float(np.hypot(self.east, self.north).max())

    @property
    def is_zero(self) -> bool:
        """Whether nothing is corrected anywhere."""
        return not (self.east.any() or self.north.any())

    @property
    def is_constant(self) -> bool:
        """Whether the correction is the same everywhere."""
        return bool(np.ptp(self.east) == 0 and np.ptp(self.north) == 0)

    def at(self, geobox: GeoBox) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Interpolate at the pixel centres of a grid.

        Parameters
        ----------
        geobox
            Any grid in the lattice's CRS.

        Returns
        -------
        East and north, float32 (y, x), in units of the CRS.

        Raises
        ------
        SceneError
            If the grid is in another CRS.
        """
        self.require_crs(geobox)
        height, width = geobox.shape
        east, north = np.empty((height, width), np.float32), np.empty((height, width), np.float32)
        a, b, left, d, e, top = tuple(geobox.affine)[:6]
        cols = np.arange(width)[None] + 0.5
        for row in range(0, height, _ROWS):
            rows = np.arange(row, min(row + _ROWS, height))[:, None] + 0.5
            places = a * cols + b * rows + left, d * cols + e * rows + top
            east[row : row + _ROWS], north[row : row + _ROWS] = self.at_places(*places)
        return east, north

    def at_places(
        self, x: NDArray[np.float64], y: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Interpolate at places in the lattice's CRS.

        Parameters
        ----------
        x, y
            float64 of one shape, in units of the CRS.

        Returns
        -------
        East and north, float64 of that shape.
        """
        east, north = at_places(self.lattice, (self.east, self.north), x, y)
        return east, north

    def require_crs(self, geobox: GeoBox) -> None:
        """Refuse a grid in another CRS than the lattice's.

        Raises
        ------
        SceneError
            If it is.
        """
        if geobox.crs != self.lattice.crs:
            raise SceneError(
                f"displacement: found a grid in {geobox.crs}; wanted {self.lattice.crs}, in which the field was "
                "measured; apply it on a grid of that CRS"
            )
