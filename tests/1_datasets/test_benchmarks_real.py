"""Benchmark readers on real bytes: OMBRIA whole, and the two chips of Sen1Floods11 that are at hand."""

import warnings
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.errors import NotGeoreferencedWarning

from equipoise.datasets.benchmarks.benchmark_dataset import BenchmarkDataset
from equipoise.datasets.benchmarks.collection import public_dataset


def first_band(path: Path) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path) as source:
            return source.read(1)


@pytest.mark.real
def test_ombria_as_delivered(data_folder: Path):
    public = public_dataset("ombria")
    root = data_folder / "B_internal_only" / "ombria"
    train, test = public.chips(root, "train"), public.chips(root, "test")
    assert (len(train), len(test)) == (90, 24)
    assert all(set(chip.files) == {"eo", "sar", "eo_before", "sar_before"} for chip in (*train, *test))
    samples = BenchmarkDataset(public, test)
    for position, chip in enumerate(test):
        sample = samples[position]
        np.testing.assert_array_equal(sample["mask"].numpy(), first_band(chip.labels) == 255)
        np.testing.assert_array_equal(sample["image"]["sar"][0].numpy(), first_band(chip.files["sar"]))
        assert sample["available"].all()


@pytest.mark.real
def test_sen1floods11_as_delivered(data_folder: Path):
    public = public_dataset("sen1floods11")
    chips = public.chips(data_folder / "B_internal_only/sen1floods11-segmentation/app/sample_data", "sample")
    assert [(chip.id, chip.group) for chip in chips] == [("India_900498", "India"), ("USA_905409", "USA")]
    samples = BenchmarkDataset(public, chips)
    for position, chip in enumerate(chips):
        sample = samples[position]
        assert sample["available"].tolist() == [False, True]
        with rasterio.open(chip.files["sar"]) as source:
            valid = sample["valid"]["sar"].numpy()
            assert valid.mean() > 0.99
            np.testing.assert_allclose(
                sample["image"]["sar"].numpy()[:, valid],
                np.maximum(source.read(), -50.0)[:, valid],
                rtol=1e-4,
                atol=1e-4,
            )
            assert sample["bounds"].tolist() == pytest.approx(list(source.bounds))
        np.testing.assert_array_equal(
            sample["mask"].numpy(), np.where(first_band(chip.labels) < 0, 255, first_band(chip.labels))
        )
