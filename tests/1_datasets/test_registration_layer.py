"""Registration layers: nodes where GDAL has pixel centres, means as dense sampling has them, files that tell damage."""

import json
import os
from dataclasses import replace

import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from scipy import ndimage
from strategies import geoboxes, north_up, registration_layer, write_tiff

from equipoise.datasets.errors import SceneError
from equipoise.datasets.position_confidence import PositionConfidence
from equipoise.datasets.registration_layer import BANDS, RegistrationLayer
from equipoise.datasets.stack import AlignedStack


@st.composite
def layers(draw, *, geobox=None):
    """Layers of random values over some grid, refused at some nodes."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shape = draw(st.integers(2, 9)), draw(st.integers(2, 9))
    confidence = np.where(rng.random(shape) < 0.2, 0, rng.random(shape))
    layer = registration_layer(confidence, geobox or draw(geoboxes()))
    return replace(layer, east=rng.normal(0, 50, shape), north=rng.normal(0, 50, shape))


def assert_same(found, wanted):
    for name in BANDS:
        assert getattr(found, name).dtype == np.float32
        np.testing.assert_array_equal(getattr(found, name), getattr(wanted, name))
    assert (found.grid.shape, found.grid.crs) == (wanted.grid.shape, wanted.grid.crs)
    # GDAL keeps the place of the first node and takes half a step from it again: a rounding of 1e-9 m.
    np.testing.assert_allclose(found.grid.affine[:6], wanted.grid.affine[:6], atol=1e-6)


# files


@given(layer=layers())
def test_a_layer_survives_saving(tmp_path_factory, layer):
    folder = tmp_path_factory.mktemp("layer")
    layer.save(folder / "sar.registration.tif")
    assert_same(RegistrationLayer.load(folder / "sar.registration.tif"), layer)
    assert [path.name for path in folder.iterdir()] == ["sar.registration.tif"]


def test_other_programs_find_the_nodes_where_they_are(tmp_path):
    """Read with rasterio alone, at the places of the nodes."""
    grid = north_up(30, 60)
    layer = registration_layer(np.arange(12).reshape(3, 4) / 12, grid)
    layer.save(tmp_path / "a.tif", tags={"scene": "a"})
    with rasterio.open(tmp_path / "a.tif") as source:
        assert (source.descriptions, set(source.dtypes), source.crs) == (BANDS, {"float32"}, "EPSG:32633")
        assert np.isnan(source.nodatavals).all()
        assert (source.tags()["scene"], source.tags()["AREA_OR_POINT"]) == ("a", "Point")
        assert source.tags(ns="IMAGE_STRUCTURE")["COMPRESSION"] == "DEFLATE"
        nodes = [(500_000 + col * 200, 5_300_000 - row * 150) for row in range(3) for col in range(4)]
        found = np.array(list(source.sample(nodes)))
        assert source.xy(0, 0) == pytest.approx((500_000, 5_300_000))
        assert source.xy(2, 3) == pytest.approx((500_600, 5_299_700))
    np.testing.assert_array_equal(found[:, 0].reshape(3, 4), layer.confidence)
    assert np.isnan(found[0, 1])
    np.testing.assert_array_equal(found[1:, 1], layer.radius90.ravel()[1:])


def test_a_crs_that_geotiff_keys_cannot_tell_survives(tmp_path):
    """Amersfoort with heights: GDAL reads it back as something else."""
    grid = north_up(30, 60, left=120_000, top=480_000, crs="EPSG:7415")
    registration_layer(np.ones((3, 4)), grid).save(tmp_path / "a.tif")
    assert (RegistrationLayer.load(tmp_path / "a.tif").confidence_over(grid) == 1).all()


def test_a_file_that_is_written_anew_is_never_half(tmp_path, monkeypatch):
    first, path = registration_layer(np.ones((3, 4)), north_up(9, 9)), tmp_path / "a.tif"
    first.save(path)
    monkeypatch.setattr(rasterio.io.DatasetWriter, "set_band_description", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        replace(first, confidence=np.zeros((3, 4))).save(path)
    assert_same(RegistrationLayer.load(path), first)
    assert list(tmp_path.iterdir()) == [path]


def _write(path, layer, **changes):
    """Write the bands of a layer as another program would, with some of them changed."""
    fields = {name: getattr(layer, name) for name in BANDS} | changes
    write_tiff(path, np.stack(list(fields.values())), layer.grid, tags={"lattice_crs": "EPSG:32633"})
    with rasterio.open(path, "r+") as file:
        file.descriptions = BANDS


@pytest.mark.parametrize(
    "damage",
    [
        lambda path, _: path.unlink(),
        lambda path, _: path.write_bytes(b""),
        lambda path, _: os.truncate(path, path.stat().st_size // 2),
        lambda path, _: path.write_text("no raster"),
        lambda path, layer: write_tiff(path, np.zeros((4, 3, 4), np.float32), layer.grid),
        lambda path, _: write_tiff(path, np.zeros((1, 3, 4), np.uint8), GeoBox((3, 4), Affine.identity(), None)),
        lambda path, layer: _write(path, layer, confidence=layer.confidence + 1),
        lambda path, layer: _write(path, layer, confidence=layer.confidence * np.nan),
        lambda path, layer: _write(path, layer, radius90=layer.radius90 - 99),
        lambda path, layer: _write(path, layer, east=layer.east * np.inf),
    ],
    ids=[
        "gone", "empty", "half", "text", "foreign", "no place", "above 1", "not known", "negative", "infinite",
    ],
)  # fmt: skip
def test_what_is_no_layer_is_one_clear_error(tmp_path, damage):
    layer, path = registration_layer(np.full((3, 4), 0.5), north_up(9, 9)), tmp_path / "sar.registration.tif"
    layer.save(path)
    damage(path, layer)
    with pytest.raises(SceneError, match=r"sar\.registration\.tif: found no readable registration layer") as caught:
        RegistrationLayer.load(path)
    assert "\n" not in str(caught.value)
    assert "equipoise coregister" in str(caught.value)


def test_the_undamaged_copy_of_another_program_is_read(tmp_path):
    layer = registration_layer(np.full((3, 4), 0.5), north_up(9, 9))
    _write(tmp_path / "a.tif", layer)
    assert_same(RegistrationLayer.load(tmp_path / "a.tif"), layer)


def test_values_that_cannot_be_are_refused_before_they_are_written():
    layer = registration_layer(np.full((3, 4), 0.5), north_up(9, 9))
    with pytest.raises(SceneError, match=r"found `confidence` of shape \(2, 4\), 0 .* wanted 3 x 4 nodes"):
        replace(layer, confidence=layer.confidence[1:])
    with pytest.raises(SceneError, match=r"found `north` .* 12 of its values out of range"):
        replace(layer, north=layer.north + np.nan)


# means


@given(
    geobox=geoboxes(rotated=False), slopes=st.tuples(*[st.floats(-0.4, 0.4)] * 2), nodes=st.integers(2, 9),
    tile=st.integers(1, 20), angle=st.floats(-60, 60),
)  # fmt: skip
def test_an_affine_confidence_is_exact_whatever_the_tiles(geobox, slopes, nodes, tile, angle):
    """Tiles within the lattice, turned against it or not: the mean is the value at the middle."""
    rows, cols = geobox.shape

    def confidence(col, row):
        return 0.5 + slopes[0] * (col / cols - 0.5) + slopes[1] * (row / rows - 0.5)

    at_rows, at_cols = np.meshgrid(np.linspace(0, rows, nodes), np.linspace(0, cols, nodes + 1), indexing="ij")
    layer = registration_layer(confidence(at_cols, at_rows), geobox)
    edge = 0.7 * min(rows, cols) / tile
    to_pixels = Affine.translation(cols / 2, rows / 2) * Affine.rotation(angle) * Affine.scale(edge)
    to_pixels *= Affine.translation(-tile / 2, -tile / 2)
    target = GeoBox((tile, tile), geobox.affine * to_pixels, geobox.crs)
    middles = np.mgrid[:tile, :tile] + 0.5
    found = layer.confidence_over(target)
    assert (found.dtype, found.shape) == (np.float32, (tile, tile))
    np.testing.assert_allclose(found, confidence(*(to_pixels * (middles[1], middles[0]))), atol=2e-6)


@given(layer=layers(geobox=north_up(64, 96)), tile=st.sampled_from([1, 5, 16, 40, 200]), data=st.data())
def test_means_over_tiles_are_those_of_dense_samples(layer, tile, data):
    """Oracle: scipy's linear interpolation, 100 x 100 samples a tile; also beyond the scene."""
    top, left = data.draw(st.integers(-20, 70)), data.draw(st.integers(-20, 100))
    grid = north_up(64, 96)
    target = GeoBox((2, 3), grid.affine * Affine.translation(left, top) * Affine.scale(tile), grid.crs)
    rows, cols = (np.arange(count * 100) + 0.5 for count in (2, 3))
    nodes = (layer.grid.shape[0] - 1) / 64, (layer.grid.shape[1] - 1) / 96
    places = np.meshgrid((top + rows * tile / 100) * nodes[0], (left + cols * tile / 100) * nodes[1], indexing="ij")
    dense = ndimage.map_coordinates(layer.confidence.astype(float), places, order=1, mode="nearest")
    # A quarter of the way between nodes lies between samples: a kink costs at most 1/8 of that.
    np.testing.assert_allclose(
        layer.confidence_over(target), dense.reshape(2, 100, 3, 100).mean(axis=(1, 3)), atol=0.02
    )  # fmt: skip


