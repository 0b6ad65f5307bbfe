"""Split blocks on the ground: scenes that lie on or near the same ground share one grid of blocks, and so agree."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyproj
import shapely
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from .errors import SplitError
from .ground_distance import areas_of, near_pairs, pixel_size, whole
from .splits import FREE, SPLITS, UNUSED, BlockSplit, Region, block_count, origins, split_blocks
from .stack import AlignedStack

#: Pixels by which an outline is shrunk, so that what only touches does not count.
_TOUCH = 1e-6

#: Share by which pixels of one nominal size may differ on a plane.
_SAME_SIZE = 1e-3

#: Pieces that an edge is cut into before it goes to another CRS, in which it is bent.
_PIECES = 16


@dataclass(frozen=True, kw_only=True)
class BlockPlan:
    """Split blocks in the pixels of one scene, spread over all scenes that share its ground.

    Attributes
    ----------
    grid
        Grid of the scene that the blocks are aligned to: the one with the largest pixels, the first of equals.
    row, col
        The blocks begin at this pixel of ``grid``; 0 or negative.
    split
        The blocks.
    """

    grid: GeoBox
    row: int
    col: int
    split: BlockSplit

    def windows(self, grid: GeoBox, *, size: int, overlap: int) -> Iterator[tuple[str, int, int]]:
        """Yield split, first row and first column of the patches of a scene, each inside the usable part of a block.

        Parameters
        ----------
        grid
            The scene's own grid, in any CRS and at any angle.
        size, overlap
            Edge and least overlap of the patches, px of ``grid``.
        """
        bounds = shapely.bounds(self._outline(grid)) - [self.col, self.row, self.col, self.row]
        low = np.floor((bounds[:2] + _TOUCH) / self.split.block_size).astype(int)
        high = np.ceil((bounds[2:] - _TOUCH) / self.split.block_size).astype(int)
        blocks = self.split.assignment.shape
        rows, cols = range(max(low[1], 0), min(high[1], blocks[0])), range(max(low[0], 0), min(high[0], blocks[1]))
        straight = _straight(grid, self.grid)
        for region in self.split.regions(rows, cols):
            here = Region(
                split=region.split, top=region.top + self.row, left=region.left + self.col,
                bottom=region.bottom + self.row, right=region.right + self.col,
            )  # fmt: skip
            if straight is not None:
                inside = _in_pixels(here, straight, (grid.shape[0], grid.shape[1]))
                found = origins(inside, size=size, overlap=overlap, shape=(grid.shape[0], grid.shape[1]))
            else:
                found = self._slanted(here, grid, size=size, step=size - overlap)
            yield from ((here.split, row, col) for row, col in found)

    def _outline(self, grid: GeoBox) -> shapely.Geometry:
        return _moved(_frame(grid), grid, self.grid)

    def _slanted(self, region: Region, grid: GeoBox, *, size: int, step: int) -> Iterator[tuple[int, int]]:
        """Patches on a grid that is turned against the blocks: evenly around the region's middle, as many as fit."""
        if region.bottom <= region.top or region.right <= region.left:
            return
        usable = shapely.box(region.left, region.top, region.right, region.bottom)
        seen = shapely.intersection(_moved(usable, self.grid, grid), _frame(grid))
        if seen.area <= _TOUCH:
            return
        left, top, right, bottom = shapely.bounds(seen)
        middle = shapely.centroid(seen)
        best: list[tuple[int, int]] = []
        for shift in ((0.0, 0.0), (0.5, 0.0), (0.0, 0.5), (0.5, 0.5)):
            firsts = [
                np.unique(np.round(centre + step * (np.arange(-reach, reach + 1) + part) - size / 2).astype(int))
                for centre, part, reach in (
                    (middle.y, shift[0], int((bottom - top) / step) + 1),
                    (middle.x, shift[1], int((right - left) / step) + 1),
                )
            ]
            fits = [
                (int(row), int(col)) for row in firsts[0] for col in firsts[1]
                if self._fits(row, col, size=size, grid=grid, region=region)
            ]  # fmt: skip
            best = max(best, fits, key=len)
        yield from best

    def _fits(self, row: int, col: int, *, size: int, grid: GeoBox, region: Region) -> bool:
        """Whether what a patch sees of its scene lies inside a region of blocks."""
        rows, cols = grid.shape
        top, left, bottom, right = max(row, 0), max(col, 0), min(row + size, rows), min(col + size, cols)
        if bottom <= top or right <= left:
            return False
        west, north, east, south = shapely.bounds(_moved(shapely.box(left, top, right, bottom), grid, self.grid))
        return bool(west >= region.left and north >= region.top and east <= region.right and south <= region.bottom)


