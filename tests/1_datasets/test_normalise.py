"""The network's door: network units, training statistics, zero where nothing was seen."""

import numpy as np
import pytest

from equipoise.datasets.errors import DatasetError
from equipoise.datasets.modality import Band, Modality, Unit
from equipoise.datasets.normalise import Normaliser
from equipoise.datasets.stack import StackWindow
from equipoise.datasets.statistics import BandStatistics

SAR = Modality(name="sar", bands=(Band(name="VV", unit=Unit.LINEAR_POWER), Band(name="VH", unit=Unit.LINEAR_POWER)))
EO = Modality(name="eo", bands=(Band(name="red", unit=Unit.REFLECTANCE),))
TRAINING = {
    "sar": BandStatistics(mean=(-10.0, -17.0), std=(5.0, 2.0), count=1),
    "eo": BandStatistics(mean=(0.2,), std=(0.1,), count=1),
}


def window(*, present=("sar", "eo")):
    image = {
        "sar": np.array([[[0.1, 1.0, np.nan]], [[0.01, 0.1, np.nan]]], np.float32),
        "eo": np.array([[[0.3, np.nan, 0.1]]], np.float32),
    }
    valid = {"sar": np.array([[True, True, False]]), "eo": np.array([[True, False, True]])}
    return StackWindow(
        image={name: image[name] for name in present},
        valid={name: valid[name] & (name in present) for name in valid},
        labels=None,
    )


def test_radar_enters_in_decibels_and_every_band_by_its_own_statistics():
    inputs = Normaliser(modalities=(SAR, EO), training=TRAINING).inputs("a", window())
    np.testing.assert_allclose(inputs["sar"], [[[0.0, 2.0, 0.0]], [[-1.5, 3.5, 0.0]]], atol=1e-5)
    np.testing.assert_allclose(inputs["eo"], [[[1.0, 0.0, -1.0]]], atol=1e-5)
    assert all(values.dtype == np.float32 for values in inputs.values())


def test_the_order_is_the_networks_and_a_missing_modality_is_zero():
    inputs = Normaliser(modalities=(EO, SAR), training=TRAINING).inputs("a", window(present=("eo",)))
    assert list(inputs) == ["eo", "sar"]
    np.testing.assert_array_equal(inputs["sar"], np.zeros((2, 1, 3), np.float32))


def test_what_the_mask_rules_out_is_zero_even_where_there_is_a_number():
    masked = window()
    masked.valid["sar"][0, 0] = False
    inputs = Normaliser(modalities=(SAR,), training=TRAINING).inputs("a", masked)
    assert not inputs["sar"][:, 0, 0].any()
    assert inputs["sar"][0, 0, 1] == pytest.approx(2.0)


def test_scenes_may_be_normalised_one_by_one():
    own = {"a": {"eo": BandStatistics(mean=(0.3,), std=(1.0,), count=1)}}
    by_scene = Normaliser(modalities=(EO,), training=TRAINING, scenes=own)
    np.testing.assert_allclose(by_scene.inputs("a", window())["eo"], [[[0.0, 0.0, -0.2]]], atol=1e-6)
    with pytest.raises(DatasetError, match=r"scene 'b': found no statistics of modality 'eo'.*normalisation: scene"):
        by_scene.inputs("b", window())
    with pytest.raises(DatasetError, match="modality 'sar'"):
        by_scene.of_scene("a", "sar")
