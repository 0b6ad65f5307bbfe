"""What the viewer shows: which scenes a folder holds, colours and legends, places, positions before alignment."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from placeless import write_placeless
from rasterio.warp import transform

from equipoise.datasets.registration_layer import RegistrationLayer
from equipoise.pipeline.errors import PipelineError
from equipoise.pipeline.viewer.before import position_before
from equipoise.pipeline.viewer.drawing import Mixture, NamedValues, Picture, Ramp, hex_code
from equipoise.pipeline.viewer.folder import scenes_of
from equipoise.pipeline.viewer.layers import open_scene
from equipoise.pipeline.viewer.place import place
from equipoise.pipeline.viewer.rasters import Raster

GRID = GeoBox((40, 50), Affine(10, 0, 500_000, 0, -10, 5_000_000), "EPSG:32632")


@pytest.fixture(scope="module")
def scene(trained_run):
    (files,) = scenes_of(trained_run.root)
    return open_scene(files, trained_run.root)


@pytest.fixture
def without_position(trained_run, tmp_path) -> Path:
    """The run, its scenes without a position."""
    return write_placeless(trained_run.root, tmp_path / "run")


def _layer(folder: Path, *, east: np.ndarray, north: np.ndarray) -> Path:
    """Save a registration layer of 5 x 6 nodes over the grid."""
    lattice = GeoBox((5, 6), GRID.affine * Affine.scale(10), GRID.crs)
    ones = np.ones((5, 6), dtype=np.float32)
    path = folder / "sar.registration.tif"
    RegistrationLayer(grid=lattice, confidence=ones, radius90=ones, east=ones * east, north=ones * north).save(path)
    return path


def test_a_shift_is_undone(tmp_path):
    moved, missed = position_before(_layer(tmp_path, east=np.array(37.5), north=np.array(-12.25)), GRID.affine)
    assert missed < 1e-6
    np.testing.assert_allclose(moved * (0, 0), (500_000 - 37.5, 5_000_000 + 12.25), atol=1e-6)
    np.testing.assert_allclose(moved * (50, 40), (500_500 - 37.5, 4_999_600 + 12.25), atol=1e-6)


def test_a_scale_is_undone(tmp_path):
    """Nodes lie at 50 m, 150 m ...: a correction of a hundredth of the distance from the left edge."""
    across = (np.arange(6) * 100 + 50) / 100
    moved, missed = position_before(_layer(tmp_path, east=across, north=np.array(0.0)), GRID.affine)
    assert missed < 1e-4
    np.testing.assert_allclose(moved * (50, 0), (500_500 - 5.0, 5_000_000), atol=1e-4)


def test_what_bends_is_told(tmp_path):
    bent = np.zeros((5, 6))
    bent[2, 3] = 8
    moved, missed = position_before(_layer(tmp_path, east=bent, north=np.array(0.0)), GRID.affine)
    assert 4 < missed < 8
    np.testing.assert_allclose(moved * (0, 0), (500_000, 5_000_000), atol=2)


@given(st.integers(0, 254), st.tuples(*[st.integers(0, 255)] * 3))
def test_a_named_value_has_the_colour_of_its_legend(value, rgb):
    drawing = NamedValues(colours={value: rgb}, names={value: "water"})
    drawn = drawing(np.array([[[value, np.nan, (value + 1) % 255]]], dtype=np.float32))
    assert tuple(drawn[0, 0]) == (*rgb, 255)
    assert drawn[0, 1, 3] == drawn[0, 2, 3] == 0
    assert drawing.legend()["entries"] == [{"name": "water", "colour": hex_code(rgb)}]


def test_a_ramp_begins_and_ends_as_its_legend_says():
    ramp = Ramp(band=1, colours=("#ffffff", "#0072b2"), low=-20, high=0, unit="dB")
    assert ramp.reads == (1,)
    drawn = ramp(np.array([[[-20, 0, -99, np.nan]]], dtype=np.float32))[0]
    assert [hex_code(tuple(map(int, colour[:3]))) for colour in drawn[:3]] == ["#ffffff", "#0072b2", "#ffffff"]
    assert drawn[3, 3] == 0
    legend = ramp.legend()
    assert (legend["colours"][0], legend["colours"][-1], legend["low"], legend["high"]) == (
        "#ffffff",
        "#0072b2",
        -20,
        0,
    )


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_a_tile_on_one_sensor_has_that_sensors_colour(count):
    drawing = Mixture(names=[f"m{number}" for number in range(count)])
    alone = drawing(np.eye(count, dtype=np.float32)[:, None, :])[0]
    assert [hex_code(tuple(map(int, colour[:3]))) for colour in alone] == [
        entry["colour"] for entry in drawing.legend()["entries"]
    ]
    assert (drawing(np.full((count, 1, 1), np.nan, dtype=np.float32))[..., 3] == 0).all()


def test_a_picture_shows_its_bands_in_order():
    values = np.linspace(0, 1, 100, dtype=np.float32).reshape(1, 10, 10) * np.array([3, 2, 1])[:, None, None]
    drawing = Picture.of(values, bands=(2, 1, 0), names=("blue", "green", "red"), units=("reflectance",) * 3)
    assert drawing.legend() == {"kind": "bands", "entries": ["red", "green", "blue"]}
    assert drawing.reads == (2, 1, 0)
    drawn = drawing(np.array([[[3.0]], [[1.0]], [[0.0]]], dtype=np.float32))[0, 0]
    assert drawn[0] == 255
    assert 100 < drawn[1] < 155
    assert (drawn[2], drawn[3]) == (0, 255)


def test_a_run_offers_images_and_maps(scene):
    keys = [layer.key for layer in scene.layers]
    assert keys[:2] == ["eo", "sar"]
    assert {"classes", "confidence", "reliance", "reliance-eo", "trust", "quality-prediction", "labels"} <= set(keys)
    before = [layer for layer in scene.layers if layer.role == "before"]
    assert [layer.key for layer in before] == ["sar-before", "ir-before"]
    assert len(keys) == len(set(keys))


def test_before_is_the_same_raster_elsewhere(scene, trained_run):
    """The planted shift of the embedded scene is what lies between the two."""
    (record,) = (trained_run.root / "aligned").glob("*/coregistration.json")
    found = json.loads(record.read_text())["registrations"]["sar"]
    with scene.layer("sar").raster.opened() as after, scene.layer("sar-before").raster.opened() as before:
        moved = np.subtract(after.transform * (256, 256), before.transform * (256, 256))
        np.testing.assert_array_equal(after.read(1), before.read(1))
    np.testing.assert_allclose(moved, (found["east"], found["north"]), atol=5)
    assert np.hypot(*moved) > 20


def test_a_place_has_the_numbers_of_the_files(scene, trained_run):
    row, col = 100, 210
    with rasterio.open(scene.files.maps["classes"]) as source:
        easting, northing = source.xy(row, col)
        value, name = int(source.read(1)[row, col]), source.tags()[f"class_{source.read(1)[row, col]}"]
        (lon,), (lat,) = transform(source.crs, "EPSG:4326", [easting], [northing])
    assert value != 255
    found = place(scene, lon, lat)
    assert found["prediction"]["name"] == name
    with rasterio.open(scene.files.maps["confidence"]) as source:
        assert found["prediction"]["confidence"] == pytest.approx(source.read(1)[row, col], abs=1e-4)
    with rasterio.open(scene.files.maps["reliance"]) as source:
        shares = source.read()[:, row // 16, col // 16]
        assert [item["name"] for item in found["tile"]["reliance"]] == list(source.descriptions)
    assert [item["share"] for item in found["tile"]["reliance"]] == pytest.approx(shares, abs=1e-4)
    with rasterio.open(scene.files.maps["trust"]) as source:
        flag = source.read(1)[row // 16, col // 16]
        assert found["tile"]["trust"]["name"] == source.tags()[f"class_{flag}"]
    with rasterio.open(scene.files.maps["quality"]) as source:
        quality = dict(zip(source.descriptions, source.read()[:, row // 16, col // 16] * source.scales, strict=True))
    assert found["tile"]["quality"] == pytest.approx(quality, abs=1e-4)
    with rasterio.open(scene.files.images["sar"]) as source:
        power = source.read()[:, row, col]
    assert [band["value"] for band in found["images"]["sar"]] == pytest.approx(10 * np.log10(power), abs=1e-3)
    assert {band["unit"] for band in found["images"]["sar"]} == {"dB"}
    south, west = np.min(found["tile"]["ring"], axis=0)
    north, east = np.max(found["tile"]["ring"], axis=0)
    assert south < lat < north
    assert west < lon < east


def test_nothing_is_told_of_a_place_elsewhere(scene):
    assert place(scene, 0, 0) is None
    assert place(scene, 179, -89) is None


def test_a_scene_without_position_is_told_in_rows_and_columns(without_position):
    (files,) = scenes_of(without_position)
    scene = open_scene(files, without_position)
    assert scene.box is None
    found = place(scene, 210.5, 100.5)
    assert found["place"] == "row 100, column 210"
    assert found["tile"]["ring"] == [(96, 208), (96, 224), (112, 224), (112, 208)]
    with rasterio.open(files.maps["reliance"]) as source:
        shares = source.read()[:, 6, 13]
    assert [item["share"] for item in found["tile"]["reliance"]] == pytest.approx(shares, abs=1e-4)
    assert place(scene, 1e6, 3) is None


def test_tiles_and_pictures_are_the_raster(scene):
    """At the raster's own place a tile has its values; a picture has as many pixels as the raster."""
    layer = scene.layer("classes")
    whole = layer.raster.thinned(2048, nearest=True)
    with rasterio.open(scene.files.maps["classes"]) as source:
        np.testing.assert_array_equal(np.where(np.isfinite(whole[0]), whole[0], 255), source.read(1))
    south, west, north, east = scene.box
    lat, lon, zoom = (south + north) / 2, (west + east) / 2, 15
    x = (lon + 180) / 360 * 2**zoom
    y = (1 - np.arcsinh(np.tan(np.radians(lat))) / np.pi) / 2 * 2**zoom
    tile = layer.raster.tile(zoom, int(x), int(y), nearest=True)
    shown = tile[0, int(y % 1 * 256), int(x % 1 * 256)]
    assert layer.drawing.names[int(shown)] == place(scene, lon, lat)["prediction"]["name"]
    assert layer.raster.tile(zoom, 0, 0, nearest=True) is None