def plan_blocks(
    stacks: Sequence[AlignedStack],
    settled: Sequence[AlignedStack],
    *,
    block_size: int,
    buffer: int,
    validation: float,
    test: float,
    rng: np.random.Generator,
) -> dict[str, BlockPlan]:
    """Draw the split blocks of scenes; those within the buffer of each other on the ground are drawn together.

    Parameters
    ----------
    stacks
        Scenes to be cut into blocks.
    settled
        Scenes that belong to one split as a whole: blocks within the buffer of one take its split.
    block_size, buffer
        Pixels; of the largest pixels where scenes that share ground differ.
    validation, test
        Shares of the blocks that scenes share, each at least one block.
    rng
        Draws the blocks, in the order of ``stacks``.

    Returns
    -------
    Scene -> plan; the same object for scenes that share ground.

    Raises
    ------
    SplitError
        If there are too few blocks, the buffer is larger than one, or settled scenes ask two splits of one block.
    """
    every = [*stacks, *settled]
    placed = [n for n, stack in enumerate(every) if stack.geobox.crs is not None]
    areas = areas_of([every[n].geobox for n in placed], [whole(every[n].geobox) for n in placed])
    first, second = near_pairs(areas, np.arange(len(placed)), buffer=buffer)
    pairs = [(placed[i], placed[j]) for i, j in zip(first.tolist(), second.tolist(), strict=True)]
    group = connected([pair for pair in pairs if max(pair) < len(stacks)], count=len(stacks))
    members: dict[int, list[int]] = {}
    for n, number in enumerate(group):
        members.setdefault(number, []).append(n)
    near: dict[int, set[int]] = {}
    for i, j in pairs:
        if i < len(stacks) <= j:
            near.setdefault(group[i], set()).add(j)
    plans: dict[str, BlockPlan] = {}
    for number, own in members.items():
        plan = _plan(
            [every[n] for n in own], [every[n] for n in sorted(near.get(number, ()))], block_size=block_size,
            buffer=buffer, validation=validation, test=test, rng=rng,
        )  # fmt: skip
        plans |= {every[n].name: plan for n in own}
    return plans


def connected(pairs: Sequence[tuple[int, int]], *, count: int) -> list[int]:
    """Return for each of ``count`` things the first thing that it is joined to, over any number of pairs."""
    first = list(range(count))

    def root(item: int) -> int:
        while first[item] != item:
            first[item] = item = first[first[item]]
        return item

    for one, other in pairs:
        low, high = sorted((root(one), root(other)))
        first[high] = low
    return [root(item) for item in range(count)]


def _plan(
    members: Sequence[AlignedStack],
    settled: Sequence[AlignedStack],
    *,
    block_size: int,
    buffer: int,
    validation: float,
    test: float,
    rng: np.random.Generator,
) -> BlockPlan:
    grids = [stack.geobox for stack in members]
    sizes = np.array([_size_on(grid, grids[0]) for grid in grids])
    anchor = grids[int(np.argmax(sizes > sizes.max() * (1 - _SAME_SIZE)))]
    outlines = [_moved(_frame(grid), grid, anchor) for grid in grids]
    west, north, east, south = shapely.total_bounds(np.array(outlines, dtype=object))
    row, col = (int(np.floor((low + _TOUCH) / block_size)) * block_size for low in (north, west))
    shape = (int(np.ceil(south - _TOUCH)) - row, int(np.ceil(east - _TOUCH)) - col)
    blocks = block_count(shape, block_size=block_size)
    boxes = _boxes(blocks, block_size=block_size, row=row, col=col)
    given = np.full(blocks, UNUSED, dtype=np.int8)
    for outline in outlines:
        given[shapely.intersects(boxes, _shrunk(outline))] = FREE
    reach = _reach([stack.geobox for stack in (*members, *settled)], anchor, buffer=buffer)
    _settle(given, boxes, settled, anchor, reach=reach, place=members[0].name)
    split = split_blocks(
        shape, block_size=block_size, buffer=reach, validation=validation, test=test, rng=rng, given=given
    )  # fmt: skip
    return BlockPlan(grid=anchor, row=row, col=col, split=split)


def _reach(grids: Sequence[GeoBox], anchor: GeoBox, *, buffer: int) -> int:
    """Return the buffer in pixels of the anchor: that of the largest pixels, and a little more between projections."""
    ratio = max(_size_on(grid, anchor) for grid in grids) / pixel_size(anchor)
    reach = buffer if ratio < 1 + _SAME_SIZE else int(np.ceil(buffer * ratio - 1e-2))
    if all(grid.crs == anchor.crs for grid in grids):
        return reach
    return reach + max(1, round(0.01 * buffer))  # the scales of two zones differ by less than a hundredth


