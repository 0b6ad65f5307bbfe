"""Acquisition dates: hand-computed values, what is not known stays so, late priors are refused."""

import numpy as np
import pytest
import rasterio

from equipoise.datasets.acquisition_dates import check_priors, date_key, date_values, parse_time
from equipoise.datasets.errors import SceneError
from equipoise.datasets.modality import Band, Modality, Unit
from equipoise.datasets.normalise import Normaliser
from equipoise.datasets.stack import StackWindow
from equipoise.datasets.statistics import BandStatistics
from equipoise.datasets.synthetic_dates import ACQUIRED, MODALITIES, write_two_dates

TIMES = {"july": "2024-07-12", "may": "2024-05-03T12:00:00Z", "before": "2023-07-12T02:00:00+02:00"}


def test_days_and_gaps_by_hand():
    # 2024 is a leap year: 1 January is day 0, 3 May day 123; from its noon to 12 July are 69.5 days.
    assert date_values(TIMES, "may", reference="july").tolist() == [1, 123.5, 1, -69.5]
    assert date_values(TIMES, "july", reference="july").tolist() == [1, 193, 1, 0]
    assert date_values(TIMES, "july", reference="may").tolist() == [1, 193, 1, 69.5]


def test_zones_are_heeded():
    assert parse_time("2023-07-12T02:00:00+02:00", where="") == parse_time("2023-07-12", where="")
    assert date_values(TIMES, "before", reference="july").tolist() == [1, 192, 1, -366]


def test_what_is_not_known_is_zero():
    assert date_values(TIMES, "june", reference="july").tolist() == [0, 0, 0, 0]
    assert date_values(TIMES, "may", reference="june").tolist() == [1, 123.5, 0, 0]


def test_what_is_no_time_is_refused():
    with pytest.raises(SceneError, match="scene 'a', may: found acquisition time 'in spring'; wanted ISO 8601"):
        date_values({"may": "in spring"}, "may", reference="july", scene="a")


def test_priors_later_than_the_reference_are_refused():
    assert check_priors(TIMES, ["may", "before"], reference="july", scene="a") == []
    assert check_priors(TIMES, ["june", "may"], reference="july", scene="a") == ["june"]
    assert check_priors({"may": "2024-05-03"}, ["may"], reference="july", scene="a") == ["may"]
    with pytest.raises(SceneError, match=r"found 'july' of 2024-07-12, 69\.5 days after 'may'"):
        check_priors(TIMES, ["july"], reference="may", scene="a")


def test_inputs_hold_dates_where_they_are_wanted():
    modalities = tuple(
        Modality(name=name, bands=(Band(name="red", unit=Unit.REFLECTANCE),)) for name in ("july", "may")
    )
    training = {name: BandStatistics(mean=(0.0,), std=(1.0,), count=1) for name in ("july", "may")}
    seen = np.ones((2, 2), bool)
    window = StackWindow(
        image={"july": np.zeros((1, 2, 2), np.float32)}, valid={"july": seen, "may": ~seen}, labels=None,
        acquired={"july": "2024-07-12", "may": "2024-05-03"},
    )  # fmt: skip
    plain = Normaliser(modalities=modalities, training=training).inputs("a", window)
    dated = Normaliser(modalities=modalities, training=training, reference="july").inputs("a", window)
    assert set(plain) == {"july", "may"}
    assert set(dated) == {"july", "may", date_key("july"), date_key("may")}
    assert dated[date_key("may")].tolist() == [1, 123, 1, -70]


def test_each_date_of_the_invented_place_tells_one_class(tmp_path):
    place = write_two_dates(tmp_path, size=128)
    with rasterio.open(place.labels) as source:
        labels = source.read(1)
    with rasterio.open(place.informative) as source:
        informative = source.read(1)
    for name, told in (("may", 1), ("july", 2)):
        with rasterio.open(place.paths[name]) as source:
            red, tags = source.read(3), source.tags()
        assert tags["acquired"] == ACQUIRED[name]
        means = [red[labels == value].mean() for value in range(3)]
        others = [means[value] for value in range(3) if value != told]
        assert means[told] > 2 * max(others)
        assert abs(others[0] - others[1]) < 0.03 * max(others)
        assert (informative[labels == told] == MODALITIES.index(name)).all()
    assert (informative[labels == 0] == 255).all()