def test_maps_alone_are_a_scene(trained_run):
    (files,) = scenes_of(trained_run.root / "predictions")
    assert set(files.maps) == {"classes", "confidence", "reliance", "trust", "quality"}
    keys = [layer.key for layer in open_scene(files, trained_run.root / "predictions").layers]
    assert keys[:3] == ["classes", "confidence", "reliance"]


def test_loose_files_are_scenes_of_their_own(embedded_scene):
    root = Path(embedded_scene.paths["eo"]).parent
    found = {files.name: open_scene(files, root) for files in scenes_of(root)}
    assert {"eo", "sar", "ir"} <= set(found)
    assert [layer.key for layer in found["eo"].layers] == ["eo"]


def test_a_batch_run_offers_its_mosaics(trained_run, tmp_path):
    (tmp_path / "units").mkdir()
    (tmp_path / "regions").mkdir()
    for path in (trained_run.root / "predictions").glob("*.tif"):
        shutil.copy(path, tmp_path / "regions" / f"valley.32632.{path.name.split('.')[-2]}.tif")
    (files,) = scenes_of(tmp_path)
    assert (files.name, len(files.maps)) == ("valley.32632", 5)


def test_a_folder_of_nothing_is_refused(tmp_path):
    with pytest.raises(PipelineError, match="found no aligned scene and no GeoTIFF; wanted"):
        scenes_of(tmp_path)
    with pytest.raises(PipelineError, match="found no folder; wanted"):
        scenes_of(tmp_path / "nowhere")


