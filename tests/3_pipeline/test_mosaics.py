"""Mosaics of regions: every pixel of theirs and none of others, in files that survive a move, a kill and odd names."""

import json
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from fake_batch import CLASSES, MODALITIES, OUTLINES, FakeBatch, inside, write_batch
from odc.geo.geobox import GeoBox
from pyproj import Transformer
from strategies import north_up

from equipoise.datasets.patches import footprint
from equipoise.datasets.raster import cog_writer
from equipoise.pipeline.batch import mosaics
from equipoise.pipeline.batch.mosaics import MAPS, TILED, write_mosaics
from equipoise.pipeline.batch.outlines import inside as inside_plane
from equipoise.pipeline.batch.outlines import outline_on
from equipoise.pipeline.batch.virtual_mosaic import write_virtual_mosaic
from equipoise.pipeline.errors import PipelineError

ODD = 'Sü/d <b>&"1"'
BOTH = frozenset({"vrt", "cog"})


@pytest.fixture(scope="module")
def batch(tmp_path_factory) -> FakeBatch:
    """A finished run with the mosaics of all regions; read it, copy it, do not write into it."""
    batch = write_batch(tmp_path_factory.mktemp("batch"), np.random.default_rng(11))
    for name, outline in OUTLINES.items():
        write_mosaics(batch.out, batch.ledger(), name, outline=outline, kinds=BOTH)
    return batch


def copied(batch: FakeBatch, folder: Path) -> FakeBatch:
    """The run as it was before it had mosaics."""
    shutil.copytree(batch.out, folder / "out", ignore=shutil.ignore_patterns("regions"))
    return FakeBatch(out=folder / "out", regions=batch.regions, units=batch.units, tile=batch.tile)


def assembled(batch: FakeBatch, region: str, crs: str, kind: str) -> tuple[np.ndarray, GeoBox]:
    """A map of a region put together by hand, (band, y, x), and its grid."""
    units = [unit for unit in batch.done(region) if unit.crs == crs]
    step = batch.tile if kind in TILED else 1
    size = units[0].maps[kind].shape[-1]
    pixel = units[0].geobox.affine.a * step
    left, top = min(unit.geobox.affine.c for unit in units), max(unit.geobox.affine.f for unit in units)
    places = [
        (round((top - unit.geobox.affine.f) / pixel), round((unit.geobox.affine.c - left) / pixel)) for unit in units
    ]
    bands = 1 if units[0].maps[kind].ndim == 2 else len(units[0].maps[kind])
    rows, cols = np.max(places, axis=0) + size
    dtype = units[0].maps[kind].dtype
    whole = np.full((bands, rows, cols), np.nan if dtype == np.float32 else 255, dtype=dtype)
    for unit, (row, col) in zip(units, places, strict=True):
        whole[:, row : row + size, col : col + size] = unit.maps[kind]
    return whole, GeoBox((rows, cols), Affine(pixel, 0, left, 0, -pixel, top), crs)


def touching(grid: GeoBox, outline: shapely.Geometry) -> np.ndarray:
    """Tiles that meet an outline in longitude and latitude, asked one by one."""
    to_lon_lat = Transformer.from_crs(str(grid.crs), "EPSG:4326", always_xy=True).transform
    rows, cols = np.indices(grid.shape)
    x, y, size = grid.affine.c + cols * grid.affine.a, grid.affine.f + rows * grid.affine.e, grid.affine.a
    tiles = shapely.transform(shapely.box(x, y - size, x + size, y), to_lon_lat, interleaved=False)
    return shapely.intersects(tiles, outline)


def written(batch: FakeBatch) -> list[tuple[str, str, str, Path]]:
    """Region, CRS, map and common stem of every mosaic that there ought to be."""
    parts = [("alta", "EPSG:32633"), (ODD, "EPSG:32633"), ("confine", "EPSG:32632"), ("confine", "EPSG:32633")]
    names = {"alta": "alta", "confine": "confine"}
    odd = next(path.name.split(".")[0] for path in (batch.out / "regions").iterdir() if path.name.startswith("S"))
    return [
        (region, crs, kind, batch.out / "regions" / f"{names.get(region, odd)}.{crs[5:]}.{kind}")
        for region, crs in parts for kind in MAPS
    ]  # fmt: skip


def suffixed(stem: Path, suffix: str) -> Path:
    return stem.with_name(stem.name + suffix)


