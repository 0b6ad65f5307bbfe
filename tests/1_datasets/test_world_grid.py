"""World grid: every point of an area has one zone and one chunk, whoever asks; pyproj is the oracle."""

import math
import re
from functools import cache

import numpy as np
import pytest
import shapely
from hypothesis import example, given, settings
from hypothesis import strategies as st
from odc.geo.crs import CRS
from pyproj import Transformer
from shapely.affinity import rotate, translate
from shapely.geometry import MultiPolygon, Point, Polygon, box
from shapely.ops import unary_union

from equipoise.datasets.world_grid import Cover, GridError, WorldGrid, joined

NAME = re.compile(r"utm(\d{2})([ns])_e(\d{4,})_n(\d{4,})")

#: Degrees within which a point may fall on either side of an outline: its edges bend by less than a metre.
EDGE = 2e-5


@cache
def _to_plane(epsg: int) -> Transformer:
    return Transformer.from_crs("EPSG:4326", f"EPSG:{epsg}", always_xy=True)


def _plane_of(longitude: float, latitude: float) -> int:
    """EPSG code of the zone of a point, by the definition of UTM."""
    zone = min(int((longitude + 180) // 6) + 1, 60)
    return (32600 if latitude >= 0 else 32700) + zone


def _name(epsg: int, x: float, y: float, size: float) -> str:
    zone, south = epsg % 100, epsg > 32700
    return f"utm{zone:02d}{'s' if south else 'n'}_e{math.floor(x / size):04d}_n{math.floor(y / size):04d}"


def _square(chunk) -> Polygon:
    return box(*chunk.geobox.boundingbox.bbox)


def _points(area, rng: np.random.Generator, count: int = 25) -> list[tuple[float, float]]:
    """Random points well within an area, off the borders of zones and hemispheres."""
    west, south, east, north = area.bounds
    lon, lat = rng.uniform(west, east, 4 * count), rng.uniform(south, north, 4 * count)
    inner = area.buffer(-EDGE)
    kept = shapely.contains_xy(inner, lon, lat) & (np.abs(lat) > EDGE) & (np.abs((lon + 3) % 6 - 3) > EDGE)
    return list(zip(lon[kept][:count], lat[kept][:count], strict=True))


def _holders(covers: list[Cover], lon: float, lat: float) -> list[Cover]:
    return [cover for cover in covers if cover.outline.contains(Point(_to_plane(cover.crs.epsg).transform(lon, lat)))]


#: Longitudes where something changes, or may.
PLACES = st.sampled_from([-180.0, -174.0, -6.0, 0.0, 6.0, 12.0, 174.0, 180.0]) | st.floats(-180, 180)


@st.composite
def areas(draw: st.DrawFn, *, widest: float = 0.6):
    """Boxes, turned ones, rings with a hole, and pairs of them, anywhere in UTM; zone borders and the equator often."""
    width, height = draw(st.floats(0.001, widest)), draw(st.floats(0.001, 0.4))
    lon = min(max(draw(PLACES), -180 + width), 180 - width)
    lat = draw(st.sampled_from([0.0, 48.0, -79.0, 83.0]) | st.floats(-79, 83))
    shape = box(lon - width / 2, lat - height / 2, lon + width / 2, lat + height / 2)
    kind = draw(st.sampled_from(["box", "turned", "ring", "pair"]))
    if kind == "turned":
        shape = rotate(shape, draw(st.floats(0, 90))).intersection(box(-180, -80, 180, 84))
    elif kind == "ring":
        shape = shape.difference(shape.buffer(-min(width, height) / 4))
    elif kind == "pair":
        shape = MultiPolygon([shape, translate(shape, yoff=-1.5 * height if lat > 0 else 1.5 * height)])
    return shape


@settings(max_examples=50)
@given(area=areas(), edge=st.sampled_from([256, 400, 1000]), seed=st.integers(0, 2**32 - 1))
@example(area=box(11.9, -0.1, 12.1, 0.1), edge=256, seed=0)  # two zones, two hemispheres
@example(area=box(179.8, 10, 180, 10.2), edge=256, seed=0)
@example(area=box(-180, -10.2, -179.8, -10), edge=256, seed=0)
@example(area=box(5.9, 60.0, 12.2, 60.1), edge=1000, seed=0)  # three zones, one of them across its whole width
@example(area=box(2.9, 71.9, 33.1, 72.0), edge=4000, seed=0)  # where other grids widen zones
def test_a_point_of_an_area_is_in_one_zone_and_one_chunk(area, edge, seed):
    grid = WorldGrid(resolution=10.0, edge=edge)
    covers, size = list(grid.covers(area)), 10.0 * edge
    for lon, lat in _points(area, np.random.default_rng(seed)):
        (cover,) = _holders(covers, lon, lat)
        assert cover.crs.epsg == _plane_of(lon, lat)
        x, y = _to_plane(cover.crs.epsg).transform(lon, lat)
        (chunk,) = (item for item in cover.chunks if _square(item).contains(Point(x, y)))
        assert chunk.name == _name(cover.crs.epsg, x, y, size)
        col, row = ~chunk.geobox.affine * (x, y)
        assert min(col, row) >= 0
        assert max(col, row) < edge


@settings(max_examples=40)
@given(area=areas(), edge=st.sampled_from([256, 400, 1000]))
@example(area=box(11.9, -0.1, 12.1, 0.1), edge=256)
def test_chunks_cover_the_outline_without_gap_or_overlap(area, edge):
    for cover in WorldGrid(resolution=10.0, edge=edge).covers(area):
        squares = [_square(chunk) for chunk in cover.chunks]
        together = unary_union(squares)
        assert together.area == pytest.approx(sum(square.area for square in squares), rel=1e-12)
        # What a chunk is only touched by may be left out: no more than its rim of a millionth.
        assert cover.outline.difference(together).area <= 1e-5 * (10 * edge) ** 2 * (1 + len(squares))
        assert all(square.intersects(cover.outline) for square in squares)
        places = [tuple(map(int, NAME.fullmatch(chunk.name).groups()[:1:-1])) for chunk in cover.chunks]
        assert places == sorted(places)  # by row, then by column
        assert len(set(places)) == len(places)


@settings(max_examples=40)
@given(area=areas(widest=0.3), seed=st.integers(0, 2**32 - 1))
def test_a_chunk_does_not_depend_on_what_was_asked_for(area, seed):
    grid = WorldGrid(resolution=10.0, edge=512)
    known = {chunk.name: chunk for cover in grid.covers(area) for chunk in cover.chunks}
    for lon, lat in _points(area, np.random.default_rng(seed), count=5):
        tiny = box(lon - 1e-7, lat - 1e-7, lon + 1e-7, lat + 1e-7)
        for cover in grid.covers(tiny):
            assert cover.chunks
            for chunk in cover.chunks:
                assert known[chunk.name] == chunk


@given(
    zone=st.integers(1, 60), south=st.booleans(), col=st.integers(0, 99_999), row=st.integers(0, 99_999),
    resolution=st.sampled_from([0.5, 10.0, 30.0]), edge=st.sampled_from([32, 192, 2048]),
)  # fmt: skip
def test_names_and_places_are_one_to_one(zone, south, col, row, resolution, edge):
    chunk = WorldGrid(resolution=resolution, edge=edge).chunk(CRS(32600 + 100 * south + zone), col, row)
    found = NAME.fullmatch(chunk.name).groups()
    assert (int(found[0]), found[1] == "s", int(found[2]), int(found[3])) == (zone, south, col, row)
    left, bottom, right, top = chunk.geobox.boundingbox.bbox
    size = resolution * edge
    assert (left, bottom, right, top) == (col * size, row * size, (col + 1) * size, (row + 1) * size)
    assert chunk.geobox.shape == (edge, edge)
    assert (chunk.geobox.resolution.x, chunk.geobox.resolution.y) == (resolution, -resolution)


def test_neighbours_share_an_edge_and_no_pixel():
    grid, crs = WorldGrid(resolution=10.0, edge=128), CRS("EPSG:32633")
    here, east, north = (grid.chunk(crs, *place).geobox for place in ((40, 50), (41, 50), (40, 51)))
    assert here.affine * (128, 0) == east.affine * (0, 0)
    assert here.affine * (0, 0) == north.affine * (0, 128)


@pytest.mark.parametrize(
    ("area", "zones"),
    [
        (box(5.9, 45, 12.1, 45.02), [32631, 32632, 32633]),
        (box(14, -0.05, 14.05, 0.05), [32633, 32733]),
        (box(14, 0, 14.05, 0.05), [32633]),  # begins on the equator
        (box(14, -0.05, 14.05, 0), [32733]),  # ends on it
        (box(6, 45, 12, 45.02), [32632]),  # a zone from edge to edge
        (box(179, 10, 180, 10.02), [32660]),
        (box(-180, 10, -179, 10.02), [32601]),
        (MultiPolygon([box(-180, 10, -179.9, 10.02), box(179.9, 10, 180, 10.02)]), [32601, 32660]),
        (MultiPolygon([box(7, 45, 7.02, 45.02), box(14, -3, 14.02, -2.98)]), [32632, 32733]),
    ],
)
def test_zones_and_hemispheres_are_those_that_have_a_part(area, zones):
    covers = list(WorldGrid(resolution=10.0, edge=2048).covers(area))
    assert [cover.crs.epsg for cover in covers] == zones
    assert all(cover.chunks for cover in covers)


def test_what_lies_between_two_parts_far_apart_is_not_asked_for():
    parts = [box(7, 45, 7.01, 45.01), box(11, 46, 11.01, 46.01)]
    grid = WorldGrid(resolution=10.0, edge=256)
    (cover,) = grid.covers(MultiPolygon(parts))
    apart = [chunk.name for part in parts for cover in grid.covers(part) for chunk in cover.chunks]
    assert sorted(chunk.name for chunk in cover.chunks) == sorted(apart)


def test_a_sliver_on_the_border_of_zones_belongs_to_both_sides():
    west, east = WorldGrid(resolution=10.0, edge=256).covers(box(12 - 1e-6, 48, 12 + 1e-6, 48.1))
    assert (west.crs.epsg, east.crs.epsg) == (32632, 32633)
    for cover in (west, east):
        # A millionth of a degree of the parallel, on each side, by a tenth of one of the meridian.
        wide, high = 1e-6 * 111_320 * math.cos(math.radians(48.05)), 0.1 * 111_200
        assert cover.outline.area == pytest.approx(wide * high, rel=0.01)
        assert len(cover.chunks) in (5, 6)


def test_an_edge_along_the_border_of_zones_leaves_no_line_in_the_other_zone():
    steps = Polygon([(11.98, 48), (12.02, 48), (12.02, 48.01), (12, 48.01), (12, 48.03), (11.98, 48.03)])
    covers = list(WorldGrid(resolution=10.0, edge=128).covers(steps))
    assert [cover.crs.epsg for cover in covers] == [32632, 32633]
    for cover in covers:
        assert {part.geom_type for part in getattr(cover.outline, "geoms", [cover.outline])} == {"Polygon"}
        assert all(_square(chunk).intersection(cover.outline).area > 0 for chunk in cover.chunks)


@pytest.mark.parametrize("lat", [-79.999, 0.0, 45.0, 83.99])
def test_an_area_smaller_than_a_pixel_has_a_chunk(lat):
    x, y = 14.2, lat
    covers = list(WorldGrid(resolution=10.0, edge=64).covers(box(x, y, x + 1e-6, y + 1e-6)))
    assert sum(len(cover.chunks) for cover in covers) == 1
    assert covers[0].chunks[0].name == _name(_plane_of(x, y), *_to_plane(_plane_of(x, y)).transform(x, y), 640)


@pytest.mark.parametrize(
    "area",
    [
        box(10, 83, 11, 84.5),
        box(10, -81, 11, -79),
        box(179, 10, 181, 11),
        box(-181, 10, -179, 11),
        Polygon(),
        shapely.LineString([(10, 45), (11, 46)]),
        Point(10, 45),
    ],
)
def test_what_has_no_place_is_refused_in_one_line(area):
    with pytest.raises(GridError, match="wanted one with an area, from -80 to 84 north") as raised:
        list(WorldGrid(resolution=10.0, edge=256).covers(area))
    assert "\n" not in str(raised.value)


def test_areas_that_share_a_chunk_are_joined_under_its_name():
    grid = WorldGrid(resolution=10.0, edge=256)
    left, right = box(14.0, 48, 14.03, 48.02), box(14.03, 48, 14.06, 48.02)
    covers = {"left": list(grid.covers(left)), "right": list(grid.covers(right))}
    found = joined(covers)
    assert list(found) == sorted(found)
    for name, (chunk, outlines) in found.items():
        assert chunk.name == name
        wanted = {key for key, parts in covers.items() for part in parts if chunk in part.chunks}
        assert set(outlines) == wanted
        assert all(outlines[key] is covers[key][0].outline for key in wanted)
    assert any(len(outlines) == 2 for _, outlines in found.values())
