"""Stacks and patch indices show themselves in notebooks: what they hold, with names escaped."""

from pathlib import Path

import shapely
import xarray as xr
from affine import Affine
from odc.geo.crs import CRS
from odc.geo.geobox import GeoBox

from equipoise.datasets.modality import Band, Modality, Unit
from equipoise.datasets.notebook_view import crs_words
from equipoise.datasets.patches import PatchIndex
from equipoise.datasets.scene import Scene
from equipoise.datasets.stack import AlignedStack


def test_a_stack_tells_what_is_there_and_why_the_rest_is_not():
    grid = GeoBox((30, 40), Affine(10, 0, 500_000, 0, -10, 5_000_000), "EPSG:32633")
    stack = AlignedStack(
        name="<script>", geobox=grid, modalities=("eo", "sar"), present={"eo": Path("eo.tif")},
        missing={"sar": "no <file>"},
    )  # fmt: skip
    page = stack._repr_html_()
    assert "<script" not in page
    for words in ("&lt;script&gt;", "30 rows x 40 columns, EPSG:32633", "eo.tif", "missing: no &lt;file&gt;"):
        assert words in page


def test_an_index_tells_its_patches_a_split():
    rows = [
        {"scene": "a", "split": split, "geometry": shapely.box(0, 0, 1, 1)} for split in ("train", "train", "<test>")
    ]
    page = PatchIndex.from_rows(rows, modalities=("eo", "sar"), georeferenced=True)._repr_html_()
    for words in ("3 patches", "eo, sar", "<th>train</th><td>2</td>", "<th>&lt;test&gt;</th><td>1</td>"):
        assert words in page


def test_a_scene_tells_the_units_that_it_is_read_in():
    modality = Modality(name="sar", bands=(Band(name="V<V>", unit=Unit.DB),))
    grid = GeoBox((3, 4), Affine(10, 0, 0, 0, -10, 0), None)
    page = Scene(modality=modality, path=Path("a&b.tif"), data=xr.DataArray(), geobox=grid)._repr_html_()
    for words in (
        "Scene of sar",
        "a&amp;b.tif",
        "3 rows x 4 columns, no CRS",
        "V&lt;V&gt; (linear_power)",
        "not known",
    ):
        assert words in page


def test_systems_are_named_by_their_code_where_they_have_one():
    code, odd = CRS("EPSG:32633"), CRS("+proj=laea +lat_0=10 +lon_0=20 +type=crs")
    assert crs_words(CRS(code.to_wkt())) == "EPSG:32633"
    assert crs_words(odd) == str(odd)
    assert crs_words(None) == ""
