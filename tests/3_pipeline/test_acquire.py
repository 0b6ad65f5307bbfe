"""Acquire: from an area and a period to aligned stacks, through real servers on loopback; killed, resumed, refused."""

import hashlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import rasterio
import yaml
from fake_catalog import EO_KEYS, GRID, FakeArchive, file_server, stac_server, write_area
from odc.geo.geobox import GeoBox
from rasterio.warp import Resampling, reproject

from equipoise.datasets.catalog_items import CatalogError
from equipoise.datasets.ledger import DownloadError
from equipoise.datasets.quality import Quality
from equipoise.datasets.stack import AlignedStack, StackReader
from equipoise.pipeline.acquire import acquire
from equipoise.pipeline.acquire_options import AcquireOptions
from equipoise.pipeline.acquire_summary import acquired
from equipoise.pipeline.config import load_config
from equipoise.pipeline.validate import Validation, validate_inputs

COMMAND = Path(sys.executable).with_name("equipoise")
JULY = "2021-07-01/2021-07-31"

#: Rows and columns of the files that the area keeps.
INSIDE = (slice(2, 158), slice(2, 198))


@pytest.fixture
def archive(tmp_path):
    """Files behind a server: two optical scenes, one radar scene, one thermal one."""
    folder = tmp_path / "files"
    folder.mkdir()
    with file_server(folder) as server:
        made = FakeArchive(folder, np.random.default_rng(2), base=server.url)
        made.sentinel2("2021-07-10T10:00:00Z")
        made.sentinel2("2021-07-20T10:00:00Z", cloud=30.0)
        made.sentinel1("2021-07-11T05:00:00Z")
        made.landsat("2021-07-09T09:50:00Z")
        made.server = server
        yield made


@pytest.fixture
def area(tmp_path):
    return write_area(tmp_path / "valley.geojson", shrink=2)


def _command(area, catalog, out, *more):
    return ["acquire", "--aoi", area, "--dates", JULY, "--catalog", catalog, "-o", out, *more]


def _acquire(area, catalog, out, **options):
    return acquire(area, str(catalog), AcquireOptions(dates=JULY, allow_network=True, **options), folder=out)


def _values(stack_path):
    stack = AlignedStack.load(stack_path)
    rows, cols = stack.geobox.shape
    return stack, StackReader(stack).read(0, 0, height=rows, width=cols)


def _assert_optical_truth(archive, image, identifier="S2B_20210710"):
    for layer, key in zip(image, EO_KEYS, strict=True):
        np.testing.assert_allclose(layer, archive.truth[identifier][key][INSIDE] * 1e-4, rtol=1e-5)


def test_an_area_and_a_period_give_an_aligned_stack(archive, area, tmp_path, equipoise, forked):
    with stac_server(archive.items, tmp_path) as url:
        done = equipoise(*_command(area, url, tmp_path / "out", "--sensors", "eo,sar,ir"))
        told = forked(*_command(area, url, tmp_path / "out", "--sensors", "eo,sar,ir", "--json"))
    assert (done.returncode, done.stderr) == (0, "")
    stack, window = _values(tmp_path / "out" / "20210710t1000-sentinel-2b" / "stack.json")
    assert stack.geobox == GRID[INSIDE]
    assert (stack.modalities, dict(stack.missing), stack.group) == (("eo", "sar", "ir"), {}, "valley")
    assert stack.acquired["sar"] == "2021-07-11T05:00:00+00:00"
    _assert_optical_truth(archive, window.image["eo"])
    power = archive.truth["S1A_20210711_rtc"]["vv"][INSIDE]
    np.testing.assert_array_equal(window.image["sar"][0], np.where(power > 0, power, np.nan))
    assert 290 < np.nanmean(window.image["ir"]) < 300
    assert set(np.unique(window.quality["eo"])) == {Quality.CLEAR, Quality.CLOUD}
    assert done.stdout.splitlines()[-1].startswith(f"wrote {tmp_path / 'out' / 'config.yaml'}")
    assert "1 more found (--limit)" in done.stdout
    answered = json.loads(told.stdout)
    assert answered["pairs"][0]["name"] == "20210710t1000-sentinel-2b"
    assert answered["pairs"][0]["present"]["sar"]["items"] == ["S1A_20210711_rtc"]
    assert answered["config"] == str(tmp_path / "out" / "config.yaml")
    assert len(told.stdout.splitlines()) == 1