@given(sure=st.floats(0, 1, width=32), geobox=geoboxes(), zoom=st.floats(0.3, 50))
def test_a_constant_is_the_constant_everywhere(sure, geobox, zoom):
    layer = registration_layer(np.full((4, 3), sure), geobox)
    target = GeoBox((3, 5), geobox.affine * Affine.translation(-7, 3) * Affine.scale(zoom), geobox.crs)
    assert (layer.confidence_over(target) == np.float32(sure)).all()


def test_beyond_the_outermost_nodes_it_is_constant():
    layer = registration_layer(np.array([[0.2, 0.4], [0.6, 1.0]]), north_up(4, 4))
    found = layer.confidence_over(north_up(4, 4).pad(8))
    corners = found[[0, 0, -1, -1], [0, -1, 0, -1]]
    np.testing.assert_array_equal(corners, np.array([0.2, 0.4, 0.6, 1.0], np.float32))


def test_another_crs_is_refused():
    layer = registration_layer(np.ones((2, 2)), north_up(4, 4))
    with pytest.raises(SceneError, match=r"found a grid in EPSG:32632; wanted EPSG:32633"):
        layer.confidence_over(north_up(4, 4, crs="EPSG:32632"))


# stacks


@pytest.fixture
def stack(tmp_path):
    grid = north_up(20, 40)
    (tmp_path / "aligned").mkdir()
    path = tmp_path / "aligned" / "sar.registration.tif"
    registration_layer(np.array([[1.0, 0.0], [1.0, 0.0]]), grid).save(path)
    return AlignedStack(
        name="a", geobox=grid, modalities=("eo", "sar", "ir"), present={}, confidence={"eo": 1.0, "sar": 0.5},
        registration={"sar": path},
    )  # fmt: skip


