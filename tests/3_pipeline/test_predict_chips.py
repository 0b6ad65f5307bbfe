"""Chips: one row each, the same in GeoParquet and GeoPackage."""

from dataclasses import replace

import geopandas as gpd
import numpy as np
import pytest
import rasterio
from affine import Affine
from odc.geo.geobox import GeoBox

from equipoise.pipeline import chip_map
from equipoise.pipeline.predict_chips import predict_chips


@pytest.fixture
def predictor(make_predictor, pixel_network):
    """Classes by the mean evidence of the chip."""

    class ChipNetwork(pixel_network):
        def decode(self, fused, *, size):
            return super().decode(fused, size=size).mean(dim=(2, 3))

    return make_predictor(ChipNetwork(("eo", "sar")), bands={"eo": 2, "sar": 2}, classes=2)


@pytest.fixture
def chips(write_stack, tmp_path):
    """Three chips: optics tell the first, radar the second, nobody the third."""
    evidence = {"first": (3.0, 0.0), "second": (0.0, 3.0), "third": (0.0, 0.0)}
    stacks = []
    for column, (name, (eo, sar)) in enumerate(evidence.items()):
        (tmp_path / name).mkdir()
        ones = np.ones((2, 16, 16))
        images = {"eo": ones * [[[eo]], [[0]]], "sar": ones * [[[0]], [[sar]]]}
        stack = write_stack(tmp_path / name, images, name=name)
        stacks.append(replace(stack, geobox=stack.geobox.translate_pix(16 * column, 0)))
    return stacks


def test_both_tables_hold_the_same(chips, predictor, tmp_path):
    path = tmp_path / "chips.parquet"
    for _ in range(2):  # a second time over the first
        written, figures = predict_chips(chips, predictor, batch_size=2, size=16, path=path, geopackage=True)
    assert written == [path, path.with_suffix(".gpkg"), path.with_suffix(".tif"), tmp_path / "chips.tif.aux.xml"]
    assert figures["chips"] == 3
    table, package = gpd.read_parquet(path), gpd.read_file(tmp_path / "chips.gpkg", layer="chips")
    assert table["class_value"].tolist()[:2] == [10, 20]
    assert table["reliance_eo"].tolist()[:2] == pytest.approx([1, 0], abs=1e-6)
    assert np.isnan(table["reliance_eo"].iloc[2])
    assert package.crs == table.crs
    assert package.geometry.geom_equals_exact(table.geometry, 1e-9).all()
    for column in table.columns.drop("geometry"):
        assert package[column].astype(object).where(package[column].notna(), None).tolist() == (
            table[column].astype(object).where(table[column].notna(), None).tolist()
        )


def test_chips_without_a_position_lie_in_pixels(chips, predictor, tmp_path):
    bare = [replace(stack, geobox=GeoBox((16, 16), stack.geobox.affine, None)) for stack in chips]
    predict_chips(bare, predictor, batch_size=2, size=16, path=tmp_path / "chips.parquet", geopackage=True)
    package = gpd.read_file(tmp_path / "chips.gpkg")
    assert len(package) == 3
    assert package.total_bounds.tolist() == [0, 0, 16, 16]


def test_the_map_has_a_pixel_a_chip(chips, predictor, tmp_path):
    path = tmp_path / "chips.parquet"
    written, _ = predict_chips(chips, predictor, batch_size=2, size=16, path=path)
    assert path.with_suffix(".tif") in written
    table = gpd.read_parquet(path)
    with rasterio.open(path.with_suffix(".tif")) as source:
        assert source.shape == (1, 3)
        assert source.crs == chips[0].geobox.crs.to_wkt()
        assert source.transform == chips[0].geobox.affine * Affine.scale(16)
        np.testing.assert_array_equal(source.read(1)[0], table["class_value"])
        assert source.tags()["class_10"] == "class <0>"


def test_chips_apart_leave_gaps_and_too_far_apart_make_no_map(chips, predictor, tmp_path, monkeypatch):
    apart = [chips[0], replace(chips[1], geobox=chips[1].geobox.translate_pix(32, 48))]
    path = tmp_path / "chips.parquet"
    predict_chips(apart, predictor, batch_size=2, size=16, path=path)
    with rasterio.open(path.with_suffix(".tif")) as source:
        classes = source.read(1)
    assert classes.shape == (4, 4)
    assert classes[0, 0] == 10
    assert classes[3, 3] == 20
    assert (classes == 255).sum() == 14
    monkeypatch.setattr(chip_map, "MOST_PIXELS", 15)
    path.with_suffix(".tif").unlink()
    written, _ = predict_chips(apart, predictor, batch_size=2, size=16, path=path)
    assert written == [path]


def test_chips_without_a_position_have_no_map(chips, predictor, tmp_path):
    nowhere = [replace(chip, geobox=GeoBox(chip.geobox.shape, chip.geobox.affine, None)) for chip in chips]
    path = tmp_path / "chips.parquet"
    written, _ = predict_chips(nowhere, predictor, batch_size=2, size=16, path=path)
    assert written == [path]


def test_contributions_are_columns_and_sum_to_what_was_gained(chips, predictor, tmp_path):
    path = tmp_path / "chips.parquet"
    predict_chips(chips, predictor, batch_size=2, size=16, path=path, with_contributions=True)
    table = gpd.read_parquet(path)
    gained = table["contribution_eo"] + table["contribution_sar"]
    np.testing.assert_allclose(gained, table["confidence"] - 0.5, atol=1e-6)
    assert table["contribution_eo"][0] > 0.4 > 1e-3 > abs(table["contribution_sar"][0])
    assert "synergy" in table
