"""Missing-modality probe: networks that give away what was missing, and networks that do not."""

import json
import math

import pytest
import torch
from fake_networks import MODALITIES, Reader, chunked, clues

from equipoise.models.baselines import build_network
from equipoise.models.checkpoint import ModelCard, load_model, save_model
from equipoise.models.errors import ModelError
from equipoise.models.missing_probe import missing_modality_probe
from equipoise.models.network import FusionUNet, NetworkSpec
from equipoise.models.spec import KINDS


class Telltale(Reader):
    """Its features carry a mark of each modality in ``marked`` that was there, beside what was seen."""

    def __init__(self, *marked: str):
        super().__init__(1.0, 1.0, 1.0)
        self.marked = marked

    def fuse(self, features, available):
        size = features.maps["eo"][0].shape
        seen = features.maps["eo"][0]  # whatever is available: it tells nothing of it
        marks = [
            available[:, m, None, None, None].float().expand(size) for m, name in enumerate(MODALITIES)
            if name in self.marked
        ]  # fmt: skip
        return [torch.cat([seen, *marks], dim=1)]


def test_marks_are_found():
    found = missing_modality_probe(Telltale("eo", "ir"), [clues(24)], bootstrap=50)
    assert (found.accuracy[0], found.accuracy[2]) == (1.0, 1.0)
    assert found.interval[0] == (1.0, 1.0)
    assert found.samples == (12, 12)


def test_where_nothing_gives_it_away_it_is_chance():
    """Nothing of ``sar`` is in the features; the interval holds chance."""
    found = missing_modality_probe(Telltale(), [clues(60, noise=2.0)], bootstrap=200)
    for accuracy, (low, high) in zip(found.accuracy, found.interval, strict=True):
        assert low <= 0.5 <= high or math.isclose(accuracy, 0.5, abs_tol=0.03)


def test_batches_do_not_matter():
    batch = clues(30, missing=0.3, noise=1.0)
    whole = missing_modality_probe(Telltale("sar"), [batch], bootstrap=20)
    parts = missing_modality_probe(Telltale("sar"), chunked(batch, 7, 13, 10), bootstrap=20)
    assert parts.accuracy[1] == whole.accuracy[1] == 1.0
    assert parts.samples == whole.samples


def test_what_never_is_missing_or_there_has_no_accuracy():
    batch = clues(20)
    batch["available"][:, 1] = False
    found = missing_modality_probe(Telltale("eo"), [batch], bootstrap=20)
    assert found.accuracy[1] is None
    assert found.interval[1] is None
    assert json.loads(json.dumps(found.to_dict()))["accuracy"][1] is None


def test_too_few_samples_tell_nothing():
    assert missing_modality_probe(Telltale("eo"), [clues(6)], bootstrap=20).accuracy == (None, None, None)


def test_a_network_is_probed_and_left_as_it_was():
    torch.manual_seed(0)
    spec = NetworkSpec(modalities=("eo", "sar"), in_channels=(3, 2), classes=2, depth=2, decoder_channels=(16, 8))
    network = FusionUNet(spec)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    batch = {"image": {"eo": torch.randn(16, 3, 16, 16), "sar": torch.randn(16, 2, 16, 16)}}
    found = missing_modality_probe(network, [batch], bootstrap=20, seed=1)
    assert found == missing_modality_probe(network, [batch], bootstrap=20, seed=1)
    assert all(0 <= accuracy <= 1 for accuracy in found.accuracy)
    assert network.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


@pytest.mark.parametrize("task", ["segmentation", "classification"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_model_folder_can_be_probed(tmp_path, kind, task):
    torch.manual_seed(0)
    spec = NetworkSpec(
        modalities=("eo", "sar"), in_channels=(3, 2), classes=2, depth=2, decoder_channels=(16, 8), kind=kind, task=task
    )  # fmt: skip
    card = ModelCard(
        network=spec.to_dict(), modalities=({"name": "eo"}, {"name": "sar"}), class_prior=(0.5, 0.5),
        classes=({"value": 0, "name": "dry", "color": "#aaaaaa"}, {"value": 1, "name": "wet", "color": "#0000ff"}),
    )  # fmt: skip
    network = build_network(spec).eval()
    save_model(tmp_path / "model", network, card)
    batches = [{"image": {"eo": torch.randn(12, 3, 16, 16), "sar": torch.randn(12, 2, 16, 16)}}]
    found = missing_modality_probe(load_model(tmp_path / "model")[0], batches, bootstrap=20)
    assert found == missing_modality_probe(network, batches, bootstrap=20)
    assert all(0 <= accuracy <= 1 for accuracy in found.accuracy)
    assert found.samples == (6, 6)


def test_bad_requests_are_refused():
    with pytest.raises(ModelError, match="found no batch"):
        missing_modality_probe(Telltale(), [])
    with pytest.raises(ModelError, match="at least 2"):
        missing_modality_probe(Telltale(), [clues(8)], bootstrap=1)
