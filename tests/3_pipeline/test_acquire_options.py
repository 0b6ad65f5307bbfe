"""Options of acquire: what people type, and every mistake in one line."""

from datetime import timedelta

import numpy as np
import pytest
from fake_catalog import FakeArchive, write_area

from equipoise.datasets.catalog_items import CatalogError
from equipoise.datasets.modality import Unit
from equipoise.pipeline.acquire import acquire
from equipoise.pipeline.acquire_options import AcquireOptions, acquire_options, parse_dates, read_area
from equipoise.pipeline.errors import ConfigError

JULY = "2021-07-01/2021-07-31"


@pytest.fixture
def archive(tmp_path):
    made = FakeArchive(tmp_path, np.random.default_rng(2))
    made.sentinel2("2021-07-10T10:00:00Z")
    made.sentinel2("2021-07-20T10:00:00Z", cloud=30.0)
    return made


@pytest.fixture
def area(tmp_path):
    return write_area(tmp_path / "valley.geojson", shrink=2)


GIVEN = dict.fromkeys(("collections", "bands", "unit", "scale", "offset", "nodata"))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"max_gap": "soon"}, "--max-gap"),
        ({"dates": "2021-08-01/2021-07-01"}, "ends before it begins"),
        ({"dates": "july"}, "wanted a period"),
        ({"bands": ["eo"]}, "wanted sensor=value"),
        ({"bands": ["eo=red", "eo=nir"]}, "each sensor once"),
        ({"sensors": "eo,lidar"}, "--collections lidar=..."),
        ({"sensors": "eo,eo"}, "wanted each once"),
        ({"unit": ["eo=furlong"]}, "--unit"),
        ({"limit": 0}, "--limit"),
        ({"scale": ["ir=1"]}, "add it with --sensors"),
        ({"bands": ["eo=ultraviolet"]}, "wanted one with band 'ultraviolet'"),
        ({"dates": "1999-01-01"}, "found nothing that fits"),
        ({"max_cloud": 0.05, "sensors": "eo"}, "found nothing that fits (eo: 2 acquisition(s))"),
    ],
)
def test_a_mistake_is_one_line(archive, area, tmp_path, change, words):
    given = {"dates": JULY, "sensors": "", "allow_network": True, **GIVEN, **change}
    with pytest.raises((ConfigError, CatalogError)) as caught:
        acquire(area, str(archive.write_static()), acquire_options(**given), folder=tmp_path / "out")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "found no readable area"),
        ('{"type": "Point", "coordinates": [15, 47]}', "wanted polygons"),
        (
            '{"type": "Polygon", "coordinates": [[[5e5, 5e6], [6e5, 5e6], [6e5, 6e6], [5e5, 5e6]]]}',
            "longitude and latitude",
        ),
    ],
)
def test_an_area_that_is_none_is_one_line(tmp_path, text, words):
    (tmp_path / "area.geojson").write_text(text)
    with pytest.raises(ConfigError, match=words) as caught:
        read_area(tmp_path / "area.geojson")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "start", "end"),
    [
        ("2021-07-01/2021-07-31", "2021-07-01T00:00:00+00:00", "2021-07-31T23:59:59.999999+00:00"),
        ("2021-07-01", "2021-07-01T00:00:00+00:00", "2021-07-01T23:59:59.999999+00:00"),
        ("2021-07-01T12:00/2021-07-01T14:00+02:00", "2021-07-01T12:00:00+00:00", "2021-07-01T12:00:00+00:00"),
    ],
)
def test_a_period_is_in_utc_and_its_last_day_counts(text, start, end):
    assert tuple(moment.isoformat() for moment in parse_dates(text)) == (start, end)


@pytest.mark.parametrize(("text", "hours"), [("3d", 72), ("12h", 12), ("90m", 1.5), ("0.5d", 12)])
def test_a_gap_is_written_with_its_unit(text, hours):
    assert AcquireOptions(dates=JULY, max_gap=text).max_gap == timedelta(hours=hours)


def test_what_is_said_goes_before_what_is_known():
    given = {**GIVEN, "collections": ["eo=sentinel-2-l1c", "sar=mine"], "unit": ["sar=db"], "bands": ["sar=vv"]}
    optical, radar = acquire_options(dates=JULY, sensors="", **given).resolved_sensors()
    assert (optical.collections, optical.quality, optical.has_baseline_offset) == (("sentinel-2-l1c",), None, True)
    assert (radar.collections, radar.unit, radar.bands) == (("mine",), Unit.DB, ("vv",))


def test_a_collection_that_nobody_knows_has_no_scale_by_definition():
    (sensor,) = acquire_options(dates=JULY, sensors="", **{**GIVEN, "collections": ["eo=mine"]}).resolved_sensors()
    assert sensor.convention is None


def test_a_sensor_of_ones_own_is_described_in_full():
    given = {**GIVEN, "collections": ["dem=heights"], "bands": ["dem=data"], "unit": ["dem=digital_number"]}
    (sensor,) = acquire_options(dates=JULY, sensors="", **given).resolved_sensors()
    assert (sensor.name, sensor.bands) == ("dem", ("data",))
