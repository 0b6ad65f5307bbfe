"""BandCrop: of finished rows of a map, what is to be written where windows reach beyond it."""

from dataclasses import replace

from .map_files import Band
from .mosaic import WindowGrid


class BandCrop:
    """Cuts the rows that a row of windows finishes.

    Parameters
    ----------
    grid
        The windows.
    kept
        Rows and columns of the windows' grid that are written, both on multiples of ``tile`` at their beginning; None:
        all.
    tile
        Edge of a pixel of the reliance map, px.
    """

    def __init__(self, grid: WindowGrid, *, kept: tuple[slice, slice] | None, tile: int) -> None:
        self._grid, self._kept, self._tile = grid, kept, tile

    def __call__(self, row: int, band: Band) -> Band:
        """Return what is kept of the rows that row ``row`` of windows finishes; it may have no rows."""
        if self._kept is None:
            return band
        rows, cols = self._kept
        top = self._grid.finished_rows(row)[0]
        pixels = (_within(rows, top), cols)
        tile_top = row * (self._grid.stride // self._tile)
        tiles = (slice(None), _within(self._tiles(rows), tile_top), self._tiles(cols))
        return replace(
            band, classes=band.classes[pixels], confidence=band.confidence[pixels], reliance=band.reliance[tiles],
            probability=None if band.probability is None else band.probability[:, *pixels],
            contribution=None if band.contribution is None else band.contribution[tiles],
        )  # fmt: skip

    def _tiles(self, pixels: slice) -> slice:
        return slice(pixels.start // self._tile, -(-pixels.stop // self._tile))


def _within(wanted: slice, top: int) -> slice:
    """Return a range of rows as counted from row ``top``; what lies before it is gone already."""
    return slice(max(wanted.start - top, 0), max(wanted.stop - top, 0))
