"""Chips: one row each, the same in GeoParquet and GeoPackage."""

from dataclasses import replace

import geopandas as gpd
import numpy as np
import pytest
from odc.geo.geobox import GeoBox

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
    assert written == [path, tmp_path / "chips.gpkg"]
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
