"""Radiometry of Sentinel-1: tables against scipy, the calibration equation, thermal noise, border noise."""

from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import RegularGridInterpolator

from equipoise.datasets.border import BORDER, EROSION, border_mask, border_window
from equipoise.datasets.calibration import (
    AzimuthNoise,
    LineTable,
    NoiseTable,
    backscatter,
    calibration_table,
    noise_table,
)
from equipoise.datasets.errors import SceneError


def floats(*values: float) -> np.ndarray:
    return np.array(values, dtype=np.float64)


def parsed(text: str) -> ElementTree.Element:
    return ElementTree.fromstring(text)  # noqa: S314 - our own text


@given(seed=st.integers(0, 10_000))
def test_tables_are_interpolated_bilinearly_and_held_beyond_their_edges(seed):
    rng = np.random.default_rng(seed)
    lines = np.sort(rng.choice(np.arange(-20, 80), rng.integers(2, 6), replace=False)).astype(float)
    pixels = np.sort(rng.choice(60, rng.integers(2, 8), replace=False)).astype(float)
    values = rng.uniform(200, 700, (len(lines), len(pixels)))
    table = LineTable(lines=lines, pixels=(pixels,) * len(lines), values=tuple(values))
    rows, columns = np.arange(*np.sort(rng.choice(70, 2, replace=False)), dtype=float), np.arange(5.0, 57.0)
    oracle = RegularGridInterpolator((lines, pixels), values)
    inside = np.meshgrid(rows.clip(lines[0], lines[-1]), columns.clip(pixels[0], pixels[-1]), indexing="ij")
    np.testing.assert_allclose(table.at(rows, columns), oracle(np.stack(inside, axis=-1)), rtol=1e-6)


@given(seed=st.integers(0, 10_000))
def test_a_part_of_a_table_is_the_part_of_the_whole(seed):
    rng = np.random.default_rng(seed)
    pixels = tuple(
        np.sort(rng.choice(50, 4, replace=False)).astype(float) for _ in range(3)
    )  # differ from line to line
    table = LineTable(lines=floats(0, 11, 35), pixels=pixels, values=tuple(rng.uniform(1, 2, (3, 4))))
    noise = NoiseTable(
        along_range=table,
        along_azimuth=(
            AzimuthNoise(
                first_row=5, last_row=29, first_column=10, last_column=30, rows=floats(0, 20, 40),
                factors=floats(0.5, 2, 1),
            ),
        ),
    )  # fmt: skip
    rows, columns = np.arange(40.0), np.arange(50.0)
    whole = noise.at(rows, columns)
    top, left = rng.integers(0, 39), rng.integers(0, 49)
    np.testing.assert_array_equal(noise.at(rows[top:], columns[left:]), whole[top:, left:])
    factor = np.ones((40, 50))
    factor[5:30, 10:31] = np.interp(np.arange(5, 30), [0, 20, 40], [0.5, 2, 1])[:, None]
    np.testing.assert_allclose(whole, table.at(rows, columns) * factor, rtol=1e-6)


def test_one_line_is_a_table():
    table = LineTable(lines=floats(7), pixels=(floats(0, 10),), values=(floats(1, 2),))
    np.testing.assert_allclose(table.at(floats(0, 7, 20), floats(0, 5)), [[1, 1.5]] * 3)


def test_backscatter_is_power_minus_noise_over_squared_gain():
    numbers = np.array([[0, 10, 20, 65535]], dtype=np.uint16)
    gain, noise = np.full((1, 4), 5, np.float32), np.full((1, 4), 200, np.float32)
    np.testing.assert_allclose(backscatter(numbers, gain, None), [[np.nan, 4.0, 16.0, 65535**2 / 25]], rtol=1e-6)
    # Below the noise it is negative, and not a hole.
    np.testing.assert_allclose(backscatter(numbers, gain, noise)[0, :3], [np.nan, -4.0, 8.0])


def test_noise_that_was_added_is_gone_in_the_mean():
    # 4-look intensity of signal plus noise; the mean over n pixels errs by (s + n) / sqrt(4 n).
    rng = np.random.default_rng(5)
    signal, noise = 400.0, 1200.0
    numbers = np.sqrt((signal + noise) * rng.gamma(4, 1 / 4, (500, 500))).round().astype(np.uint16)
    ones = np.ones((500, 500), np.float32)
    power = backscatter(numbers, ones, ones * np.float32(noise))
    assert np.nanmean(power) == pytest.approx(signal, abs=4 * 1600 / np.sqrt(4 * 250_000))
    assert (power < 0).mean() > 0.2


CALIBRATION = """<calibration><calibrationVectorList count="2">
<calibrationVector><line>10</line><pixel count="2">0 8</pixel><sigmaNought>4 6</sigmaNought>
<betaNought>3 3</betaNought><gamma>2 1</gamma></calibrationVector>
<calibrationVector><line>0</line><pixel count="2">0 8</pixel><sigmaNought>2 4</sigmaNought>
<betaNought>3 3</betaNought><gamma>4 3</gamma></calibrationVector></calibrationVectorList></calibration>"""


