"""Pairs in time: laws over random acquisitions, and the choices that the score makes."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from shapely.geometry import box

from equipoise.datasets.catalog_items import CatalogItem
from equipoise.datasets.pairing import Acquisition, acquisitions, pair, solar_day

AREA = box(10.0, 45.0, 11.0, 46.0)
START, END = datetime(2021, 7, 1, tzinfo=UTC), datetime(2021, 7, 31, tzinfo=UTC)


def _item(name, when, *, footprint=AREA, cloud=None, collection="c", **properties):
    return CatalogItem(
        id=name, collection=collection, acquired=when, footprint=footprint, cloud=cloud, properties=properties
    )


def _seen(day, *, cloud=None, coverage=1.0):
    when = START + timedelta(days=day)
    return Acquisition(items=(_item(f"{day}", when),), acquired=when, coverage=coverage, cloud=cloud)


def _pair(found, *, gap=3.0, **options):
    defaults = {"max_gap": timedelta(days=gap), "max_cloud": 0.4, "min_coverage": 0.5, "start": START, "end": END}
    return pair(found, **{**defaults, **options})


days = st.lists(st.floats(-5, 35), max_size=8)
shares = st.floats(0, 1)


@given(eo=st.lists(st.tuples(st.floats(-5, 35), shares, shares), max_size=6), sar=days, gap=st.floats(0.1, 6))
def test_every_pair_keeps_the_window_and_names_what_it_lacks(eo, sar, gap):
    found = {
        "eo": [_seen(day, cloud=cloud, coverage=share) for day, cloud, share in eo],
        "sar": [_seen(d) for d in sar],
    }
    for item in _pair(found, gap=gap):
        assert set(item.present) | set(item.missing) == {"eo", "sar"}
        assert not set(item.present) & set(item.missing)
        assert all(item.missing.values())
        anchor = item.present[item.reference]
        assert START <= anchor.acquired <= END
        for sensor, other in item.present.items():
            assert item.gaps[sensor] == other.acquired - anchor.acquired
            assert abs(item.gaps[sensor]) <= timedelta(days=gap)
            assert other.coverage >= 0.5
            assert other.cloud is None or other.cloud <= 0.4
        assert 0 <= item.score <= 1


@given(eo=days, sar=days)
def test_pairs_come_best_first_and_one_for_each_reference(eo, sar):
    pairings = _pair({"eo": [_seen(day, cloud=0.1) for day in eo], "sar": [_seen(day) for day in sar]})
    scores = [item.score for item in pairings]
    assert scores == sorted(scores, reverse=True)
    within = [day for day in eo if START <= START + timedelta(days=day) <= END]
    if within:
        assert len(pairings) == len(within)


@given(near=st.floats(0, 2.9), far=st.floats(0, 2.9))
def test_of_two_equal_partners_the_nearer_one_is_taken(near, far):
    (item,) = _pair({"eo": [_seen(10, cloud=0.0)], "sar": [_seen(10 + near), _seen(10 - far)]})
    assert abs(item.gaps["sar"]) <= timedelta(days=min(near, far), seconds=1e-3)


def test_a_partner_that_sees_more_of_the_area_may_be_later():
    (item,) = _pair({"eo": [_seen(10)], "sar": [_seen(10.5, coverage=0.5), _seen(12, coverage=1.0)]})
    assert item.gaps["sar"] == timedelta(days=2)


def test_the_score_is_the_one_that_is_documented():
    item = _seen(0, cloud=0.25, coverage=0.8)
    score = item.score(gap=timedelta(days=-1), max_gap=timedelta(days=2))
    assert score == pytest.approx(0.8 * 0.75 * 0.75)
    assert item.score(gap=timedelta(0), max_gap=timedelta(0)) == pytest.approx(0.6)


@pytest.mark.parametrize(
    ("sar", "why"),
    [
        ([], "no item in the period"),
        ([_seen(15.25)], r"no item within 3 days \(the nearest is 5.2 days away\)"),
        ([_seen(10, coverage=0.2)], r"none over 50% of the area \(at most 20%\)"),
    ],
)
def test_a_missing_sensor_says_why(sar, why):
    (item,) = _pair({"eo": [_seen(10, cloud=0.0)], "sar": sar})
    with pytest.raises(AssertionError, match=why):
        raise AssertionError(item.missing["sar"])


def test_a_reason_that_is_known_goes_first():
    (item,) = _pair({"eo": [_seen(10)], "sar": []}, reasons={"sar": "no item of sentinel-1-rtc in 2021-07"})
    assert item.missing == {"sar": "no item of sentinel-1-rtc in 2021-07"}


def test_without_a_usable_reference_the_next_sensor_is_it():
    (item,) = _pair({"eo": [_seen(10, cloud=0.9)], "sar": [_seen(11)]})
    assert item.reference == "sar"
    assert item.missing == {"eo": "1 acquisition(s), all with more than 40% of cloud"}


def test_nothing_usable_is_no_pair():
    assert _pair({"eo": [], "sar": []}) == []


def test_tiles_of_one_pass_are_one_acquisition():
    west, east = box(10.0, 45.0, 10.5, 46.0), box(10.5, 45.0, 11.0, 46.0)
    moment = datetime(2021, 7, 3, 10, tzinfo=UTC)
    items = [
        _item("a", moment, footprint=west, cloud=0.2, platform="s2a"),
        _item("b", moment + timedelta(seconds=20), footprint=east, cloud=0.6, platform="s2a"),
        _item("c", moment, footprint=west, cloud=0.0, platform="s2b"),
    ]
    first, second = sorted(acquisitions(items, AREA), key=lambda item: -item.coverage)
    assert [item.id for item in first.items] == ["a", "b"]
    assert first.coverage == pytest.approx(1.0)
    assert first.cloud == pytest.approx(0.4)
    assert first.acquired == moment + timedelta(seconds=10)
    assert second.coverage == pytest.approx(0.5)


def test_of_two_versions_of_a_tile_the_last_processed_is_kept():
    moment = datetime(2021, 7, 3, 10, tzinfo=UTC)
    versions = [
        _item(name, moment, **{"s2:mgrs_tile": "33UVP", "s2:processing_baseline": baseline})
        for name, baseline in (("new", "05.00"), ("old", "02.14"))
    ]
    (only,) = acquisitions(versions, AREA)
    assert [item.id for item in only.items] == ["new"]


def test_a_pass_over_the_antimeridian_is_one_day():
    # 23:59 and 00:01 UTC at 179 degrees east: about noon, the same solar day.
    place = box(178.5, 0, 179.5, 1)
    late = _item("a", datetime(2021, 7, 3, 23, 59, tzinfo=UTC), footprint=place)
    early = _item("b", datetime(2021, 7, 4, 0, 1, tzinfo=UTC), footprint=place)
    assert solar_day(late) == solar_day(early)
    assert len(acquisitions([late, early], place)) == 1
