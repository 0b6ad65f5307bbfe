"""Windows on the pixel grid of a chip, which may reach beyond it."""

from dataclasses import dataclass

from affine import Affine
from odc.geo.geobox import GeoBox


@dataclass(frozen=True, kw_only=True)
class PixelWindow:
    """A window: its upper left pixel on the chip's grid, and its size in pixels; it may reach beyond the chip."""

    row: int
    col: int
    height: int
    width: int

    @classmethod
    def whole(cls, grid: GeoBox) -> "PixelWindow":
        """Return the window that is all of a grid."""
        return cls(row=0, col=0, height=grid.shape[0], width=grid.shape[1])

    def inside(self, grid: GeoBox) -> tuple[slice, slice]:
        """Return the rows and columns of an image on ``grid`` that the window covers, both maybe empty."""
        height, width = grid.shape
        top, left = min(max(self.row, 0), height), min(max(self.col, 0), width)
        bottom = min(max(self.row + self.height, top), height)
        return slice(top, bottom), slice(left, min(max(self.col + self.width, left), width))

    def place(self, rows: slice, cols: slice) -> tuple[slice, slice]:
        """Return where rows and columns of the image lie in the window."""
        return (
            slice(rows.start - self.row, rows.stop - self.row),
            slice(cols.start - self.col, cols.stop - self.col),
        )

    def of(self, grid: GeoBox) -> GeoBox:
        """Return the window's own grid."""
        if self == PixelWindow.whole(grid):
            return grid
        affine = grid.affine * Affine.translation(self.col, self.row)
        return GeoBox((self.height, self.width), affine, grid.crs)