def test_files_out_of_the_folder_are_refused(trained_run, tmp_path):
    """Neither a description, nor a link leads out."""
    elsewhere = next((trained_run.root / "predictions").glob("*.confidence.tif"))
    (tmp_path / "aligned" / "a").mkdir(parents=True)
    (source,) = (trained_run.root / "aligned").glob("*/stack.json")
    record = json.loads(source.read_text())
    record |= {"present": {"eo": str(elsewhere)}, "labels": None, "registration": {}, "clouds": {}}
    (tmp_path / "aligned" / "a" / "stack.json").write_text(json.dumps(record))
    with pytest.raises(PipelineError, match="found a file out of"):
        scenes_of(tmp_path)
    (tmp_path / "link.tif").symlink_to(elsewhere)
    _assert_refused(tmp_path / "link.tif", "found a file out of")


def _assert_refused(path: Path, words: str) -> None:
    raster = Raster(path=path, root=path.parent)
    with pytest.raises((PipelineError, rasterio.RasterioIOError), match=words), raster.opened():
        pass


def _virtual(path: Path, band: str) -> Path:
    path.write_text(
        f'<VRTDataset rasterXSize="4" rasterYSize="4"><VRTRasterBand dataType="Float32" band="1">{band}'
        "</VRTRasterBand></VRTDataset>"
    )
    return path


@pytest.fixture
def pieces(tmp_path):
    """A folder with a raster, and one beside the folder."""
    inside, outside = tmp_path / "inside", tmp_path / "outside.tif"
    inside.mkdir()
    for path in (inside / "piece.tif", outside):
        with rasterio.open(
            path, "w", driver="GTiff", width=4, height=4, count=1, dtype="float32", crs="EPSG:32632",
            transform=Affine(10, 0, 0, 0, -10, 0),
        ) as writer:  # fmt: skip
            writer.write(np.full((4, 4), 42, dtype=np.float32), 1)
    return inside, outside


