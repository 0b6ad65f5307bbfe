"""Calibration in the pipeline: fitted on labelled places, kept in the model, used by every map."""

import numpy as np
import pytest
import rasterio
import torch

from equipoise.models.network import NetworkSpec
from equipoise.pipeline.calibration import MOST_PLACES, calibrate
from equipoise.pipeline.predict_scenes import predict_scenes
from equipoise.pipeline.stage_options import PredictOptions


@pytest.fixture
def network(pixel_network):
    """Adds up the evidence of its inputs, and can be called as a whole."""

    class Whole(pixel_network):
        spec = NetworkSpec(modalities=("eo", "sar"), in_channels=(3, 3), classes=3)

        def forward(self, image, *, available, valid):
            features = self.encode(image, valid=valid, available=available)
            return self.decode(self.fuse(features, available), size=features.size)

    return Whole(("eo", "sar"))


def _batches(count, *, factor, seed=0):
    """Patches whose labels are drawn from the softmax of ``logits / factor``."""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(count):
        parts = torch.randn(2, 4, 3, 32, 32, generator=generator) * factor
        chance = (parts.sum(dim=0) / factor).softmax(dim=1).movedim(1, -1).reshape(-1, 3)
        mask = torch.multinomial(chance, 1, generator=generator).reshape(4, 32, 32)
        mask[:, :4] = 255
        yield {
            "image": {"eo": parts[0], "sar": parts[1]}, "mask": mask, "available": torch.ones(4, 2, dtype=torch.bool),
            "valid": {name: torch.ones(4, 32, 32, dtype=torch.bool) for name in ("eo", "sar")},
        }  # fmt: skip


def test_what_is_too_sure_is_cooled_and_the_gain_is_measured(network):
    found = calibrate(network, _batches(3, factor=2.5), count=3, seed=0)
    assert found["temperature"] == pytest.approx(2.5, rel=0.06)
    assert found["places"] == 3 * 4 * 28 * 32
    assert found["ece"]["after"] < 0.02 < 0.1 < found["ece"]["before"]
    assert found["nll"]["after"] < found["nll"]["before"]


def test_the_places_are_bounded_and_drawn_by_the_seed(network, monkeypatch):
    monkeypatch.setattr("equipoise.pipeline.calibration.MOST_PLACES", 1000)
    first, again, other = (calibrate(network, _batches(3, factor=2), count=3, seed=seed) for seed in (0, 0, 1))
    assert first["places"] == 3 * 334 < MOST_PLACES
    assert first == again != other


def test_without_labels_nothing_is_changed(network):
    batches = [{**batch, "mask": torch.full_like(batch["mask"], 255)} for batch in _batches(1, factor=2)]
    found = calibrate(network, batches, count=1, seed=0)
    assert (found["temperature"], found["places"], found["ece"]["after"], found["nll"]["after"]) == (1, 0, None, None)


def test_maps_are_as_sure_as_the_temperature_says(make_predictor, pixel_network, write_stack, tmp_path):
    rng = np.random.default_rng(0)
    images = {name: rng.normal(0, 2, (3, 40, 40)) for name in ("eo", "sar")}
    stack = write_stack(tmp_path, images)
    plain = make_predictor(pixel_network(("eo", "sar")), bands={"eo": 3, "sar": 3}, classes=3)
    sums = sum(image.astype(np.float64) for image in images.values())
    for temperature in (1.0, 2.0):
        predictor = type(plain)(**{**vars(plain), "temperature": temperature})
        folder = tmp_path / f"{temperature}"
        folder.mkdir()
        options = PredictOptions(tile=32, overlap=0, reliance_tile=8, device="cpu")
        _, figures = predict_scenes([stack], predictor, options=options, informative={}, folder=folder, resume="one")
        assert figures["temperature"] == temperature
        chance = np.exp(sums / temperature) / np.exp(sums / temperature).sum(axis=0)
        with rasterio.open(folder / "place.confidence.tif") as source:
            np.testing.assert_allclose(source.read(1), chance.max(axis=0), atol=1e-5)
        with rasterio.open(folder / "place.classes.tif") as source:
            np.testing.assert_array_equal(source.read(1), 10 * (sums.argmax(axis=0) + 1))