@pytest.mark.parametrize(("quantity", "expected"), [("sigma0", 4.0), ("beta0", 3.0), ("gamma0", 2.5)])
def test_the_gains_of_each_quantity_are_read_in_any_order_of_lines(quantity, expected):
    table = calibration_table(parsed(CALIBRATION), quantity, where="c.xml")
    assert table.at(floats(5), floats(4)) == pytest.approx(expected)


def test_noise_of_processors_before_and_after_2_90_is_read():
    old = "<noise><noiseVectorList><noiseVector><line>0</line><pixel>0 4</pixel><noiseLut>8 16</noiseLut></noiseVector></noiseVectorList></noise>"  # noqa: E501
    new = (
        old.replace("noiseVector", "noiseRangeVector").replace("noiseLut", "noiseRangeLut").removesuffix("</noise>")
        + "<noiseAzimuthVectorList><noiseAzimuthVector><swath>IW1</swath><firstAzimuthLine>2</firstAzimuthLine>"
        "<firstRangeSample>1</firstRangeSample><lastAzimuthLine>3</lastAzimuthLine><lastRangeSample>2</lastRangeSample>"
        "<line>2 3</line><noiseAzimuthLut>3 5</noiseAzimuthLut></noiseAzimuthVector></noiseAzimuthVectorList></noise>"
    )
    rows, columns = np.arange(4.0), np.arange(4.0)
    plain = noise_table(parsed(old), where="n.xml").at(rows, columns)
    np.testing.assert_allclose(plain, [[8, 10, 12, 14]] * 4)
    factor = np.ones((4, 4))
    factor[2, 1:3], factor[3, 1:3] = 3, 5
    np.testing.assert_allclose(noise_table(parsed(new), where="n.xml").at(rows, columns), plain * factor)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("calibrationVector>", "other>"), "found no <calibrationVector>"),
        (("<gamma>2 1", "<gamma>2 x"), "found <gamma> with 0 usable numbers; wanted 2"),
        (("<gamma>2 1", "<gamma>2 1 1"), "found <gamma> with 3 usable numbers; wanted 2"),
        (("<gamma>2 1", "<gamma>2 nan"), "usable numbers"),
        (("<gamma>2 1", "<gamma>2 0"), "not positive"),
        (("0 8", "8 0"), "columns out of order"),
        (("<line>10</line>", ""), "found <line> with 0 usable numbers"),
    ],
)
def test_tables_that_are_damaged_are_refused(change, message):
    root = parsed(CALIBRATION.replace(*change))
    with pytest.raises(SceneError, match=message) as caught:
        calibration_table(root, "gamma0", where="c.xml")
    assert str(caught.value).startswith("c.xml: ")
    assert "\n" not in str(caught.value)


def test_border_noise_is_found_at_every_edge_with_single_bright_values_in_it():
    rng = np.random.default_rng(2)
    quiet = rng.random((1300, 1400)) < 0.12  # what chance makes dark inside the image
    truth = np.zeros(quiet.shape, dtype=bool)
    truth[:, :60] = truth[:, -33:] = truth[:200] = truth[-9:] = True
    quiet |= truth & (rng.random(quiet.shape) < 0.9)
    mask = border_mask(quiet, top=0, left=0, shape=quiet.shape)
    assert (mask & truth).sum() / truth.sum() > 0.995
    inside = mask[200 + EROSION : -9 - EROSION, 60 + EROSION : -33 - EROSION]
    assert inside.mean() < 5e-3  # in some lines chance prolongs the border by some pixels
    assert mask[:, 60 : 60 + EROSION].mean() > 0.9


def test_without_a_border_nearly_nothing_is_lost():
    quiet = np.random.default_rng(3).random((1200, 1200)) < 0.128  # noise alone, 4.4 looks, below half of its mean
    assert border_mask(quiet, top=0, left=0, shape=quiet.shape).mean() < 1e-3
    assert not border_mask(np.zeros((9, 9), bool), top=0, left=0, shape=(9, 9)).any()


@given(seed=st.integers(0, 1000))
@settings(max_examples=25)
def test_the_border_does_not_depend_on_the_window(seed):
    rng = np.random.default_rng(seed)
    shape = (1300, 1250)
    quiet = np.random.default_rng(7).random(shape) < 0.3
    quiet[:, : rng.integers(1, 700)] = True
    quiet[-int(rng.integers(1, 300)) :] = True
    whole = border_mask(quiet, top=0, left=0, shape=shape)
    top, left = rng.integers(0, 1200, 2)
    asked = slice(top, min(shape[0], top + 100)), slice(left, min(shape[1], left + 100))
    rows, columns = border_window(asked, shape)
    part = border_mask(quiet[rows, columns], top=rows.start, left=columns.start, shape=shape)
    inner = (
        slice(asked[0].start - rows.start, asked[0].stop - rows.start),
        slice(asked[1].start - columns.start, asked[1].stop - columns.start),
    )
    np.testing.assert_array_equal(part[inner], whole[asked])
    assert part.shape[0] <= 100 + 2 * (BORDER + EROSION)
