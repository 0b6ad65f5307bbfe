"""Normalisation over channels: each place by itself, no modality louder than another."""

import pytest
import torch

from equipoise.models.errors import ModelError
from equipoise.models.network import FusionUNet, NetworkSpec
from equipoise.models.norm import ChannelNorm

SPEC = NetworkSpec(modalities=("eo", "sar"), in_channels=(3, 2), classes=3, depth=2, decoder_channels=(8, 4))


def layered(**changes):
    return NetworkSpec.from_dict({**SPEC.to_dict(), "norm": "layer", **changes})


def test_each_place_has_mean_0_and_variance_1_over_its_channels():
    maps = 50 * torch.randn(2, 16, 5, 4) + 7
    normed = ChannelNorm(16)(maps)
    torch.testing.assert_close(normed.mean(dim=1), torch.zeros(2, 5, 4), atol=1e-5, rtol=0)
    torch.testing.assert_close(normed.var(dim=1, unbiased=False), torch.ones(2, 5, 4), atol=1e-3, rtol=0)
    torch.testing.assert_close(ChannelNorm(16)(maps[:, :, 2:3, 1:2]), normed[:, :, 2:3, 1:2])


def test_decision_layers_answer_alike_in_training_and_afterwards():
    torch.manual_seed(0)
    network, image = FusionUNet(layered()), {"eo": torch.randn(4, 3, 16, 16), "sar": torch.randn(4, 2, 16, 16)}
    features, available = network.encode(image), torch.ones(4, 2, dtype=torch.bool)
    training = network.train().decode(network.fuse(features, available), size=(16, 16))
    evaluation = network.eval().decode(network.fuse(features, available), size=(16, 16))
    assert torch.equal(training, evaluation)


def test_an_input_a_thousand_times_too_large_does_not_drown_the_other_modality():
    torch.manual_seed(0)
    network = FusionUNet(layered()).eval()
    image = {"eo": torch.randn(2, 3, 16, 16), "sar": torch.randn(2, 2, 16, 16)}
    norms = [
        float(network.encode({**image, "sar": factor * image["sar"]}).maps["sar"][0].detach().norm())
        for factor in (1, 1000)
    ]
    assert norms[1] == pytest.approx(norms[0], rel=0.5)


def test_a_description_without_the_key_is_a_network_of_the_first_kind():
    old = {name: value for name, value in SPEC.to_dict().items() if name != "norm"}
    assert NetworkSpec.from_dict(old).norm == "batch"


@pytest.mark.parametrize("changes", [{"norm": "group"}, {"norm": "layer", "decoder_channels": [8, 2]}])
def test_an_impossible_norm_is_refused(changes):
    with pytest.raises(ModelError, match="norm"):
        NetworkSpec.from_dict({**SPEC.to_dict(), **changes})