def test_the_virtual_mosaic_is_the_pieces_put_together_and_the_cog_is_cut_to_the_outline(batch):
    for region, crs, kind, stem in written(batch):
        wanted, grid = assembled(batch, region, crs, kind)
        with rasterio.open(suffixed(stem, ".vrt")) as virtual, rasterio.open(suffixed(stem, ".tif")) as cog:
            for source in (virtual, cog):
                assert (source.shape, source.transform, source.crs) == (grid.shape, grid.affine, grid.crs)
            np.testing.assert_array_equal(virtual.read(), wanted)
            kept = (touching if kind in TILED else inside)(grid, OUTLINES[region])
            nothing = np.nan if wanted.dtype == np.float32 else 255
            np.testing.assert_array_equal(cog.read(), np.where(kept, wanted, nothing))
            assert 0 < kept.mean() < 1


def test_both_say_what_their_pixels_are(batch):
    for _, _, kind, stem in written(batch):
        piece = next(batch.out.glob(f"units/*/*.{kind}.tif"))
        with (
            rasterio.open(piece) as unit, rasterio.open(suffixed(stem, ".vrt")) as virtual,
            rasterio.open(suffixed(stem, ".tif")) as cog,
        ):  # fmt: skip
            tags = {key: value for key, value in unit.tags().items() if key not in ("scene", "AREA_OR_POINT")}
            for source in (virtual, cog):
                assert source.dtypes == unit.dtypes
                assert source.descriptions == unit.descriptions
                assert source.scales == unit.scales
                np.testing.assert_array_equal(source.nodatavals, unit.nodatavals)
                assert {key: value for key, value in source.tags().items() if key != "AREA_OR_POINT"} == tags
                if kind in ("classes", "trust"):
                    assert source.colormap(1) == unit.colormap(1)
            assert cog.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
    assert unit.scales == (0.01,) * (len(MODALITIES) + 1)


def test_values_are_named_to_gdal_and_qgis(batch):
    wanted = [CLASSES.get(value, ("",))[0] for value in range(max(CLASSES) + 1)]
    for _, _, kind, stem in written(batch):
        if kind == "classes":
            for path in (suffixed(stem, ".vrt"), suffixed(stem, ".tif.aux.xml")):
                names = ElementTree.parse(path).findall(".//Category")  # noqa: S314 (written just now)
                assert [name.text or "" for name in names] == wanted
            legend = ElementTree.parse(suffixed(stem, ".qml")).findall(".//paletteEntry")  # noqa: S314 (same)
            assert [entry.get("label") for entry in legend] == [name for name, _ in CLASSES.values()]


def test_virtual_mosaics_open_after_the_folder_was_moved(batch, tmp_path):
    mine = copied(batch, tmp_path)
    files = write_mosaics(mine.out, mine.ledger(), ODD, outline=None, kinds={"vrt"})
    before = [rasterio.open(path).read() for path in files]
    (tmp_path / "there").mkdir()
    shutil.move(mine.out, tmp_path / "there" / "else where")
    for path, values in zip(files, before, strict=True):
        with rasterio.open(tmp_path / "there" / "else where" / path.relative_to(mine.out)) as source:
            np.testing.assert_array_equal(source.read(), values)


def test_a_region_without_an_outline_is_not_cut(batch, tmp_path):
    mine = copied(batch, tmp_path)
    for path in write_mosaics(mine.out, mine.ledger(), "confine", outline=None, kinds={"cog"}):
        _, code, kind, _ = path.name.split(".")
        with rasterio.open(path) as source:
            np.testing.assert_array_equal(source.read(), assembled(batch, "confine", f"EPSG:{code}", kind)[0])
    assert not list((mine.out / "regions").glob("*.vrt"))


def test_strips_leave_no_trace(batch, tmp_path, monkeypatch):
    mine = copied(batch, tmp_path)
    monkeypatch.setattr(mosaics, "TILE", 20)  # neither a divisor of the height nor of a unit's
    for path in write_mosaics(mine.out, mine.ledger(), "alta", outline=OUTLINES["alta"], kinds={"cog"}):
        with rasterio.open(path) as found, rasterio.open(batch.out / "regions" / path.name) as wanted:
            np.testing.assert_array_equal(found.read(), wanted.read())


def test_names_stay_within_the_folder_and_apart(batch, tmp_path):
    mine = copied(batch, tmp_path)
    ledger, names = mine.ledger(), ["../../out", "a b", "a_b", "", ".hidden", "x" * 300]
    ledger["regions"] = "\n".join(names)
    ledger = ledger[ledger["name"].isin([unit.name for unit in mine.done("alta")])]
    found = [path for name in names for path in write_mosaics(mine.out, ledger, name, outline=None, kinds={"vrt"})]
    assert len(set(found)) == len(names) * len(MAPS)
    for path in found:
        assert path.parent == mine.out / "regions"
        assert re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*", path.name)
        assert path.is_file()


