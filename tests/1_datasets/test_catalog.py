"""Catalogs: a real STAC search API on loopback and the same items on disk answer alike; hrefs stay in place."""

import contextlib
import json
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from fake_catalog import FakeArchive, file_server, stac_server
from hypothesis import given
from hypothesis import strategies as st
from shapely.geometry import box, shape

from equipoise.datasets import catalog
from equipoise.datasets.catalog import search_items
from equipoise.datasets.catalog_items import CatalogError, RemoteHrefs, read_item
from equipoise.datasets.pairing import acquisitions

START, END = datetime(2021, 7, 1, tzinfo=UTC), datetime(2021, 7, 31, tzinfo=UTC)
COLLECTIONS = ("sentinel-2-l2a", "sentinel-1-rtc")


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """Five items, three of them within the period and the collections."""
    made = FakeArchive(tmp_path_factory.mktemp("archive"), np.random.default_rng(1), base="http://127.0.0.1:9/")
    made.sentinel2("2021-07-10T10:00:00Z")
    made.sentinel2("2021-07-12T10:00:00Z", cloud=80.0)
    made.sentinel2("2021-09-12T10:00:00Z")
    made.sentinel1("2021-07-11T05:00:00Z")
    made.landsat("2021-07-11T09:00:00Z")
    return made


@pytest.fixture(scope="module")
def area(archive):
    return shape(archive.items[0]["geometry"]).buffer(-0.002)


@pytest.fixture(scope="module")
def api(archive, tmp_path_factory):
    with stac_server(archive.items, tmp_path_factory.mktemp("api")) as url:
        yield url


def _search(where, area, *, collections=COLLECTIONS, **options):
    return search_items(str(where), area=area, start=START, end=END, collections=collections, **options)


def test_an_api_and_a_static_catalog_answer_alike(archive, area, api):
    static = _search(archive.write_static(), area, allow_network=True)
    remote = _search(api, area)
    assert [item.id for item in remote] == ["S2B_20210710", "S1A_20210711_rtc", "S2B_20210712"]
    assert [item.id for item in static] == [item.id for item in remote]
    for one, other in zip(static, remote, strict=True):
        assert (one.collection, one.acquired, one.cloud, dict(one.assets)) == (
            other.collection, other.acquired, other.cloud, dict(other.assets),
        )  # fmt: skip
        assert one.footprint.equals(other.footprint)


def test_what_an_item_says_is_read(api, area):
    item = _search(api, area)[0]
    assert item.acquired == datetime(2021, 7, 10, 10, tzinfo=UTC)
    assert item.cloud == pytest.approx(0.1)
    asset = item.assets["blue"]
    assert asset.checksum.startswith("1220")
    assert asset.size > 1000
    assert asset.problem is None


@pytest.mark.parametrize(
    ("name", "text"),
    [("a", "<html/>"), ("b", "{}"), ("c", "[]"), ("d", '{"type": "Feature"}'),
     ("e", '{"type": "Catalog", "id": "x", "description": "x", "stac_version": "1.0.0", "links": []}')],
)  # fmt: skip
def test_an_address_of_something_else_is_one_line(area, tmp_path, name, text):
    (tmp_path / name).write_text(text)
    with file_server(tmp_path) as server, pytest.raises(CatalogError, match="wanted ") as caught:
        _search(server.url + name, area)
    assert "\n" not in str(caught.value)


def test_an_answer_of_many_pages_is_read_to_its_end(archive, area, tmp_path):
    items = [{**archive.items[0], "id": f"S2B_{number}"} for number in range(230)]
    with stac_server(items, tmp_path) as url:
        found = _search(url, area)
    assert len({item.id for item in found}) == 230


@pytest.mark.parametrize("kind", ["folder", "collection", "item", "item collection"])
def test_any_part_of_a_static_catalog_can_be_named(archive, area, tmp_path, kind):
    root = archive.write_static()
    (tmp_path / "all.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": archive.items}))
    path = {
        "folder": root.parent, "collection": root.with_name("sentinel-2-l2a.json"),
        "item": root.with_name("S2B_20210710.json"), "item collection": tmp_path / "all.geojson",
    }[kind]  # fmt: skip
    found = [item.id for item in _search(path, area, allow_network=True)]
    assert found[0] == "S2B_20210710"
    assert len(found) == {"folder": 3, "collection": 2, "item": 1, "item collection": 3}[kind]


