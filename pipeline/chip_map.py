"""ChipMap: the classes of chips as a raster with one pixel a chip, for those that lie in the world."""

import logging
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from affine import Affine
from odc.geo.geobox import GeoBox
from odc.geo.geom import Geometry, polygon_from_transform
from rasterio.features import rasterize

from .. import __version__
from ..datasets.patches import INDEX_CRS
from ..datasets.stack import IGNORE, AlignedStack
from .checked_map import checked_map
from .map_files import category_names
from .run_folder import write_text
from .scene_options import ClassOptions

#: Pixels at most: chips that are scattered over a continent would make a map of nothing.
MOST_PIXELS = 2**26

log = logging.getLogger(__name__)


def write_chip_map(
    stacks: Sequence[AlignedStack],
    values: Sequence[int],
    *,
    size: int,
    classes: Sequence[ClassOptions],
    digest: str,
    path: Path,
) -> list[Path]:
    """Write class values where the chips lie, verified, with palette and class names; 255 where there is no chip.

    In the chips' CRS where they share one, else in longitude and latitude. A pixel is as large as the smallest chip; it
    holds the class of the chip that its centre lies in, of the last where several do.

    Parameters
    ----------
    stacks, values
        Chips and their class values, in the same order.
    size
        Edge of the part of a chip that was classified, px.
    classes
        For palette and names.
    digest
        Hash of the model's files.
    path
        GeoTIFF to write.

    Returns
    -------
    The files; none where a chip has no position, or the map would have more than :data:`MOST_PIXELS` pixels.

    Raises
    ------
    PipelineError
        If the written file does not hold what was written.
    """
    if not stacks or any(stack.geobox.crs is None for stack in stacks):
        return []
    shared = len({str(stack.geobox.crs) for stack in stacks}) == 1
    shapes = [_outline(stack, size) for stack in stacks]
    shapes = shapes if shared else [shape.to_crs(INDEX_CRS) for shape in shapes]
    grid = _grid(shapes)
    if grid is None:
        log.warning("the chips lie so far apart that a map of them would have more than %d pixels: none", MOST_PIXELS)
        return []
    burnt = rasterize(
        [(shape.geom, value) for shape, value in zip(shapes, values, strict=True)], out_shape=tuple(grid.shape),
        transform=grid.affine, fill=IGNORE, dtype="uint8",
    )  # fmt: skip
    with checked_map(
        path, grid, dtype="uint8", nodata=IGNORE, overview_resampling="mode", descriptions=("class",),
        colours={item.value: item.rgb for item in classes},
        tags={"equipoise": __version__, "model": digest, **{f"class_{item.value}": item.name for item in classes}},
    ) as writer:  # fmt: skip
        writer.write(burnt[None])
    names = path.with_name(f"{path.name}.aux.xml")
    write_text(names, category_names({item.value: item.name for item in classes}))
    return [path, names]


def _outline(stack: AlignedStack, size: int) -> Geometry:
    """Return the outline of the middle of a chip."""
    rows, cols = stack.geobox.shape
    affine = stack.geobox.affine * Affine.translation((cols - size) // 2, (rows - size) // 2)
    return polygon_from_transform((size, size), affine, stack.geobox.crs)


def _grid(shapes: Sequence[Geometry]) -> GeoBox | None:
    boxes = np.array([shape.boundingbox.bbox for shape in shapes])
    left, bottom = boxes[:, :2].min(axis=0).tolist()
    right, top = boxes[:, 2:].max(axis=0).tolist()
    width, height = (boxes[:, 2:] - boxes[:, :2]).min(axis=0).tolist()
    # A thousandth of a pixel is rounding, not another row of chips.
    cols, rows = (max(1, math.ceil(length - 1e-3)) for length in ((right - left) / width, (top - bottom) / height))
    if rows * cols > MOST_PIXELS:
        return None
    return GeoBox((rows, cols), Affine(width, 0, left, 0, -height, top), shapes[0].crs)