def test_what_is_unchanged_is_not_written_again(batch, tmp_path):
    mine = copied(batch, tmp_path)
    outline, ledger = OUTLINES["confine"], mine.ledger()

    def inodes() -> dict[str, int]:
        files = write_mosaics(mine.out, ledger, "confine", outline=outline, kinds=BOTH)
        return {path.name: path.stat().st_ino for path in files}

    def changed(before: dict[str, int], after: dict[str, int]) -> set[str]:
        return {name for name in after if after[name] != before.get(name)}

    first = inodes()
    assert changed(first, inodes()) == set()
    outline = OUTLINES["confine"].buffer(-0.0005)
    second = inodes()
    assert changed(first, second) == {name for name in first if name.endswith(".tif")}
    row = ledger.index[ledger["crs"] == "EPSG:32632"][0]
    record = json.loads(ledger.loc[row, "record"])
    record["files"][f"{record['unit']}.classes.tif"][1] = "0" * 64
    ledger.loc[row, "record"] = json.dumps(record)
    third = inodes()
    assert changed(second, third) == {"confine.32632.classes.vrt", "confine.32632.classes.tif"}
    lost = mine.out / "regions" / "confine.32633.trust.tif"
    lost.write_bytes(b"cut off")
    (mine.out / "regions" / ".confine.32633.trust.vrt.json").write_text("[damaged")
    assert changed(third, inodes()) == {"confine.32633.trust.vrt"} | {lost.name} - {
        name for name, inode in third.items() if inode == lost.stat().st_ino
    }
    with rasterio.open(lost) as source:
        assert source.shape == assembled(batch, "confine", "EPSG:32633", "trust")[1].shape


def test_only_maps_that_there_are_and_units_that_are_done(tmp_path):
    batch = write_batch(tmp_path, np.random.default_rng(5), reliance=False)
    ledger = batch.ledger()
    files = write_mosaics(batch.out, ledger, ODD, outline=OUTLINES[ODD], kinds=BOTH)
    assert {path.name.split(".", 2)[2] for path in files} == {
        "classes.vrt", "classes.tif", "confidence.vrt", "confidence.tif"
    }  # fmt: skip
    ledger["state"] = "failed"
    assert write_mosaics(batch.out, ledger, ODD, outline=None, kinds=BOTH) == []
    with pytest.raises(PipelineError, match=r"found mosaics as \['png'\]; wanted vrt, cog"):
        write_mosaics(batch.out, ledger, ODD, outline=None, kinds={"png"})


def test_a_kill_leaves_no_half_file_and_the_next_run_completes_it(batch, tmp_path):
    mine = copied(batch, tmp_path)
    script = f"""
        import os, signal
        import geopandas, shapely
        from pathlib import Path
        from equipoise.pipeline.batch import mosaics
        calls = []
        inside = mosaics.inside
        def killed(*arguments, **options):
            calls.append(1)
            if len(calls) == 5:
                os.kill(os.getpid(), signal.SIGKILL)
            return inside(*arguments, **options)
        mosaics.inside, mosaics.TILE = killed, 50
        out = Path({str(mine.out)!r})
        outline = shapely.from_wkt({OUTLINES["alta"].wkt!r})
        units = geopandas.read_file(out / "ledger.gpkg", layer="units")
        mosaics.write_mosaics(out, units, "alta", outline=outline, kinds={{"vrt", "cog"}})
    """
    ended = subprocess.run([sys.executable, "-W", "ignore", "-c", textwrap.dedent(script)], check=False, timeout=120)
    assert ended.returncode == -signal.SIGKILL
    folder = mine.out / "regions"
    left = {path.name for path in folder.iterdir() if not path.name.startswith(".")}
    assert left >= {"alta.32633.classes.vrt", "alta.32633.classes.tif", "alta.32633.confidence.vrt"}
    assert "alta.32633.confidence.tif" not in left
    write_mosaics(mine.out, mine.ledger(), "alta", outline=OUTLINES["alta"], kinds=BOTH)
    for path in sorted((batch.out / "regions").glob("alta.*.tif")):
        with rasterio.open(folder / path.name) as found, rasterio.open(path) as wanted:
            np.testing.assert_array_equal(found.read(), wanted.read())
    assert {path.suffix for path in folder.iterdir() if path.name.startswith(".")} == {".json"}


def write(path: Path, grid: GeoBox, values: np.ndarray, *, nodata: float | None = 255, name: str = "class") -> Path:
    with cog_writer(
        path, grid, count=1, dtype=str(values.dtype), nodata=nodata, overview_resampling="mode", descriptions=(name,)
    ) as writer:
        writer.write(values[None])
    return path