def test_an_area_elsewhere_finds_nothing(archive, api):
    assert _search(api, box(-50, 0, -49, 1)) == []
    assert _search(archive.write_static(), box(-50, 0, -49, 1)) == []


def test_a_collection_that_the_api_lacks_is_no_error(api, area):
    assert _search(api, area, collections=("nobody-has-this",)) == []


def test_an_address_without_an_api_is_one_line(area, monkeypatch):
    monkeypatch.setattr(catalog, "BACKOFF", 0.001)
    with pytest.raises(CatalogError, match="found no STAC search API that answers") as caught:
        _search("http://127.0.0.1:9", area)
    assert "\n" not in str(caught.value)
    assert "refused" in str(caught.value)


def test_a_server_that_knows_nothing_of_the_address_gives_its_status(area, tmp_path):
    with (
        file_server(tmp_path) as server,
        pytest.raises(CatalogError, match=r"that answers \(HTTP status 404\); wanted"),
    ):
        _search(server.url + "stac", area)


@pytest.mark.parametrize(
    ("record", "words"),
    [
        ({"type": "FeatureCollection", "features": None}, "found 'features' that is no list .*null"),
        ({"type": "FeatureCollection", "features": [1]}, "found 'features' that is no list .*1"),
        ({"type": "Catalog", "links": None}, "found 'links' that is no list .*null"),
        ({"type": "Catalog", "links": ["x"]}, "found 'links' that is no list .*x"),
        ({"type": "Catalog", "links": [{"rel": "item", "href": "a\0b"}]}, "null"),
        ({"type": "Catalog", "links": [{"rel": "item", "href": "http://["}]}, "found the address"),
    ],
)
def test_a_malformed_catalog_is_refused_in_one_line(tmp_path, area, record, words):
    (tmp_path / "x.json").write_text(json.dumps(record))
    with pytest.raises(CatalogError, match=words) as caught:
        _search(tmp_path / "x.json", area)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("href", ["/etc/hostname", "../outside.tif", "file:///etc/hostname", "s3://bucket/key.tif"])
def test_an_asset_outside_of_the_catalog_carries_the_reason(archive, area, tmp_path, href):
    record = {**archive.items[0], "assets": {"blue": {"href": href}, "red": {"href": "./red.tif"}}}
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "item.json").write_text(json.dumps(record))
    (item,) = _search(tmp_path / "in" / "item.json", area)
    assert "wanted only relative ones that stay inside" in item.assets["blue"].problem
    assert item.assets["red"].problem is None
    assert item.assets["red"].href == str((tmp_path / "in" / "red.tif").resolve())


def test_a_symbolic_link_out_of_the_catalog_is_seen_through(archive, area, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "secret.tif").touch()
    (tmp_path / "in" / "blue.tif").symlink_to(tmp_path / "secret.tif")
    record = {**archive.items[0], "assets": {"blue": {"href": "./blue.tif"}}}
    (tmp_path / "in" / "item.json").write_text(json.dumps(record))
    (item,) = _search(tmp_path / "in" / "item.json", area)
    assert item.assets["blue"].problem is not None


def test_a_catalog_on_disk_reaches_the_network_only_if_it_may(archive, area):
    root = archive.write_static()
    assert "--allow-network" in _search(root, area)[0].assets["blue"].problem
    assert _search(root, area, allow_network=True)[0].assets["blue"].problem is None


@pytest.mark.parametrize("href", ["/etc/hostname", "file:///etc/hostname", "s3://bucket/key.tif"])
def test_an_api_cannot_name_files_of_this_machine(archive, area, tmp_path, href):
    record = {**archive.items[0], "assets": {"blue": {"href": href}}}
    with stac_server([record], tmp_path) as url:
        (item,) = _search(url, area)
    assert "wanted http(s)" in item.assets["blue"].problem


