"""The plan of a run: which units regions or scenes are cut into, and where the pixels of each come from."""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import shapely
from odc.geo.geobox import GeoBox
from odc.geo.geom import Geometry
from shapely import unary_union
from shapely.geometry import box
from shapely.geometry.base import BaseGeometry

from ...datasets.pairing import Pairing
from ...datasets.sensors import Sensor
from ...datasets.stack import AlignedStack
from ...datasets.world_grid import WorldGrid, joined
from ..acquire import pair_mark, pairs_over, search
from ..acquire_options import AcquireOptions
from ..progress import track
from ..run_folder import fingerprint
from .catalog_record import acquisition_record
from .chunk_layout import ChunkLayout
from .pair_choice import FoundItems, choose_pairs
from .regions import Region
from .unit import Unit

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Cutting:
    """How everything is cut.

    Attributes
    ----------
    layout
        Of the chunks.
    resolution
        Pixel size of the world grid, m.
    mark
        Hash of what all units depend on: model, options.
    """

    layout: ChunkLayout
    resolution: float
    mark: str


def plan_regions(
    regions: Sequence[Region], catalog: str, sensors: Sequence[Sensor], options: AcquireOptions, *, cutting: Cutting
) -> list[Unit]:
    """Cut regions into chunks of the world grid, and choose of a catalog what each is mapped from.

    The catalog is searched once a region. Pairs are chosen chunk by chunk, by the share that they show of the chunk,
    their clouds and the time between their sensors (:func:`~equipoise.pipeline.batch.pair_choice.choose_pairs`).

    Parameters
    ----------
    regions
        What is mapped.
    catalog, sensors, options
        As for :func:`~equipoise.pipeline.acquire.search`.
    cutting
        Chunks.

    Raises
    ------
    GridError
        If a region has no place on the grid.
    CatalogError
        If the catalog cannot be searched.
    """
    grid = WorldGrid(resolution=cutting.resolution, edge=cutting.layout.edge)
    chunks = joined({region.name: list(grid.covers(region.outline)) for region in regions})
    found = FoundItems.of([search(catalog, region.outline, sensors, options) for region in regions])
    outlines = {
        name: _within(unary_union(list(shapes.values())), chunk.geobox, cutting.layout)
        for name, (chunk, shapes) in chunks.items()
    }
    pairs: dict[str, Sequence[Pairing]] = {}
    nothing: dict[str, str] = {}
    for name, (chunk, _) in track(chunks.items(), "plan", total=len(chunks)):
        area = _in_degrees(chunk.geobox, outlines[name])
        pairs[name], nothing[name] = pairs_over(found.near(area), area, options)
    chosen, units = choose_pairs(pairs), []
    around = (cutting.layout.lead, cutting.layout.lead), (cutting.layout.trail, cutting.layout.trail)
    for name, (chunk, shapes) in chunks.items():
        source, mark, reason = _of_catalog(chosen.get(name), nothing[name], sensors)
        units.append(
            _unit(name, chunk.geobox, *around, outlines[name], tuple(shapes), source, cutting, mark=mark, reason=reason)
        )
    return units


def plan_stacks(stacks: Sequence[Path], *, cutting: Cutting) -> list[Unit]:
    """Cut aligned stacks on their own grids; their chunks get the values of a map of the whole."""
    units = []
    for path in stacks:
        stack = AlignedStack.load(path)
        files = [path, *stack.present.values(), *stack.clouds.values(), *stack.registration.values()]
        mark = [[str(file), file.stat().st_size, file.stat().st_mtime_ns] for file in files]
        source = {"kind": "stack", "path": str(path.absolute())}
        units += list(_of_scene(stack.name, stack.geobox, source, cutting, mark=mark))
    return units


