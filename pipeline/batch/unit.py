"""Unit: one chunk of the work, as plain values that go to a worker and into the ledger."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import shapely
from affine import Affine
from odc.geo.geobox import GeoBox
from shapely.geometry.base import BaseGeometry

from ..area import Area


@dataclass(frozen=True, kw_only=True)
class Unit:
    """A chunk to be mapped.

    Attributes
    ----------
    name
        Of the chunk; unique in a run, and the name of its folder.
    geobox
        Grid of its maps.
    before, after
        Px, rows and columns, by which windows begin before the chunk and end after it.
    margin
        Px that windows read beyond that.
    outline
        What is mapped of it, in the CRS of the grid; None: all.
    regions
        Names of the regions that it serves.
    source
        Where its pixels come from (:mod:`~equipoise.pipeline.batch.unit_sources`), plain JSON values.
    fingerprint
        Hash of all that its maps depend on.
    reason
        Why there is nothing to map, where that is known from the start.
    """

    name: str
    geobox: GeoBox
    before: tuple[int, int]
    after: tuple[int, int]
    margin: int
    outline: BaseGeometry | None
    regions: tuple[str, ...]
    source: Mapping[str, Any]
    fingerprint: str
    reason: str | None = None

    @property
    def windowed(self) -> GeoBox:
        """Grid of the windows: the chunk, and what lies before and after it."""
        return _padded(self.geobox, self.before, self.after)

    @property
    def read(self) -> GeoBox:
        """Grid of all that windows read."""
        return _padded(self.windowed, (self.margin, self.margin), (self.margin, self.margin))

    @property
    def km2(self) -> float:
        """Area of the chunk on its grid."""
        rows, cols = self.geobox.shape
        return float(rows * cols * abs(self.geobox.affine.determinant) / 1e6)

    def area(self, grid: GeoBox) -> Area:
        """Return what is mapped of a stack on ``grid``, whose pixels are those of the chunk."""
        windowed = self.windowed
        col, row = (round(value) for value in ~grid.affine * (windowed.affine.c, windowed.affine.f))
        (top, left), (rows, cols) = self.before, self.geobox.shape
        return Area(
            geobox=windowed, row=row, col=col, outline=self.outline,
            kept=(slice(top, top + rows), slice(left, left + cols)),
        )  # fmt: skip

    def to_json(self) -> str:
        """Return the unit as JSON."""
        record = {
            **vars(self),
            "geobox": {
                "crs": None if self.geobox.crs is None else str(self.geobox.crs),
                "transform": list(self.geobox.affine)[:6], "shape": list(self.geobox.shape),
            },
            "outline": None if self.outline is None else shapely.to_wkb(self.outline, hex=True),
        }  # fmt: skip
        return json.dumps(record)

    @classmethod
    def from_json(cls, text: str) -> "Unit":
        """Return what :meth:`to_json` wrote."""
        record = json.loads(text)
        grid, outline = record.pop("geobox"), record.pop("outline")
        for name in ("before", "after", "regions"):
            record[name] = tuple(record[name])
        return cls(
            geobox=GeoBox(tuple(grid["shape"]), Affine(*grid["transform"]), grid["crs"]),
            outline=None if outline is None else shapely.from_wkb(outline), **record,
        )  # fmt: skip


def _padded(grid: GeoBox, before: tuple[int, int], after: tuple[int, int]) -> GeoBox:
    rows, cols = grid.shape
    shape = (rows + before[0] + after[0], cols + before[1] + after[1])
    return GeoBox(shape, grid.affine * Affine.translation(-before[1], -before[0]), grid.crs)
