"""Labels: brought onto a grid, remapped, and refused where they say what no class declares."""

import os

import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from pyproj import Transformer
from strategies import geoboxes, north_up, write_tiff

from equipoise.datasets.errors import DatasetError, LabelError
from equipoise.datasets.labels import read_labels
from equipoise.datasets.stack import IGNORE

GRID = north_up(12, 10)
SAME = {value: value for value in range(4)}


def drawn(geobox=GRID, *, seed=0, dtype="uint8", values=(0, 1, 2, 3)):
    return np.random.default_rng(seed).choice(values, geobox.shape).astype(dtype)


def write(path, values, geobox=GRID, **options):
    return write_tiff(path, values[None], geobox, **options)


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int16", "uint16", "int32", "float32"])
def test_values_on_the_same_grid_come_as_they_are(tmp_path, dtype):
    values = drawn(dtype=dtype)
    labels = read_labels(write(tmp_path / "l.tif", values), GRID, classes=SAME)
    assert labels.dtype == np.uint8
    np.testing.assert_array_equal(labels, values)


@given(
    mapping=st.dictionaries(st.integers(0, 255), st.integers(0, 254), min_size=1, max_size=9), seed=st.integers(0, 99)
)
def test_values_are_replaced_by_their_class(tmp_path_factory, mapping, seed):
    """Also where classes trade values, or where the file uses 255 for one of them."""
    values = drawn(seed=seed, values=sorted(mapping))
    path = write(tmp_path_factory.mktemp("labels") / "l.tif", values)
    expected = [[mapping[value] for value in row] for row in values.tolist()]
    np.testing.assert_array_equal(read_labels(path, GRID, classes=mapping), expected)


@pytest.mark.parametrize(
    ("dtype", "nodata"),
    [("uint8", 3), ("uint8", 0), ("int8", -1), ("int16", -9999), ("float32", np.nan), ("float32", -1)],
)
def test_nodata_and_255_are_not_labelled(tmp_path, dtype, nodata):
    values = drawn(dtype=dtype, values=(1, 2))
    expected = values.astype(np.uint8)
    values[2, :], expected[2, :] = nodata, IGNORE
    if dtype != "int8":
        values[3, 3], expected[3, 3] = 255, IGNORE
    np.testing.assert_array_equal(
        read_labels(write(tmp_path / "l.tif", values, nodata=nodata), GRID, classes={1: 1, 2: 2}), expected
    )


def test_not_a_number_is_not_labelled_even_without_a_nodata_value(tmp_path):
    values = drawn(dtype="float32")
    values[0, 0] = np.nan
    labels = read_labels(write(tmp_path / "l.tif", values), GRID, classes=SAME)
    assert (labels == IGNORE).sum() == 1


def test_values_that_no_class_declares_are_named(tmp_path):
    values = drawn(dtype="uint16")
    values[0, :3] = 7, 300, 7
    with pytest.raises(LabelError, match=r"l\.tif: found label values \[7, 300\].*`classes`.*nodata"):
        read_labels(write(tmp_path / "l.tif", values), GRID, classes=SAME)
    assert issubclass(LabelError, DatasetError)


def test_half_a_class_is_no_class(tmp_path):
    values = drawn(dtype="float32")
    values[0, 0] = 1.5
    with pytest.raises(LabelError, match=r"\[1\.5\]"):
        read_labels(write(tmp_path / "l.tif", values), GRID, classes=SAME)


# grids


def test_a_shifted_and_larger_file_is_cut_to_the_grid(tmp_path):
    wide = north_up(40, 40, left=499_950.0, top=5_300_080.0)
    values = drawn(wide)
    labels = read_labels(write(tmp_path / "l.tif", values, wide), GRID, classes=SAME)
    np.testing.assert_array_equal(labels, values[8:20, 5:15])


def test_what_the_file_does_not_cover_is_not_labelled(tmp_path):
    values = drawn(GRID[:6, :])
    labels = read_labels(write(tmp_path / "l.tif", values, GRID[:6, :]), GRID, classes=SAME)
    np.testing.assert_array_equal(labels[:6], values)
    assert (labels[6:] == IGNORE).all()