def test_a_stack_names_its_layers_relative_to_its_own_place(stack, tmp_path):
    path = tmp_path / "aligned" / "stack.json"
    stack.save(path)
    assert AlignedStack.load(path) == stack
    assert json.loads(path.read_text())["registration"] == {"sar": "sar.registration.tif"}
    moved = (tmp_path / "aligned").rename(tmp_path / "moved")
    assert PositionConfidence.of_stack(AlignedStack.load(moved / "stack.json")).layers.keys() == {"sar"}


def test_a_description_from_before_layers_is_read(stack, tmp_path):
    path = tmp_path / "aligned" / "stack.json"
    stack.save(path)
    record = json.loads(path.read_text())
    del record["registration"]
    path.write_text(json.dumps(record))
    assert AlignedStack.load(path) == replace(stack, registration={})


@pytest.mark.parametrize("wrong", [[], "sar", {"sar": 3}, None])
def test_a_description_of_damaged_layers_is_one_clear_error(stack, tmp_path, wrong):
    path = tmp_path / "aligned" / "stack.json"
    stack.save(path)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"registration": wrong}))
    with pytest.raises(SceneError, match=r"stack\.json: found no readable stack description"):
        AlignedStack.load(path)


def test_a_model_sees_the_layers_of_its_own_sensors(stack):
    assert stack.of_modalities(("sar", "eo")).registration == stack.registration
    assert stack.of_modalities(("eo", "ir")).registration == {}


def test_a_layer_goes_before_the_number_of_the_scene(stack):
    positions = PositionConfidence.of_stack(stack)
    halves = stack.geobox.zoom_out(20)
    np.testing.assert_allclose(positions.over("sar", halves), [[0.75, 0.25]])
    assert positions.over("eo", halves) == 1.0
    assert positions.over("ir", halves) is None