def test_without_its_radar_the_stack_says_what_is_missing_and_why(archive, area, tmp_path):
    items = [item for item in archive.items if item["collection"] != "sentinel-1-rtc"]
    with stac_server(items, tmp_path) as url:
        result = _acquire(area, url, tmp_path / "out")
    why = "no item of sentinel-1-rtc in 2021-07-01/2021-07-31 and 3 days around"
    assert f"sar missing: {why}" in next(iter(acquired(result, dry_run=False)))
    stack, window = _values(result.stacks[0])
    assert dict(stack.missing) == {"sar": why}
    assert list(window.image) == ["eo"]
    assert not window.valid["sar"].any()
    assert window.valid["eo"].all()


def test_radar_of_another_week_is_missing_and_why(archive, area, tmp_path):
    archive.items[2]["properties"]["datetime"] = "2021-07-15T05:00:00Z"
    result = _acquire(area, archive.write_static(), tmp_path / "out", limit=1)
    stack = AlignedStack.load(result.stacks[0])
    assert stack.missing["sar"] == "no item within 3 days (the nearest is 4.8 days away)"


def test_radar_in_its_own_geometry_is_refused_before_it_is_fetched(archive, area, tmp_path):
    archive.items[2]["assets"]["schema-calibration-vv"] = {"href": archive.base + "calibration.xml"}
    with pytest.raises(CatalogError, match=r"radar geometry .* use sentinel-1-rtc"):
        _acquire(area, archive.write_static(), tmp_path / "out")
    assert not archive.server.requests


def test_an_item_without_the_band_gives_way_to_one_that_has_it(archive, area, tmp_path):
    archive.sentinel1("2021-07-10T12:00:00Z", name="nearer")["assets"].pop("vh")
    result = _acquire(area, archive.write_static(), tmp_path / "out")
    assert [item.id for item in result.pairings[0].present["sar"].items] == ["S1A_20210711_rtc"]


def _kill_when(there, arguments):
    """Start the installed command and send SIGKILL as soon as ``there()`` is true."""
    process = subprocess.Popen(
        [COMMAND, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ}
    )
    until = time.monotonic() + 120
    while not there():
        if process.poll() is not None or time.monotonic() > until:
            process.kill()
            pytest.fail(f"ended before it could be killed: {process.communicate()}")
        time.sleep(0.001)
    process.kill()
    process.communicate()
    assert process.returncode == -9


def test_killed_twice_it_finishes_without_fetching_twice(archive, area, tmp_path, equipoise):
    out, server = tmp_path / "out", archive.server
    with stac_server(archive.items, tmp_path) as url:
        command = _command(area, url, out)
        server.pause = 0.02  # a file takes about 0.3 s
        _kill_when(lambda: server.sent["S2B_20210710.red.tif"] > 20_000, command)
        assert not (out / "assets" / "S2B_20210710" / "red.tif").exists()
        server.pause = 0.0
        _kill_when(lambda: (out / "20210710t1000-sentinel-2b" / "eo.tif").exists(), command)
        assert not (out / "20210710t1000-sentinel-2b" / "stack.json").exists(), "killed too late"
        done = equipoise(*command)
        assert done.returncode == 0, done.stderr
        requests = dict(server.requests)
        written = (out / "20210710t1000-sentinel-2b" / "eo.tif").stat().st_mtime_ns
        again = _acquire(area, url, out)
    sizes = {path.name: path.stat().st_size for path in archive.folder.glob("*.tif")}
    assert requests.pop("S2B_20210710.red.tif") == 2
    assert set(requests.values()) == {1}
    # What was on its way when the process died was sent, but never arrived: a few blocks.
    extra = {name: server.sent[name] - sizes[name] for name in server.sent}
    assert extra.pop("S2B_20210710.red.tif") <= 4 * server.block
    assert set(extra.values()) == {0}
    assert dict(server.requests) == {**requests, "S2B_20210710.red.tif": 2}
    assert not again.fresh
    assert (out / "20210710t1000-sentinel-2b" / "eo.tif").stat().st_mtime_ns == written
    _assert_optical_truth(archive, _values(out / "20210710t1000-sentinel-2b" / "stack.json")[1].image["eo"])
    assert not [*out.rglob(".*"), *out.rglob("*.part*")]


def test_a_truncated_asset_is_refused_by_checksum(archive, area, tmp_path, forked):
    path = archive.folder / "S2B_20210710.red.tif"
    whole = archive.items[0]["assets"]["red"]
    del whole["file:size"]
    path.write_bytes(path.read_bytes()[:-1000])
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    with stac_server(archive.items, tmp_path) as url:
        done = forked(*_command(area, url, tmp_path / "out"))
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert f"S2B_20210710.red.tif: found sha256 {found}" in line
    assert f"wanted {whole['file:checksum'][4:]}" in line
    assert not list((tmp_path / "out").rglob("red.tif*"))