def test_virtual_rasters_of_the_folder_are_shown(pieces):
    inside, _ = pieces
    source = '<SimpleSource><SourceFilename relativeToVRT="1">piece.tif</SourceFilename></SimpleSource>'
    raster = Raster(path=_virtual(inside / "a.vrt", source), root=inside)
    assert (raster.thinned(4, nearest=True) == 42).all()


@pytest.mark.parametrize(
    "band",
    [
        "<SimpleSource><SourceFilename>{outside}</SourceFilename></SimpleSource>",
        '<SimpleSource><SourceFilename relativeToVRT="1">../outside.tif</SourceFilename></SimpleSource>',
        "<SimpleSource><SourceFilename>/vsicurl/http://127.0.0.1:9/x.tif</SourceFilename></SimpleSource>",
        '<SimpleSource><SourceFilename relativeToVRT="1">piece.tif</SourceFilename></SimpleSource><MaskBand>'
        '<VRTRasterBand dataType="Byte"><SimpleSource><SourceFilename>{outside}</SourceFilename></SimpleSource>'
        "</VRTRasterBand></MaskBand>",
    ],
    ids=["outside", "up", "network", "mask"],
)
def test_virtual_rasters_lead_nowhere_else(pieces, band):
    inside, outside = pieces
    _assert_refused(_virtual(inside / "a.vrt", band.format(outside=outside)), "found a file out of")


def test_virtual_rasters_are_made_of_geotiffs_alone(pieces):
    """A source may be another virtual raster, whatever its name is."""
    inside, outside = pieces
    _virtual(inside / "nested.tif", f"<SimpleSource><SourceFilename>{outside}</SourceFilename></SimpleSource>")
    source = '<SimpleSource><SourceFilename relativeToVRT="1">nested.tif</SourceFilename></SimpleSource>'
    _assert_refused(_virtual(inside / "a.vrt", source), "wanted GeoTIFFs alone")
    _assert_refused(inside / "nested.tif", "not recognized")


def test_files_beside_a_raster_are_not_asked(pieces):
    """Overviews and masks of a name of their own can be of any format, and made of anything."""
    inside, outside = pieces
    _virtual(inside / "piece.tif.msk", f"<SimpleSource><SourceFilename>{outside}</SourceFilename></SimpleSource>")
    with Raster(path=inside / "piece.tif", root=inside).opened() as source:
        assert source.files == [str(inside / "piece.tif")]


def test_only_what_is_drawn_is_read(pieces):
    inside, _ = pieces
    with rasterio.open(
        inside / "many.tif", "w", driver="GTiff", width=4, height=4, count=6, dtype="float32", crs="EPSG:32632",
        transform=Affine(10, 0, 0, 0, -10, 0),
    ) as writer:  # fmt: skip
        writer.write(np.arange(6, dtype=np.float32)[:, None, None] * np.ones((1, 4, 4), dtype=np.float32))
    found = Raster(path=inside / "many.tif", root=inside).thinned(4, nearest=True, bands=(4, 2))
    assert found.shape == (2, 4, 4)
    assert found[:, 0, 0].tolist() == [4, 2]


def test_labels_before_the_maps_have_the_values_that_occur(trained_run, tmp_path):
    shutil.copytree(trained_run.root / "aligned", tmp_path / "aligned")
    (files,) = scenes_of(tmp_path)
    entries = open_scene(files, tmp_path).layer("labels").drawing.legend()["entries"]
    assert [entry["name"] for entry in entries] == ["0", "1", "2", "3", "4", "5"]


def test_a_scene_across_the_180th_meridian_is_one_place(tmp_path):
    with rasterio.open(
        tmp_path / "fiji.TIF", "w", driver="GTiff", width=100, height=100, count=1, dtype="float32", crs="EPSG:32601",
        transform=Affine(500, 0, 150_000, 0, -500, 1_800_000),
    ) as writer:  # fmt: skip
        writer.write(np.ones((100, 100), dtype=np.float32), 1)
    (files,) = scenes_of(tmp_path)
    scene = open_scene(files, tmp_path)
    south, west, north, east = scene.box
    assert 0 < east - west < 5
    assert east > 180
    assert place(scene, (west + east) / 2, (south + north) / 2)["images"]["fiji"][0]["value"] == 1


def test_values_beyond_the_palette_are_not_drawn():
    drawing = NamedValues(colours={44: (1, 2, 3)}, names={44: "a"})
    assert drawing(np.array([[[44, 300, -1]]], dtype=np.float32))[0, :, 3].tolist() == [255, 0, 0]
