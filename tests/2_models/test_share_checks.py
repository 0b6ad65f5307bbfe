"""Checks of shares: closed forms, laws, and the statement that nothing can be compared."""

import math
from dataclasses import replace

import pytest
import torch
from fake_networks import Reader, chunked, clues
from hypothesis import given
from hypothesis import strategies as st

from equipoise.models.errors import ModelError
from equipoise.models.information import coalition_information
from equipoise.models.share_checks import hack_alarm, unused_information, utilization_calibration_error
from equipoise.models.utilization import permutation_reliance


@st.composite
def shares(draw, members=3):
    parts = draw(st.lists(st.floats(0, 1), min_size=members, max_size=members).filter(lambda p: sum(p) > 0.01))
    return tuple(part / sum(parts) for part in parts)


def test_closed_forms_of_the_calibration_error():
    reliance = {"clear": (0.6, 0.4), "cloud": (0.6, 0.4), "night": None, "haze": (1.0, 0.0)}
    information = {"haze": (0.0, 1.0), "clear": (0.6, 0.4), "cloud": (0.2, 0.8), "night": (0.5, 0.5)}
    found = utilization_calibration_error(reliance, information)
    assert found.by_condition == pytest.approx({"clear": 0, "cloud": 0.4, "night": None, "haze": 1})
    assert found.error == pytest.approx((0 + 0.4 + 1) / 3)


def test_nothing_measurable_has_no_error():
    assert utilization_calibration_error({"clear": None}, {"clear": None}).error is None
    assert utilization_calibration_error({}, {}).error is None


@given(first=shares(), second=shares(), order=st.permutations(range(3)))
def test_laws_of_the_calibration_error(first, second, order):
    def error(a, b):
        return utilization_calibration_error({"c": a}, {"c": b}).error

    assert 0 <= error(first, second) <= 1 + 1e-12
    assert error(first, first) == 0
    assert error(first, second) == pytest.approx(error(second, first))
    turned = [[share[m] for m in order] for share in (first, second)]
    assert error(*turned) == pytest.approx(error(first, second))


def test_alarm_is_on_where_cross_entropy_alone_went_down():
    assert hack_alarm((0.3, 0.5, 0.2), (0.6, 0.3, 0.1)) == (True, False, False)
    assert hack_alarm((0.3, 0.7), (0.39, 0.61)) == (False, False)
    assert hack_alarm((0.3, 0.7), (0.39, 0.61), threshold=0.05) == (True, False)
    assert hack_alarm(None, (0.5, 0.5)) is None
    assert hack_alarm((0.5, 0.5), None) is None


@given(ce=shares(), bounded=shares(), order=st.permutations(range(3)))
def test_alarm_follows_the_modality(ce, bounded, order):
    plain = hack_alarm(ce, bounded)
    turned = hack_alarm(*[[share[m] for m in order] for share in (ce, bounded)])
    assert turned == tuple(plain[m] for m in order)


def test_what_are_no_shares_is_refused():
    cases = [
        (lambda: hack_alarm((0.5, 0.4), (0.5, 0.5)), "sum to 1"),
        (lambda: hack_alarm((1.5, -0.5), (0.5, 0.5)), "at least 0"),
        (lambda: hack_alarm((0.5, 0.5), (1.0, 0.0, 0.0)), "2 and 3 shares"),
        (lambda: hack_alarm((0.5, 0.5), (0.5, 0.5), threshold=0), "threshold of 0"),
        (lambda: hack_alarm((), ()), "shares"),
        (lambda: utilization_calibration_error({"a": None}, {"b": None}), "every condition"),
    ]
    for call, message in cases:
        with pytest.raises(ModelError, match=message):
            call()


def _measured(*weights, spoiled=None):
    batch = clues(80, noise=0.3, size=2)
    if spoiled:
        batch["image"][spoiled] = torch.zeros_like(batch["image"][spoiled])
    network, batches = Reader(*weights), chunked(batch, *(8,) * 10)
    return (
        coalition_information(network, batches, prior=(0.5, 0.5), bootstrap=100),
        permutation_reliance(network, batches, bootstrap=100),
    )


def test_balanced_use_is_not_flagged():
    found = unused_information(*_measured(1.0, 1.0, 1.0))
    assert found.flagged == (False,) * 3
    assert all(low < 0 < high for low, high in found.interval)


def test_information_that_is_outvoted_is_flagged():
    # Loud evidence decides whatever the quiet one says, although the quiet one is as good when alone.
    information, reliance = _measured(6.0, 1.0, 0.0)
    found = unused_information(information, reliance)
    assert found.flagged == (False, True, False)
    assert found.excess == pytest.approx([a - b for a, b in zip(information.share, reliance.share, strict=True)])
    phi, r = information.share[1], reliance.share[1]
    low = math.hypot(phi - information.share_interval[1][0], reliance.share_interval[1][1] - r)
    assert found.interval[1][0] == pytest.approx(phi - r - low)


def test_indeterminate_shares_give_no_flag():
    information, reliance = _measured(1.0, 1.0, 0.0)
    nothing = replace(reliance, share=None, share_interval=None, indeterminate=True)
    assert unused_information(information, nothing) is None
    with pytest.raises(ModelError, match="the modalities of the reliance"):
        unused_information(information, replace(reliance, modalities=("sar", "eo", "ir")))
