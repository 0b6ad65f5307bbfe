"""Rasters on disk: Cloud Optimized, complete or not there at all."""

import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from strategies import geoboxes, north_up

from equipoise.datasets.raster import TILE, cog_writer

GRID = north_up(700, 600)
COLOURS = {0: (1, 2, 3), 1: (250, 128, 7), 254: (9, 9, 9)}


def written(path, values, grid=GRID, *, nodata=None, overviews="average", **more):
    count, dtype = values.shape[0], str(values.dtype)
    with cog_writer(
        path, grid, count=count, dtype=dtype, nodata=nodata, overview_resampling=overviews, **more
    ) as writer:
        writer.write(values)
    return path


def random_values(shape, dtype):
    rng = np.random.default_rng(1)
    return (rng.random(shape) * 200).astype(dtype)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "float32", "float64"])
def test_values_come_back_bit_for_bit_in_a_tiled_cog(tmp_path, dtype):
    values = random_values((2, *GRID.shape), dtype)
    path = written(tmp_path / "a.tif", values, nodata=0)
    with rasterio.open(path) as file:
        np.testing.assert_array_equal(file.read(), values)
        assert file.block_shapes == [(TILE, TILE)] * 2
        assert file.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert file.overviews(1) == [2, 4]
        assert (file.nodata, file.dtypes) == (0, (dtype,) * 2)
        assert (file.transform, file.crs) == (GRID.affine, GRID.crs)


def test_descriptions_tags_and_palette_survive(tmp_path):
    path = written(
        tmp_path / "a.tif", random_values((1, *GRID.shape), "uint8"), nodata=255, overviews="mode",
        descriptions=("class",), tags={"class_names": "a,b", "model": "x" * 40}, colours=COLOURS,
    )  # fmt: skip
    with rasterio.open(path) as file:
        assert file.descriptions == ("class",)
        assert file.tags()["class_names"] == "a,b"
        assert file.tags()["model"] == "x" * 40
        assert file.nodata == 255
        assert {value: file.colormap(1)[value] for value in COLOURS} == {
            value: (*rgb, 255) for value, rgb in COLOURS.items()
        }
    assert [file.name for file in tmp_path.iterdir()] == ["a.tif"]


def test_nodata_that_is_not_a_number_survives(tmp_path):
    values = random_values((3, *GRID.shape), "float32")
    values[:, :300] = np.nan
    path = written(tmp_path / "a.tif", values, nodata=float("nan"), descriptions=("eo", "sar", "ir"))
    with rasterio.open(path) as file:
        assert np.isnan(file.nodata)
        assert file.descriptions == ("eo", "sar", "ir")
        np.testing.assert_array_equal(file.read(), values)


def test_overviews_of_classes_invent_no_class_and_those_of_values_average(tmp_path):
    classes = np.where(np.add.outer(np.arange(700), np.arange(600)) % 3 == 0, 7, 1).astype(np.uint8)[None]
    for overviews, expected in (("mode", {1, 7}), ("average", None)):
        path = written(tmp_path / f"{overviews}.tif", classes, overviews=overviews)
        with rasterio.open(path, overview_level=0) as file:
            small = file.read(1)
        if expected is not None:
            assert set(np.unique(small)) <= expected
        else:
            assert set(np.unique(small)) - {1, 7}
            assert abs(small.mean() - classes.mean()) < 0.6  # whole numbers: each mean is rounded


@settings(max_examples=15)
@given(geobox=geoboxes(largest=61), in_rows=st.integers(1, 61))
def test_any_grid_survives_whatever_the_rows_at_once(tmp_path_factory, geobox, in_rows):
    """Also one pixel, one column, rotated grids; written some rows at a time and compared with rasterio."""
    path = tmp_path_factory.mktemp("cog") / "a.tif"
    values = random_values((1, *geobox.shape), "float32")
    with cog_writer(path, geobox, count=1, dtype="float32", nodata=None, overview_resampling="average") as writer:
        for row in range(0, geobox.shape[0], in_rows):
            part = values[:, row : row + in_rows]
            writer.write(part, window=((row, row + part.shape[1]), (0, geobox.shape[1])))
    with rasterio.open(path) as file:
        np.testing.assert_array_equal(file.read(), values)
        assert GeoBox(file.shape, file.transform, file.crs) == geobox


def test_a_chip_without_a_position_is_written_in_silence(tmp_path):
    chip = GeoBox((64, 64), Affine.identity(), None)
    path = written(tmp_path / "a.tif", random_values((1, 64, 64), "uint8"), chip)
    with rasterio.open(path) as file:
        assert file.crs is None
        assert file.transform == Affine.identity()


def test_folders_are_made_and_nothing_is_left_beside_the_file(tmp_path):
    path = written(tmp_path / "deep" / "er" / "a.tif", random_values((1, 9, 9), "uint8"), north_up(9, 9))
    assert list(path.parent.iterdir()) == [path]


def test_an_error_while_writing_leaves_no_file(tmp_path):
    def interrupted():
        with cog_writer(
            tmp_path / "a.tif", GRID, count=1, dtype="uint8", nodata=255, overview_resampling="mode", colours=COLOURS,
            descriptions=("class",), tags={"a": "b"},
        ) as writer:  # fmt: skip
            writer.write(np.ones((1, 256, 600), np.uint8), window=((0, 256), (0, 600)))
            assert list(tmp_path.iterdir())  # the temporary file is there, and goes
            raise KeyError("interrupted")

    with pytest.raises(KeyError, match="interrupted"):
        interrupted()
    assert list(tmp_path.iterdir()) == []


def test_an_error_while_writing_leaves_the_older_file_as_it_was(tmp_path):
    path = written(tmp_path / "a.tif", random_values((1, *GRID.shape), "uint8"))
    before = path.read_bytes()
    with (
        pytest.raises(KeyboardInterrupt),
        cog_writer(path, GRID, count=1, dtype="uint8", nodata=None, overview_resampling="mode"),
    ):
        raise KeyboardInterrupt
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_an_error_of_the_copy_leaves_no_file(tmp_path):
    with (
        pytest.raises(Exception, match="resampling"),
        cog_writer(tmp_path / "a.tif", GRID, count=1, dtype="uint8", nodata=None, overview_resampling="no such rule"),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_second_writing_replaces_the_first(tmp_path):
    written(tmp_path / "a.tif", np.zeros((1, 9, 9), np.uint8), north_up(9, 9))
    path = written(tmp_path / "a.tif", np.ones((2, 5, 5), np.uint16), north_up(5, 5))
    with rasterio.open(path) as file:
        assert (file.count, file.shape, file.dtypes[0]) == (2, (5, 5), "uint16")
