"""Quality layers: every code of every scheme, by the tables of the product guides."""

import numpy as np
import pytest

from equipoise.datasets.quality import Quality, QualityScheme, decode_quality


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (0, Quality.UNUSABLE),
        (1, Quality.UNUSABLE),
        (2, Quality.CLEAR),
        (3, Quality.SHADOW),
        (4, Quality.CLEAR),
        (5, Quality.CLEAR),
        (6, Quality.CLEAR),
        (7, Quality.CLEAR),
        (8, Quality.CLOUD),
        (9, Quality.CLOUD),
        (10, Quality.CLOUD),
        (11, Quality.CLEAR),
    ],
)
def test_every_class_of_the_sentinel_2_scene_classification(number, code):
    assert decode_quality(np.array([[number]], np.uint8), QualityScheme.SCL) == code


@pytest.mark.parametrize(
    ("number", "code"),
    [
        # Values of the USGS tables for Collection 2 (LSDS-1619): what each is called there.
        (1, Quality.UNUSABLE),  # fill
        (21824, Quality.CLEAR),  # clear with lows set
        (21826, Quality.CLOUD),  # dilated cloud over land
        (21888, Quality.CLEAR),  # water with lows set
        (22280, Quality.CLOUD),  # mid confidence cloud
        (23888, Quality.SHADOW),  # high confidence cloud shadow
        (30048, Quality.CLEAR),  # snow
        (54596, Quality.CLOUD),  # high confidence cirrus
        (55052, Quality.CLOUD),  # high confidence cloud and cirrus
    ],
)
def test_values_that_the_landsat_guide_names(number, code):
    assert decode_quality(np.array([[number]], np.uint16), QualityScheme.QA_PIXEL) == code


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (1, Quality.UNUSABLE),
        (2, Quality.UNUSABLE),
        (20480, Quality.CLEAR),  # low cloud, low cirrus
        (53248, Quality.CLOUD),  # high cloud
        (28672, Quality.CLOUD),  # high cirrus
        (36864, Quality.CLEAR),  # cloud at medium confidence is not called cloud
    ],
)
def test_landsat_8_before_collections(number, code):
    assert decode_quality(np.array([number], np.uint16), QualityScheme.BQA) == code


@pytest.mark.parametrize(("number", "code"), [(0, 0), (1024, 1), (2048, 1), (3072, 1), (512, 0), (4096, 0)])
def test_sentinel_2_cloud_bits(number, code):
    assert decode_quality(np.array([number], np.uint16), QualityScheme.QA60) == code


def test_a_mask_is_cloud_where_it_is_not_zero_and_the_shape_is_kept():
    values = np.array([[0, 1, 255], [0, 0, 7]], np.uint8)
    codes = decode_quality(values, QualityScheme.MASK)
    assert codes.dtype == np.uint8
    np.testing.assert_array_equal(codes, [[0, 1, 1], [0, 0, 1]])


def test_our_own_codes_stay_as_they_are():
    values = np.array([[int(code) for code in Quality]], np.uint8)
    np.testing.assert_array_equal(decode_quality(values, QualityScheme.CODES), values)
