"""Aligned files: what co-registration writes of a scene, its pixels resampled once."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from ..datasets.modality import Unit
from ..datasets.quality import Quality
from ..datasets.raster import cog_writer
from ..datasets.scene import Scene
from ..datasets.warp import BAND_ROWS, warp_bands, warp_quality
from .errors import AlignmentError
from .placement import Placement
from .registered import Blocks
from .run_folder import write_text

#: Largest edge in pixels of the pictures kept for the report.
QUICKLOOK_EDGE = 480

#: Rows of these pictures that are resampled at once.
QUICKLOOK_ROWS = 16


def write_aligned(scene: Scene, grid: GeoBox, placement: Placement, *, path: Path, own_unit: bool = False) -> None:
    """Write a scene on a grid, corrected, as a COG of float32 with NaN where nothing is valid.

    Parameters
    ----------
    scene, grid, placement
        What is written, where, and how it is corrected.
    path
        File.
    own_unit
        Whether decibels stay decibels; else values are in working units, backscatter in linear power. It is resampled
        in linear power either way.

    Raises
    ------
    AlignmentError
        If no pixel of the grid is valid.
    """
    found = placement.registration
    bands = scene.modality.bands
    is_db = [own_unit and band.unit is Unit.DB for band in bands]
    units = [Unit.DB if shown else band.working_unit for shown, band in zip(is_db, bands, strict=True)]
    tags = {
        "unit": ",".join(str(unit) for unit in units),
        "registration": found.kind,
        "shift_east": f"{found.east}",
        "shift_north": f"{found.north}",
        "registration_confidence": f"{found.confidence}",
        "source": scene.path.name,
        **{f"source_{key}": text for key, text in scene.provenance.items()},
    }
    if scene.acquired is not None:
        tags["acquired"] = scene.acquired
    names = scene.modality.band_names
    any_valid = False
    with cog_writer(
        path, grid, count=len(names), dtype="float32", nodata=float("nan"), overview_resampling="average",
        descriptions=names, tags=tags,
    ) as writer:  # fmt: skip
        for row, values in warp_bands(scene, grid, displacement=placement.displacement):
            any_valid |= bool(np.isfinite(values).any())
            for layer, band, shown in zip(values, bands, is_db, strict=True):
                if shown:
                    layer[:] = band.to_network(layer)
            writer.write(values, window=((row, row + values.shape[1]), (0, values.shape[2])))
        if not any_valid:
            raise AlignmentError(
                f"{scene.path}: found no valid pixel on the common grid; wanted observed data there; check nodata "
                "and the files' positions"
            )


def write_quality(scene: Scene, grid: GeoBox, placement: Placement, *, path: Path) -> None:
    """Write a scene's quality codes on a grid, corrected as the scene is."""
    with cog_writer(
        path, grid, count=1, dtype="uint8", nodata=int(Quality.UNKNOWN), overview_resampling="mode",
        descriptions=("quality",), tags={str(int(code)): code.name.lower() for code in Quality},
    ) as writer:  # fmt: skip
        step = grid.shape[0] if grid.crs is None else BAND_ROWS
        for row in range(0, grid.shape[0], step):
            band = grid[row : min(row + step, grid.shape[0]), :]
            values = warp_quality(scene, band, displacement=placement.displacement)
            writer.write(values, 1, window=((row, row + values.shape[0]), (0, values.shape[1])))


def quicklook(scene: Scene, grid: GeoBox, placement: Placement) -> dict[str, NDArray[np.float32]]:
    """Return small pictures in network units: after alignment, and before it where the position was changed."""
    name = scene.modality.name
    if grid.crs is None:
        step = max(1, -(-max(grid.shape) // QUICKLOOK_EDGE))
        return {f"{name} after": scene.modality.to_network(scene.read())[:, ::step, ::step]}
    small = grid.zoom_out(max(1.0, max(grid.shape) / QUICKLOOK_EDGE))
    moves = {"after": placement.displacement}
    if placement.displacement is not None and not placement.displacement.is_zero:
        moves["before"] = None
    views = {}
    for moment, displacement in moves.items():
        # Some rows at a time: a small picture of a large scene needs all of its pixels, but not at once.
        bands = [rows for _, rows in warp_bands(scene, small, displacement=displacement, rows=QUICKLOOK_ROWS)]
        views[f"{name} {moment}"] = scene.modality.to_network(np.concatenate(bands, axis=1))
    return views


def save_quicklooks(path: Path, pictures: Mapping[str, NDArray[np.float32]]) -> None:
    """Write pictures under a temporary name and rename the file."""
    temporary = path.with_name(f".{path.stem}.tmp.npz")  # the suffix keeps numpy from adding its own
    np.savez_compressed(temporary, allow_pickle=False, **dict(pictures))
    temporary.replace(path)


def write_record(path: Path, placements: Mapping[str, Placement], *, resume: str) -> None:
    """Write all figures as JSON: the registrations, and what single blocks say."""
    record = {
        "resume": resume,
        "registrations": {name: asdict(item.registration) for name, item in placements.items()},
        "blocks": {name: _rows(item.blocks) for name, item in placements.items() if item.blocks is not None},
    }
    write_text(path, json.dumps(record, indent=1))


def _rows(blocks: Blocks) -> dict[str, Any]:
    """Columns of a table with a row for each block, rounded to centimetres (in degrees there is nothing to round)."""
    columns = {
        "x": blocks.x, "y": blocks.y, "before_east": blocks.before[:, 0], "before_north": blocks.before[:, 1],
        "after_east": blocks.after[:, 0], "after_north": blocks.after[:, 1], "radius90": blocks.radius90,
        "weight": blocks.weight,
    }  # fmt: skip
    return {name: np.round(values, 2).tolist() for name, values in columns.items()}