def test_where_rasters_overlap_nothing_does_not_cover_something(tmp_path):
    first = np.array([[1, 2, 255], [3, 255, 5]], np.uint8)
    second = np.array([[255, 7], [255, 255]], np.uint8)
    paths = [
        write(tmp_path / "a & b.tif", north_up(2, 3), first),
        write(tmp_path / "c.tif", north_up(2, 2, left=500_010.0, top=5_300_010.0), second),
    ]
    with rasterio.open(write_virtual_mosaic(tmp_path / "below" / "mosaic.vrt", paths)) as source:
        np.testing.assert_array_equal(source.read(1), [[255, 255, 7], [1, 2, 255], [3, 255, 5]])
    plain = [
        write(tmp_path / f"{number}.tif", north_up(2, 2, left=500_000.0 + 20 * number), second, nodata=None)
        for number in range(2)
    ]
    with rasterio.open(write_virtual_mosaic(tmp_path / "plain.vrt", plain)) as source:
        assert source.nodata is None
        np.testing.assert_array_equal(source.read(1), np.tile(second, 2))


def test_a_turned_lattice_is_one_too(tmp_path):
    turned = Affine.translation(500_000.0, 5_300_000.0) * Affine.rotation(30.0) * Affine.scale(10.0, -10.0)
    whole, values = GeoBox((4, 6), turned, "EPSG:32633"), np.arange(24, dtype=np.uint8).reshape(4, 6)
    paths = [
        write(tmp_path / f"{number}.tif", whole[rows, cols], values[rows, cols])
        for number, (rows, cols) in enumerate([(slice(1, 4), slice(2, 6)), (slice(0, 2), slice(0, 2))])
    ]
    with rasterio.open(write_virtual_mosaic(tmp_path / "mosaic.vrt", paths)) as source:
        assert source.transform.almost_equals(turned, 1e-6)
        wanted = np.full((4, 6), 255)
        wanted[1:, 2:], wanted[:2, :2] = values[1:, 2:], values[:2, :2]
        np.testing.assert_array_equal(source.read(1), wanted)


@pytest.mark.parametrize(
    ("grid", "options", "words"),
    [
        (north_up(2, 2, crs="EPSG:32632"), {}, "found CRS EPSG:32632; wanted EPSG:32633"),
        (north_up(2, 2, left=500_025.0), {}, "found a shift of 2.5, 0 px; wanted whole pixels"),
        (north_up(2, 2, pixel=20.0), {}, "found pixels "),
        (north_up(2, 2), {"name": "other"}, "found other descriptions"),
        (north_up(2, 2), {"nodata": 0}, "found other nodata"),
    ],
)
def test_rasters_that_do_not_fit_are_refused(tmp_path, grid, options, words):
    values = np.ones((2, 2), np.uint8)
    paths = [write(tmp_path / "a.tif", north_up(2, 2), values), write(tmp_path / "b.tif", grid, values, **options)]
    with pytest.raises(PipelineError, match=re.escape(words)) as raised:
        write_virtual_mosaic(tmp_path / "mosaic.vrt", paths)
    assert "\n" not in str(raised.value)
    assert str(paths[1]) in str(raised.value)
    assert not (tmp_path / "mosaic.vrt").exists()


def test_no_raster_and_a_broken_one_are_refused(tmp_path):
    (tmp_path / "broken.tif").write_bytes(b"II*\x00" + b"\x00" * 40)
    with pytest.raises(PipelineError, match="found no raster"):
        write_virtual_mosaic(tmp_path / "mosaic.vrt", [])
    with pytest.raises(PipelineError, match=r"broken\.tif: found a raster that does not open"):
        write_virtual_mosaic(tmp_path / "mosaic.vrt", [tmp_path / "broken.tif"])


@pytest.mark.parametrize(
    ("crs", "left", "top"),
    [
        ("EPSG:32601", 166_000.0, 1_000_000.0), ("EPSG:32660", 834_000.0, 1_005_000.0), ("EPSG:32633", 4e5, 8.9e6),
    ],
)  # fmt: skip
@pytest.mark.parametrize(
    "outline",
    [
        shapely.union(shapely.box(179.9, 8.0, 180.0, 9.05), shapely.box(-180.0, 8.0, -179.97, 9.05)),
        shapely.box(-180.0, -85.0, 180.0, 85.0) - shapely.box(-179.99, 9.01, 179.99, 9.03),
        shapely.Polygon([(-180.0, -80.0), (180.0, -80.0), (180.0, 9.02), (9.9, 80.11), (-180.0, 9.03)]),
    ],
)
def test_an_outline_is_what_it_is_in_longitude_and_latitude(crs, left, top, outline):
    grid = north_up(40, 60, pixel=100.0, left=left, top=top, crs=crs)
    plane = outline_on(outline, crs, near=footprint(grid))
    wanted = inside(grid, outline)
    assert 0 < wanted.mean() < 1 or outline.geom_type == "MultiPolygon" or outline.interiors
    np.testing.assert_array_equal(inside_plane(plane, grid), wanted)
    strips = [inside_plane(plane, grid[row : min(row + 7, 40), :]) for row in range(0, 40, 7)]
    np.testing.assert_array_equal(np.vstack(strips), wanted)