def test_a_catalog_that_is_not_there_is_one_line_and_soon(area, tmp_path, equipoise):
    began = time.monotonic()
    done = equipoise(*_command(area, "http://127.0.0.1:9", tmp_path / "out"))
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "found no STAC search API that answers" in line
    assert time.monotonic() - began < 15  # most of it is the imports of a busy machine


def test_pixels_finer_than_any_memory_are_refused_before_the_catalog_is_asked(area, tmp_path, forked):
    done = forked(*_command(area, "http://127.0.0.1:9", tmp_path / "out", "--resolution", "0.001"))
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "wanted at most 1e+10; give a larger --resolution" in line
    assert not (tmp_path / "out").exists()


def test_where_the_files_lie_is_read_from_the_files(archive, area, tmp_path):
    lie = {
        "proj:epsg": 32601, "proj:code": "EPSG:32601", "proj:transform": [60, 0, 1e5, 0, -60, 9e6],
        "proj:shape": [7, 7], "proj:bbox": [0, 0, 1, 1],
    }  # fmt: skip
    for item in archive.items:
        item["properties"] |= lie
        item["stac_extensions"] = ["https://stac-extensions.github.io/projection/v1.1.0/schema.json"]
        west, south, east, north = item["bbox"]
        item["bbox"] = [west - 0.4, south - 0.4, east + 0.4, north + 0.4]
        for asset in item["assets"].values():
            asset |= lie
    result = _acquire(area, archive.write_static(), tmp_path / "out")
    stack, window = _values(result.stacks[0])
    assert stack.geobox == GRID[INSIDE]
    _assert_optical_truth(archive, window.image["eo"])


def test_files_that_lie_elsewhere_are_missing_whatever_the_catalog_claims(archive, area, tmp_path):
    elsewhere = FakeArchive(
        archive.folder, np.random.default_rng(0), base=archive.base,
        grid=GeoBox(GRID.shape, GRID.affine.translation(300_000, 0) * GRID.affine, GRID.crs),
    )  # fmt: skip
    liar = elsewhere.sentinel1("2021-07-10T10:00:00Z", name="liar")
    archive.items[2:3] = [{**liar, "geometry": archive.items[0]["geometry"], "bbox": archive.items[0]["bbox"]}]
    result = _acquire(area, archive.write_static(), tmp_path / "out")
    stack = AlignedStack.load(result.stacks[0])
    assert stack.missing["sar"] == "its files have no valid pixel in the area, whatever the catalog claims"
    assert not (result.stacks[0].parent / "sar.tif").exists()


@pytest.mark.parametrize(("applied", "offset"), [(True, 0.0), (False, -0.1)])
def test_the_radiometric_offset_is_applied_once(archive, area, tmp_path, applied, offset):
    item = archive.items[0]
    item["properties"] |= {"earthsearch:boa_offset_applied": applied, "s2:processing_baseline": "05.00"}
    for key in EO_KEYS:
        item["assets"][key]["raster:bands"] = [{"scale": 1e-4, "offset": -0.1, "nodata": 0}]
        # Without an applied offset the darkest counts are near 1000.
        counts = archive.truth["S2B_20210710"][key] + (0 if applied else 1000)
        with rasterio.open(archive.folder / f"S2B_20210710.{key}.tif", "r+") as file:
            file.write(counts.astype(np.uint16), 1)
        del item["assets"][key]["file:size"], item["assets"][key]["file:checksum"]
    result = _acquire(area, archive.write_static(), tmp_path / "out", sensors=["eo"])
    _assert_optical_truth(archive, _values(result.stacks[0])[1].image["eo"])
    (record,) = json.loads((tmp_path / "out" / "acquired.json").read_text())["pairs"].values()
    band = record["sensors"]["eo"]["items"][0]["bands"]["red"]
    assert band["offset"] == offset
    assert band["offset_source"] == ("already applied, says the item" if applied else "item")


def test_an_offset_that_is_in_the_numbers_already_is_noticed(archive, area, tmp_path):
    for key in EO_KEYS:
        archive.items[0]["assets"][key]["raster:bands"] = [{"scale": 1e-4, "offset": -0.1}]
    archive.items[0]["properties"] |= {"earthsearch:boa_offset_applied": False, "s2:processing_baseline": "05.00"}
    with pytest.raises(CatalogError, match=r"the offset is in the numbers already.*--offset eo=0"):
        _acquire(area, archive.write_static(), tmp_path / "out")
    result = _acquire(area, archive.write_static(), tmp_path / "out", offset={"eo": 0.0})
    _assert_optical_truth(archive, _values(result.stacks[0])[1].image["eo"])