def test_finer_labels_are_sampled_and_never_mixed(tmp_path):
    fine = GeoBox((60, 50), GRID.affine * Affine.scale(0.2), GRID.crs)
    values = np.where(np.add.outer(np.arange(60), np.arange(50)) % 2 == 0, 0, 200).astype(np.uint8)
    labels = read_labels(write(tmp_path / "l.tif", values, fine), GRID, classes={0: 0, 200: 200})
    np.testing.assert_array_equal(labels, values[2::5, 2::5])


@pytest.mark.parametrize("east", [1.3, 5.0, 8.7])
def test_between_two_pixels_there_is_no_class_in_between(tmp_path, east):
    values = drawn(values=(0, 200))
    aside = north_up(12, 10, left=500_000.0 + east, top=5_300_003.7)
    labels = read_labels(write(tmp_path / "l.tif", values, aside), GRID, classes={0: 0, 200: 200})
    assert set(np.unique(labels)) <= {0, 200, IGNORE}
    assert {0, 200} <= set(np.unique(labels))


@given(geobox=geoboxes(largest=40, zones=("EPSG:32633",)))
def test_one_class_stays_that_class_on_any_grid(tmp_path_factory, geobox):
    around = GeoBox((80, 80), geobox.affine * Affine.translation(-20, -20), geobox.crs)
    path = write(tmp_path_factory.mktemp("labels") / "l.tif", np.full((80, 80), 3, np.uint8), around)
    turned = GeoBox(geobox.shape, geobox.affine * Affine.rotation(10), geobox.crs)
    assert (read_labels(path, turned, classes=SAME) == 3).all()


def test_labels_of_another_zone_land_where_they_belong(tmp_path):
    """One labelled pixel, found again by its position."""
    values = np.zeros(GRID.shape, np.uint8)
    values[7, 2] = 1
    target = GRID.to_crs("EPSG:32632", resolution=2.0)
    labels = read_labels(write(tmp_path / "l.tif", values), target, classes=SAME)
    rows, cols = np.nonzero(labels == 1)
    middle = target.pix2wld(cols.mean() + 0.5, rows.mean() + 0.5)
    back = Transformer.from_crs("EPSG:32632", "EPSG:32633", always_xy=True).transform(*middle)
    np.testing.assert_allclose(back, GRID.affine * (2.5, 7.5), atol=1.5)
    assert 15 <= rows.size <= 35  # 10 m x 10 m in pixels of 2 m, edges sampled


def test_labels_elsewhere_are_refused(tmp_path):
    path = write(tmp_path / "l.tif", drawn(), north_up(12, 10, left=600_000.0))
    with pytest.raises(LabelError, match="outside the scene's area"):
        read_labels(path, GRID, classes=SAME)


def test_chips_without_a_position_are_taken_pixel_by_pixel(tmp_path):
    chip = GeoBox(GRID.shape, Affine.identity(), None)
    path = write(tmp_path / "l.tif", drawn(), chip)
    np.testing.assert_array_equal(read_labels(path, chip, classes=SAME), drawn())
    np.testing.assert_array_equal(read_labels(path, GRID, classes=SAME), drawn())
    with pytest.raises(LabelError, match="found labels of 10 x 12 px without a position; wanted the scene's 9 x 9 px"):
        read_labels(path, north_up(9, 9), classes=SAME)


# files


def test_missing_broken_and_truncated_files_are_one_clear_error(tmp_path):
    with pytest.raises(LabelError, match=r"nowhere\.tif: found labels that cannot be read"):
        read_labels(tmp_path / "nowhere.tif", GRID, classes=SAME)
    (tmp_path / "b.tif").write_bytes(b"no raster")
    with pytest.raises(LabelError, match="cannot be read"):
        read_labels(tmp_path / "b.tif", GRID, classes=SAME)
    large = north_up(300, 300)
    path = write(tmp_path / "t.tif", drawn(large), large)
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(LabelError, match="cannot be read"):
        read_labels(path, large, classes=SAME)


def test_the_embedded_labels_are_on_their_own_grid(embedded_scene):
    with rasterio.open(embedded_scene.labels) as file:
        grid, values = GeoBox(file.shape, file.transform, file.crs), file.read(1)
    classes = {value: value for value in range(len(embedded_scene.class_names))}
    np.testing.assert_array_equal(read_labels(embedded_scene.labels, grid, classes=classes), values)