def _settle(
    given: NDArray[np.int8],
    boxes: NDArray[np.object_],
    settled: Sequence[AlignedStack],
    anchor: GeoBox,
    *,
    reach: int,
    place: str,
) -> None:
    """Give the blocks within the buffer of settled scenes their splits; changes ``given``."""
    taker = np.full(given.shape, -1)
    for number, stack in enumerate(settled):
        own = _shrunk(_moved(_frame(stack.geobox), stack.geobox, anchor))
        taken = shapely.dwithin(boxes, own, reach) & (given != UNUSED)
        split = SPLITS.index(stack.split)
        if (clash := taken & (given >= 0) & (given != split)).any():
            other = settled[int(taker[clash][0])]
            raise SplitError(
                f"found scenes '{other.name}' ({other.split}) and '{stack.name}' ({stack.split}) within {reach} px of "
                f"one split block of '{place}'; wanted one split there; use a smaller `tile.block_size`, or give "
                f"'{place}' a `split`"
            )
        given[taken], taker[taken] = split, number


def _frame(grid: GeoBox) -> shapely.Polygon:
    rows, cols = grid.shape
    return shapely.box(0, 0, cols, rows)


def _shrunk(outline: shapely.Geometry) -> shapely.Geometry:
    return shapely.buffer(outline, -_TOUCH, join_style="mitre")


def _boxes(blocks: tuple[int, ...], *, block_size: int, row: int, col: int) -> NDArray[np.object_]:
    top, left = np.indices(blocks) * block_size
    top, left = top + row, left + col
    boxes: NDArray[np.object_] = shapely.box(left, top, left + block_size, top + block_size)
    return boxes


def _size_on(grid: GeoBox, plane: GeoBox) -> float:
    """Edge of a grid's pixels in the CRS units of another grid, measured over the whole."""
    if grid.crs == plane.crs:
        return pixel_size(grid)
    area = shapely.area(_moved(_frame(grid), grid, plane)) * abs(plane.affine.determinant)
    return float(np.sqrt(area / (grid.shape[0] * grid.shape[1])))


def _moved(outline: shapely.Geometry, source: GeoBox, target: GeoBox) -> shapely.Geometry:
    """Bring an outline (x, y) from pixels of one grid to pixels of another."""
    if source is target:
        return outline
    if source.crs == target.crs or source.crs is None or target.crs is None:
        direct = _between(source, target)
        return shapely.transform(outline, lambda x, y: _apply(direct, x, y), interleaved=False)
    back = np.linalg.inv(_matrix(target)).astype(np.float64)
    transformer = pyproj.Transformer.from_crs(source.crs.proj, target.crs.proj, always_xy=True)

    def through(x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        return _apply(back, *transformer.transform(*_apply(_matrix(source), x, y)))

    dense = shapely.segmentize(outline, max(outline.length / (4 * _PIECES), _TOUCH))
    return shapely.transform(dense, through, interleaved=False)


def _matrix(grid: GeoBox) -> NDArray[np.float64]:
    """Pixel (x, y, 1) to the grid's CRS, float64 (3, 3)."""
    return np.array(tuple(grid.affine), dtype=np.float64).reshape(3, 3)


def _between(source: GeoBox, target: GeoBox) -> NDArray[np.float64]:
    """Pixel of one grid to pixel of another in the same CRS, float64 (3, 3)."""
    # Large coordinates are taken out first: their digits would be lost in the product.
    origin = np.array([[1, 0, -source.affine.c], [0, 1, -source.affine.f], [0, 0, 1]])
    return np.linalg.solve(origin @ _matrix(target), origin @ _matrix(source)).astype(np.float64)


def _apply(
    matrix: NDArray[np.float64], x: NDArray[np.float64], y: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    moved = matrix[:2, :2] @ np.stack([x, y]) + matrix[:2, 2:]
    return moved[0], moved[1]


def _straight(source: GeoBox, target: GeoBox) -> NDArray[np.float64] | None:
    """Scale and offset (2, 2), rows first, from pixels of one grid to another's; None where they are turned."""
    if source.crs != target.crs:
        return None
    matrix = _between(source, target)
    reach = max(source.shape)
    if max(abs(matrix[0, 1]), abs(matrix[1, 0])) * reach > _TOUCH or min(matrix[0, 0], matrix[1, 1]) <= 0:
        return None
    return np.array([[matrix[1, 1], matrix[1, 2]], [matrix[0, 0], matrix[0, 2]]])


def _in_pixels(region: Region, straight: NDArray[np.float64], shape: tuple[int, int]) -> Region:
    """Return the whole pixels of a scene that lie inside a region of blocks."""
    (tall, top), (wide, left) = straight
    low = np.ceil([(region.top - top) / tall - _TOUCH, (region.left - left) / wide - _TOUCH]).astype(int)
    high = np.floor([(region.bottom - top) / tall + _TOUCH, (region.right - left) / wide + _TOUCH]).astype(int)
    low, high = np.clip(low, 0, shape), np.clip(high, 0, shape)
    return Region(split=region.split, top=int(low[0]), left=int(low[1]), bottom=int(high[0]), right=int(high[1]))
