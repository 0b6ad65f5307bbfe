"""Patches: the index of windows (GeoParquet) and the torch dataset that reads them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import shapely
import torch
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from torch.utils.data import Dataset

from .augment import SharedGeometry
from .errors import DatasetError
from .normalise import Normaliser
from .stack import IGNORE, AlignedStack, StackReader

#: CRS of the index's footprints: scenes of several UTM zones share one file.
INDEX_CRS = "EPSG:4326"

#: Columns that say which pixels a patch is, and its label.
_WINDOW_COLUMNS = ("scene", "row", "col", "height", "width", "label")


@dataclass(frozen=True, kw_only=True)
class PatchIndex:
    """Table of patches.

    Attributes
    ----------
    table
        One row a patch. Columns: ``scene``, ``row``, ``col``, ``height``, ``width`` (pixels on the scene's grid),
        ``split``, ``label`` (class of the chip, 255 = none), ``valid_<modality>`` (share of usable pixels, 0 to 1),
        ``class_<value>`` (labelled pixels), ``geometry`` (footprint, EPSG:4326; pixel coordinates without a CRS for
        chips that have no position).
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
            if absent := [name for name in (*_WINDOW_COLUMNS, "split") if name not in table.columns]:
                raise ValueError(f"no column '{absent[0]}'")
            modalities = tuple(name.removeprefix("valid_") for name in table.columns if name.startswith("valid_"))
        except (OSError, ValueError) as error:
            reason = " ".join(str(error).split())  # geopandas' own goes over several lines
            raise DatasetError(
                f"{path}: found no readable patch index ({reason}); wanted GeoParquet; run `equipoise tile` again"
            ) from error
        return cls(table=table, modalities=modalities)


def footprint(geobox: GeoBox) -> shapely.Geometry:
    """Return a grid's outline in EPSG:4326, or in pixel coordinates where it has no CRS."""
    if geobox.crs is None:
        return shapely.box(0, 0, geobox.shape[1], geobox.shape[0])
    return geobox.extent.to_crs(INDEX_CRS).geom


class PatchDataset(Dataset[dict[str, Any]]):
    """Samples of a patch index, read as windows from the aligned rasters.

    A sample holds ``image`` (modality -> float32 (band, y, x), normalised, 0 where not valid), ``valid`` (modality ->
    bool (y, x)), ``available`` (bool (M,), False = the whole modality is missing), and ``mask`` (int64 (y, x),
    255 = ignore) or ``label`` (int64 ()). Class values are replaced by their position in ``class_values``.

    Parameters
    ----------
    index, stacks, normaliser
        What to read, from where, and how it is normalised.
    class_values
        Label values in class order.
    classification
        Give ``label`` in place of ``mask``.
    augment_seed
        None for no augmentation; otherwise sample ``i`` always gets the geometry of ``(augment_seed, i)``.
    """

    def __init__(
        self,
        index: PatchIndex,
        stacks: Mapping[str, AlignedStack],
        *,
        normaliser: Normaliser,
        class_values: Sequence[int],
        classification: bool,
        augment_seed: int | None = None,
    ) -> None:
        self._rows = list(zip(*(index.table[name].tolist() for name in _WINDOW_COLUMNS), strict=True))
        self._readers = {name: StackReader(stack) for name, stack in stacks.items()}
        self._normaliser = normaliser
        self._classification = classification
        self._lookup = np.full(256, IGNORE, dtype=np.uint8)
        self._lookup[np.asarray(class_values, dtype=np.intp)] = np.arange(len(class_values), dtype=np.uint8)
        self._augment_seed = augment_seed
        self._geometry = None if augment_seed is None else SharedGeometry()

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, position: int) -> dict[str, Any]:
        scene, row, col, height, width, label = self._rows[position]
        window = self._readers[scene].read(row, col, height=height, width=width)
        arrays: dict[str, NDArray[np.float32]] = dict(self._normaliser.inputs(scene, window))
        order = tuple(arrays)
        for name in order:
            arrays[f"valid {name}"] = window.valid[name][None].astype(np.float32)
        if not self._classification:
            labels = np.full((height, width), IGNORE, np.uint8) if window.labels is None else window.labels
            arrays["mask"] = self._lookup[labels][None].astype(np.float32)
        if self._geometry is not None and self._augment_seed is not None and height == width:
            arrays = self._geometry(arrays, seed=hash((self._augment_seed, position)) % 2**31)
        sample: dict[str, Any] = {
            "image": {name: torch.from_numpy(arrays[name]) for name in order},
            "valid": {name: torch.from_numpy(arrays[f"valid {name}"][0] > 0) for name in order},
        }
        sample["available"] = torch.stack([mask.any() for mask in sample["valid"].values()])
        if self._classification:
            sample["label"] = torch.tensor(int(self._lookup[int(label)]), dtype=torch.int64)
        else:
            sample["mask"] = torch.from_numpy(arrays["mask"][0]).to(torch.int64)
        return sample
