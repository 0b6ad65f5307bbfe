"""Scale and offset: from the item's own words, never applied twice, never guessed."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from shapely.geometry import box

from equipoise.datasets.asset_values import FileValues, calibration, find_band, product_metadata, read_boa_offset
from equipoise.datasets.catalog_items import AssetBand, CatalogAsset, CatalogError, CatalogItem
from equipoise.datasets.modality import Unit
from equipoise.datasets.sensors import KNOWN_SENSORS, Sensor

EO, SAR, IR = KNOWN_SENSORS["eo"], KNOWN_SENSORS["sar"], KNOWN_SENSORS["ir"]
COUNTS, FLOATS = FileValues(is_integer=True), FileValues(is_integer=False)

MTD = (
    '<?xml version="1.0"?><n1:Level-2A_User_Product xmlns:n1="https://psd-14.sentinel2.eo.esa.int/PSD/User.xsd">'
    "<n1:General_Info><QUANTIFICATION_VALUES_LIST><BOA_QUANTIFICATION_VALUE>10000</BOA_QUANTIFICATION_VALUE>"
    "</QUANTIFICATION_VALUES_LIST>{offsets}</n1:General_Info></n1:Level-2A_User_Product>"
)
OFFSETS = "".join(f'<BOA_ADD_OFFSET band_id="{i}">-1000</BOA_ADD_OFFSET>' for i in range(13))


def _item(assets=(), **properties):
    return CatalogItem(
        id="x", collection="c", acquired=datetime(2023, 7, 1, tzinfo=UTC), footprint=box(0, 0, 1, 1), cloud=None,
        properties=properties, assets={asset.key: asset for asset in assets},
    )  # fmt: skip


def _asset(key="red", **band):
    return CatalogAsset(key=key, href=f"/{key}.tif", bands=(AssetBand(**band),))


def _values(sensor, asset, *, file=COUNTS, metadata=None, **properties):
    found = calibration(_item([asset], **properties), asset, 1, sensor, file=file, metadata=metadata)
    return found.scale, found.offset


@pytest.mark.parametrize(
    ("declared", "properties", "offset"),
    [
        # Earth Search v1: the flag goes before raster:bands, whose -0.1 is then in the numbers already.
        ({"scale": 1e-4, "offset": -0.1}, {"earthsearch:boa_offset_applied": True}, 0.0),
        ({"scale": 1e-4, "offset": -0.1}, {"earthsearch:boa_offset_applied": False}, -0.1),
        ({"scale": 1e-4, "offset": 0}, {"earthsearch:boa_offset_applied": False}, 0.0),
        ({"scale": 1e-4}, {"sentinel:boa_offset_applied": True, "s2:processing_baseline": "05.09"}, 0.0),
        # Collection 1 there has no flag; its offset is to be applied.
        ({"scale": 1e-4, "offset": -0.1}, {"s2:processing_baseline": "05.00"}, -0.1),
        # Nothing is declared, and nothing is needed.
        ({}, {"s2:processing_baseline": "03.01"}, 0.0),
    ],
)
def test_the_radiometric_offset_is_the_one_that_is_declared(declared, properties, offset):
    assert _values(EO, _asset(**declared), **properties) == (1e-4, offset)


@pytest.mark.parametrize(
    "properties", [{}, {"s2:processing_baseline": "04.00"}, {"earthsearch:boa_offset_applied": False}]
)
def test_an_offset_that_nothing_tells_is_asked_for(properties):
    with pytest.raises(CatalogError, match=r"give --offset eo=-0\.1"):
        _values(EO, _asset(), **properties)
    assert _values(replace(EO, offset=-0.1), _asset(), **properties) == (1e-4, -0.1)


def test_a_sentinel2_item_of_a_collection_that_nobody_knows_is_treated_alike():
    own = Sensor(name="eo", collections=("mine",), bands=("red",), unit=Unit.REFLECTANCE, scale=1e-4)
    with pytest.raises(CatalogError, match=r"processing baseline 05\.10"):
        _values(own, _asset(), **{"s2:processing_baseline": "05.10"})


def test_an_offset_before_baseline_four_is_a_contradiction():
    with pytest.raises(CatalogError, match=r"wanted none before 04\.00"):
        _values(EO, _asset(offset=-0.1), **{"s2:processing_baseline": "02.14"})


def test_the_products_own_metadata_tell_what_the_item_does_not(tmp_path):
    path = tmp_path / "MTD_MSIL2A.xml"
    path.write_text(MTD.format(offsets=OFFSETS))
    assert _values(EO, _asset(), metadata=path, **{"s2:processing_baseline": "05.09"}) == (1e-4, -0.1)
    path.write_text(MTD.format(offsets=""))
    assert read_boa_offset(path) == 0.0


def test_the_products_metadata_are_fetched_only_where_they_decide():
    metadata = CatalogAsset(key="product-metadata", href="/MTD_MSIL2A.xml")
    silent = [_asset(name) for name in EO.bands]
    assert product_metadata(_item([*silent, metadata]), EO) is metadata
    assert product_metadata(_item(silent), EO) is None
    assert product_metadata(_item([*silent, metadata], **{"earthsearch:boa_offset_applied": True}), EO) is None
    assert product_metadata(_item([*silent, metadata]), replace(EO, offset=0.0)) is None
    assert product_metadata(_item([_asset("vv"), _asset("vh"), metadata]), SAR) is None
    telling = [_asset(name, offset=-0.1) for name in EO.bands]
    assert product_metadata(_item([*telling, metadata]), EO) is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('<!DOCTYPE x [<!ENTITY a "b">]><x/>', "definitions of its own"),
        ("<x", "no readable XML"),
        ("<x/>", "found quantification values"),
        (MTD.format(offsets=OFFSETS.replace("-1000", "-900", 1)), "found quantification values"),
    ],
)
def test_other_xml_is_refused(tmp_path, text, words):
    (tmp_path / "x.xml").write_text(text)
    with pytest.raises(CatalogError, match=words):
        read_boa_offset(tmp_path / "x.xml")


def test_the_order_of_precedence_of_a_scale():
    file = FileValues(is_integer=True, scale=0.01, offset=100.0)
    assert _values(replace(IR, scale=0.5, offset=1.0), _asset(scale=0.2), file=file) == (0.5, 1.0)
    assert _values(IR, _asset(scale=0.00341802, offset=149.0), file=file) == (0.00341802, 149.0)
    assert _values(IR, _asset(), file=file) == (0.01, 100.0)
    assert _values(SAR, _asset(), file=FLOATS) == (1.0, 0.0)


def test_integers_without_a_scale_are_refused():
    with pytest.raises(CatalogError, match=r"found integers .* give it with --scale ir="):
        _values(IR, _asset())
    raw = Sensor(name="x", collections=("c",), bands=("red",), unit=Unit.DIGITAL_NUMBER)
    assert _values(raw, _asset(scale=3.0, offset=2.0)) == (1.0, 0.0)


@pytest.mark.parametrize("key", ["red", "B04", "B04_10m", "b04"])
def test_a_band_is_found_under_the_keys_of_the_known_catalogs(key):
    assert find_band(_item([_asset("visual"), _asset(key)]), "red", EO)[0].key == key


def test_a_band_is_found_by_what_the_item_declares():
    picture = CatalogAsset(key="tci", href="/t", bands=(AssetBand(common_name="red"), AssetBand(common_name="green")))
    many = CatalogAsset(key="data", href="/d", bands=(AssetBand(name="VV"), AssetBand(name="VH")))
    single = _asset("band-4", common_name="red")
    item = _item([picture, many, single])
    assert find_band(item, "red", EO) == (single, 1)
    assert find_band(item, "vh", SAR) == (many, 2)
    with pytest.raises(CatalogError, match="found assets tci, data, band-4; wanted one with band 'nir'"):
        find_band(item, "nir", EO)


def test_an_asset_that_may_not_be_used_is_refused_when_it_is_wanted():
    with pytest.raises(CatalogError, match="the reason"):
        find_band(_item([replace(_asset("red"), problem="the reason")]), "red", EO)