@pytest.mark.parametrize("href", ["../other/catalog.json", "/etc/catalog.json", "http://127.0.0.1:9/catalog.json"])
def test_a_link_out_of_the_catalog_is_refused(tmp_path, area, href):
    (tmp_path / "catalog.json").write_text(json.dumps({"type": "Catalog", "links": [{"rel": "child", "href": href}]}))
    with pytest.raises(CatalogError, match="wanted only relative ones"):
        _search(tmp_path, area)


def test_a_catalog_that_names_itself_ends(tmp_path, area):
    links = [{"rel": "child", "href": "./catalog.json"}]
    (tmp_path / "catalog.json").write_text(json.dumps({"type": "Catalog", "links": links}))
    assert _search(tmp_path, area) == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "no readable JSON"),
        ("[1]", "no object"),
        ('{"type": "Topology"}', "wanted a STAC catalog"),
        ("\xff", "JSON"),
    ],
)
def test_a_file_that_is_no_catalog_is_one_line(tmp_path, area, text, words):
    (tmp_path / "x.json").write_text(text, encoding="latin-1")
    with pytest.raises(CatalogError, match=words) as caught:
        _search(tmp_path / "x.json", area)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "change",
    [
        {"properties": {}},
        {"geometry": None, "bbox": None},
        {"assets": None},
        {"properties": {"datetime": "?"}},
        {"properties": {"datetime": "2021-07-10", "s2:mgrs_tile": ["33TWN"]}},
        {"properties": {"datetime": "2021-07-10", "sat:relative_orbit": {"number": 44}}},
        {"geometry": None, "bbox": [0.0, 0.0, 1e30, 1.0]},
        {"geometry": None, "bbox": [0.0, 0.0, 1.0, 91.0]},
    ],
)
def test_an_item_without_time_place_or_files_is_one_line(archive, change):
    with pytest.raises(CatalogError, match="item 'S2B_20210710': found no usable item"):
        read_item({**archive.items[0], **change}, resolve=str)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@given(data=st.data(), value=JSON)
def test_an_item_with_anything_in_it_is_read_or_refused(archive, data, value):
    record = json.loads(json.dumps(archive.items[0]))
    record["assets"]["blue"]["raster:bands"] = [{"scale": 1.0}]
    place = record
    while True:
        key = data.draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place))))
        if isinstance(place[key], dict | list) and place[key] and data.draw(st.booleans()):
            place = place[key]
            continue
        place[key] = value
        break
    with contextlib.suppress(CatalogError):
        item = read_item(record, resolve=RemoteHrefs("here"))
        assert item.acquired.utcoffset() == timedelta(0)
        assert item.cloud is None or 0 <= item.cloud <= 1
        acquisitions([item], item.footprint if item.footprint.area else box(0, 0, 1, 1))


def test_bands_of_both_versions_of_the_standard_are_read(archive):
    old = {"eo:bands": [{"name": "B04", "common_name": "red"}], "raster:bands": [{"scale": 1e-4, "offset": -0.1}]}
    new = {"bands": [{"name": "B04", "eo:common_name": "red", "raster:scale": 1e-4, "raster:offset": -0.1}]}
    flat = {"bands": [{"name": "B04", "eo:common_name": "red"}], "raster:scale": 1e-4, "raster:offset": -0.1}
    found = []
    for bands in (old, new, flat):
        item = read_item({**archive.items[0], "assets": {"red": {"href": "x", **bands}}}, resolve=str)
        found.append(item.assets["red"].bands)
    assert found[0] == found[1] == found[2]
    (band,) = found[0]
    assert (band.name, band.common_name, band.scale, band.offset) == ("B04", "red", 1e-4, -0.1)


def test_nodata_may_be_written_as_text(archive):
    bands = {"raster:bands": [{"nodata": "nan"}, {"nodata": -9999}, {}]}
    item = read_item({**archive.items[0], "assets": {"red": {"href": "x", **bands}}}, resolve=str)
    first, second, third = (band.nodata for band in item.assets["red"].bands)
    assert np.isnan(first)
    assert (second, third) == (-9999.0, None)
