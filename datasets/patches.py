"""The patch index: one row a window of an aligned stack, in a GeoParquet file that GIS programs open."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import shapely
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from .errors import DatasetError
from .notebook_view import notebook_view

#: CRS of the index's footprints: scenes of several UTM zones share one file.
INDEX_CRS = "EPSG:4326"

#: Columns that say which pixels a patch is, and its label.
WINDOW_COLUMNS = ("scene", "row", "col", "height", "width", "label")


@dataclass(frozen=True, kw_only=True)
class PatchIndex:
    """Table of patches.

    Attributes
    ----------
    table
        One row a patch. Columns: ``scene``, ``row``, ``col``, ``height``, ``width`` (pixels on the scene's grid),
        ``split``, ``label`` (class of the chip, 255 = none), ``valid_<modality>`` (share of usable pixels, 0 to 1),
        ``cloud_<modality>`` (share of cloud and shadow among the pixels that the sensor observed, 0 to 1; NaN where
        its product tells of no clouds, or nothing was observed), ``registration_<modality>`` (mean over the
        patch of the probability that its position is right within a pixel of the matching grid, 0 to 1, 0 where the
        file's own was kept; that of the whole scene where it is not known place by place; NaN where it was not
        measured), ``class_<value>`` (labelled pixels), ``geometry``
        (footprint, EPSG:4326; pixel coordinates without a CRS for chips that have no position).
    modalities
        Names in order.
    """

    table: gpd.GeoDataFrame
    modalities: tuple[str, ...]

    @classmethod
    def from_rows(
        cls, rows: Iterable[Mapping[str, Any]], *, modalities: tuple[str, ...], georeferenced: bool
    ) -> "PatchIndex":
        """Build the index from row dicts that carry ``geometry``.

        Raises
        ------
        DatasetError
            If there is no row.
        """
        records = list(rows)
        if not records:
            raise DatasetError(
                "found no patch that passes the filters; wanted at least one; lower `tile.min_valid` or "
                "`tile.patch_size`, and check nodata"
            )
        table = gpd.GeoDataFrame(records, geometry="geometry", crs=INDEX_CRS if georeferenced else None)
        return cls(table=table, modalities=modalities)

    def of_split(self, split: str) -> "PatchIndex":
        """Return the patches of one split, in their order."""
        chosen = self.table[self.table["split"] == split].reset_index(drop=True)
        return PatchIndex(table=chosen, modalities=self.modalities)

    def __len__(self) -> int:
        return len(self.table)

    def _repr_html_(self) -> str:
        """Return modalities and patches a split, for notebooks."""
        counts = {str(split): str(count) for split, count in self.table["split"].value_counts().items()}
        return notebook_view("Patch index", f"{len(self)} patches", {"sensors": ", ".join(self.modalities), **counts})

    def class_counts(self, values: Sequence[int]) -> NDArray[np.float64]:
        """Return labelled pixels (or chips) a class, in the order of ``values``."""
        columns = [f"class_{value}" for value in values]
        return self.table[columns].sum().to_numpy(dtype=np.float64)

    def save(self, path: Path) -> None:
        """Write GeoParquet 1.1 with a bounding-box covering; renamed into place."""
        temporary = path.with_name(f".{path.name}.tmp")
        self.table.to_parquet(temporary, index=False, schema_version="1.1.0", write_covering_bbox=True)
        temporary.replace(path)

    @classmethod
    def load(cls, path: Path) -> "PatchIndex":
        """Read what :meth:`save` wrote.

        Raises
        ------
        DatasetError
            If the file is missing or no patch index.
        """
        try:
            table = gpd.read_parquet(path)
            if absent := [name for name in (*WINDOW_COLUMNS, "split") if name not in table.columns]:
                raise ValueError(f"no column '{absent[0]}'")
            modalities = tuple(name.removeprefix("valid_") for name in table.columns if name.startswith("valid_"))
        except (OSError, ValueError) as error:
            reason = " ".join(str(error).split())  # geopandas' own goes over several lines
            raise DatasetError(
                f"{path}: found no readable patch index ({reason}); wanted GeoParquet; run `equipoise tile` again"
            ) from error
        return cls(table=table, modalities=modalities)


def footprint(geobox: GeoBox) -> shapely.Geometry:
    """Return a grid's outline in EPSG:4326, or in pixel coordinates where it has no CRS.

    An outline that crosses the antimeridian is two polygons; one around a pole is a box of all longitudes.
    """
    if geobox.crs is None:
        return shapely.box(0, 0, geobox.shape[1], geobox.shape[0])
    outline = geobox.extent.to_crs(INDEX_CRS).geom
    west, south, east, north = outline.bounds
    if east - west <= 180:
        return outline
    east_of = shapely.transform(outline, lambda lon, lat: (np.where(lon < 0, lon + 360, lon), lat), interleaved=False)
    if np.ptp(shapely.get_coordinates(east_of)[:, 0]) > 180:
        return shapely.box(-180, -90, 180, north) if north + south < 0 else shapely.box(-180, south, 180, 90)
    beyond = shapely.transform(
        shapely.intersection(east_of, shapely.box(180, -90, 540, 90)),
        lambda lon, lat: (lon - 360, lat),
        interleaved=False,
    )
    return shapely.union(shapely.intersection(east_of, shapely.box(-180, -90, 180, 90)), beyond)