def test_a_catalog_on_disk_is_read_in_place(archive, area, tmp_path):
    archive.base = "./"
    for item in archive.items:
        for asset in item["assets"].values():
            asset["href"] = "./" + asset["href"].rsplit("/", 1)[-1]
    options = AcquireOptions(dates=JULY, limit=2)
    result = acquire(area, str(archive.write_static()), options, folder=tmp_path / "out")
    assert [path.parent.name for path in result.stacks] == ["20210710t1000-sentinel-2b", "20210720t1000-sentinel-2b"]
    assert sum(archive.server.requests.values()) == 0
    assert not list((tmp_path / "out" / "assets").rglob("*.tif"))
    _assert_optical_truth(archive, _values(result.stacks[1])[1].image["eo"], "S2B_20210720")
    (archive.folder / "S2B_20210710.red.tif").write_bytes(b"II*\0")
    with pytest.raises(DownloadError, match=r"red\.tif: found 4 bytes; wanted"):
        acquire(area, str(archive.write_static()), options, folder=tmp_path / "other")


def test_the_configuration_continues_once_classes_are_declared(archive, area, tmp_path):
    out = tmp_path / "out"
    result = _acquire(area, archive.write_static(), out, limit=2)
    assert _acquire(area, archive.write_static(), out, limit=1).config == result.config, "ours, and so replaced"
    assert _acquire(area, archive.write_static(), out, limit=2).config == result.config
    record = yaml.safe_load(result.config.read_text())
    assert record["classes"] == []
    record["classes"] = [
        {"value": 0, "name": "dry", "color": "#000000"}, {"value": 1, "name": "wet", "color": "#0000ff"},
    ]  # fmt: skip
    result.config.write_text(yaml.safe_dump(record))
    assert validate_inputs(load_config(result.config)) == Validation(scenes=2)
    # The user's edits stay; what has changed goes beside them.
    second = _acquire(area, archive.write_static(), out, limit=1)
    assert second.config == out / "config.new.yaml"
    assert yaml.safe_load((out / "config.yaml").read_text())["classes"] == record["classes"]


def test_paths_may_be_relative(archive, area, tmp_path, monkeypatch):
    catalog = archive.write_static()
    monkeypatch.chdir(tmp_path)
    result = acquire(
        Path(os.path.relpath(area)), os.path.relpath(catalog), AcquireOptions(dates=JULY, allow_network=True),
        folder=Path("out"),
    )  # fmt: skip
    assert result.stacks == (Path("out") / result.names[0] / "stack.json",)
    assert _values(tmp_path / result.stacks[0])[0].present


def test_a_dry_run_writes_and_fetches_nothing(archive, area, tmp_path):
    options = AcquireOptions(dates=JULY, allow_network=True)
    result = acquire(area, str(archive.write_static()), options, folder=tmp_path / "out", dry_run=True)
    first, second, last = acquired(result, dry_run=True)
    assert "eo 2021-07-10 10:00 (area 100%, cloud 10%); sar 2021-07-11 05:00 (area 100%, +0.8 days)" in first
    assert "over limit" in second
    assert last == "dry run: nothing fetched, nothing written; 1 more found (--limit)"
    assert not (tmp_path / "out").exists()
    assert not archive.server.requests


@pytest.mark.real
def test_a_real_tile_comes_out_as_rasterio_puts_it_on_the_grid(data_folder, tmp_path):
    tiles = data_folder / "A_open" / "terramind" / "examples"
    files = tmp_path / "files"
    files.mkdir()
    with file_server(files) as server:
        made = FakeArchive(files, np.random.default_rng(0), base=server.url)
        made.tile(tiles, "282D_485L_3_3")
        with stac_server(made.items, tmp_path) as url:
            area = write_area(tmp_path / "coast.geojson", made.grid, shrink=10)
            options = AcquireOptions(dates=JULY, unit={"sar": "db"})
            result = acquire(area, url, options, folder=tmp_path / "out")
    stack, window = _values(result.stacks[0])
    assert not stack.missing
    sources = {
        "eo": [made.truth["S2_282D_485L_3_3"][key] * 1e-4 for key in EO_KEYS],
        "sar": [10 ** (made.truth["S1_282D_485L_3_3"][key].astype(np.float64) / 10) for key in ("vv", "vh")],
    }
    for name, layers in sources.items():
        for found, layer in zip(window.image[name], layers, strict=True):
            wanted = np.full(stack.geobox.shape, np.nan, dtype=np.float32)
            reproject(
                layer.astype(np.float32), wanted, src_transform=made.grid.affine, src_crs=str(made.grid.crs),
                dst_transform=stack.geobox.affine, dst_crs=str(stack.geobox.crs), dst_nodata=np.nan,
                resampling=Resampling.bilinear,
            )  # fmt: skip
            both = np.isfinite(found) & np.isfinite(wanted)
            assert both.mean() > 0.9
            np.testing.assert_allclose(found[both], wanted[both], rtol=1e-3, atol=1e-4)