def plan_files(scenes: Mapping[str, tuple[GeoBox, Sequence[Path]]], *, cutting: Cutting) -> list[Unit]:
    """Cut scenes of a configuration on the grids of their reference; each chunk is aligned by itself.

    Parameters
    ----------
    scenes
        Name -> grid of the reference, and the files that the scene is made of.
    cutting
        Chunks.
    """
    units = []
    for name, (grid, files) in scenes.items():
        mark = [[str(file), file.stat().st_size, file.stat().st_mtime_ns] for file in files]
        units += list(_of_scene(name, grid, {"kind": "files", "scene": name}, cutting, mark=mark))
    return units


def _of_scene(name: str, grid: GeoBox, source: Mapping[str, Any], cutting: Cutting, *, mark: object) -> Iterator[Unit]:
    """Yield the chunks of a scene, row by row."""
    rows, cols = (cutting.layout.cuts(length) for length in grid.shape)
    for row, (top, bottom, above, below) in enumerate(rows):
        for col, (left, right, before, after) in enumerate(cols):
            yield _unit(
                f"{name}_r{row:04d}_c{col:04d}", grid[top:bottom, left:right], (above, before), (below, after), None,
                (name,), source, cutting, mark=mark, reason=None,
            )  # fmt: skip


def _unit(
    name: str,
    geobox: GeoBox,
    before: tuple[int, int],
    after: tuple[int, int],
    outline: BaseGeometry | None,
    regions: tuple[str, ...],
    source: Mapping[str, Any],
    cutting: Cutting,
    *,
    mark: object,
    reason: str | None,
) -> Unit:
    parts = {
        "run": cutting.mark, "source": mark, "grid": [str(geobox.crs), list(geobox.affine)[:6], list(geobox.shape)],
        "around": [before, after, cutting.layout.margin],
        "outline": None if outline is None else shapely.to_wkb(outline, hex=True),
    }  # fmt: skip
    return Unit(
        name=name, geobox=geobox, before=before, after=after, margin=cutting.layout.margin, outline=outline,
        regions=regions, source=source, fingerprint=fingerprint(**parts), reason=reason,
    )  # fmt: skip


def _within(outline: BaseGeometry, geobox: GeoBox, layout: ChunkLayout) -> BaseGeometry | None:
    """Return the part of an outline that the windows of a chunk can meet; None where it covers all of that."""
    reach = (layout.lead + layout.trail + 2 * layout.margin) * abs(geobox.resolution.x)
    around = box(*geobox.boundingbox.bbox).buffer(reach, join_style="mitre")
    part = outline.intersection(around)
    return None if around.within(part) else part


def _in_degrees(geobox: GeoBox, outline: BaseGeometry | None) -> BaseGeometry:
    """Return what is wanted of a chunk, longitude and latitude."""
    extent = geobox.extent
    wanted = extent.geom if outline is None else outline.intersection(extent.geom)
    return Geometry(wanted, geobox.crs).to_crs("EPSG:4326").geom


def _of_catalog(
    pairing: Pairing | None, seen: str, sensors: Sequence[Sensor]
) -> tuple[dict[str, Any], object, str | None]:
    """Return the source of a chunk, what its pixels depend on, and why there is nothing, where there is nothing."""
    if pairing is None:
        reason = f"nothing in the catalog fits ({seen})"
        return {"kind": "items", "sensors": {}, "missing": {}}, reason, reason
    return _chosen(pairing, sensors), pair_mark(pairing, sensors), None


def _chosen(pairing: Pairing, sensors: Iterable[Sensor]) -> dict[str, Any]:
    by_name = {sensor.name: sensor for sensor in sensors}
    return {
        "kind": "items", "reference": pairing.reference, "missing": dict(pairing.missing),
        "sensors": {name: acquisition_record(item, by_name[name]) for name, item in pairing.present.items()},
    }  # fmt: skip


def sensors_mark(sensors: Sequence[Sensor]) -> list[dict[str, Any]]:
    """Return sensors as values that can be hashed."""
    return [asdict(sensor) for sensor in sensors]
