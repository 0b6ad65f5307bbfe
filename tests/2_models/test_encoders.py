"""Encoders: names, strides, and nothing kept that never runs."""

import pytest
import torch

from equipoise.models.encoders import ModalityEncoder, build_encoder
from equipoise.models.errors import ModelError


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "vgg11_bn", "tu-resnet10t"])
def test_features_have_every_stride(name):
    encoder = build_encoder(name, in_channels=2, depth=3)
    features = encoder(torch.zeros(2, 2, 32, 48))
    assert [tuple(feature.shape[-2:]) for feature in features[1:]] == [(16, 24), (8, 12), (4, 6)]


def test_layers_beyond_the_depth_are_dropped():
    shallow, deep = (build_encoder("resnet18", in_channels=3, depth=depth) for depth in (3, 5))
    assert sum(p.numel() for p in shallow.parameters()) < 0.1 * sum(p.numel() for p in deep.parameters())
    shallow(torch.zeros(2, 3, 32, 32))[-1].sum().backward()
    assert all(parameter.grad is not None for parameter in shallow.parameters())


def test_building_leaves_batch_statistics_untouched():
    encoder = build_encoder("resnet18", in_channels=1, depth=2)
    assert encoder.training
    assert encoder.bn1.num_batches_tracked == 0


@pytest.mark.parametrize("name", ["resnet1", "", "tu-nothing", "tu-hf_hub:owner/model", "mit_b0", "tu-convnext_atto"])
def test_unusable_names_are_one_clear_line(name):
    with pytest.raises(ModelError, match=r"found encoder.*wanted.*choose") as caught:
        build_encoder(name, in_channels=3, depth=2)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


def test_unknown_weights_are_refused_without_a_download():
    with pytest.raises(ModelError, match="moonlight"):
        build_encoder("resnet18", in_channels=3, depth=2, weights="moonlight")


def test_projections_give_the_widths_asked_for():
    encoder = ModalityEncoder("resnet18", in_channels=2, depth=3, widths={1: 4, 3: 6})
    assert [tuple(feature.shape) for feature in encoder(torch.zeros(2, 2, 32, 32))] == [(2, 4, 16, 16), (2, 6, 4, 4)]


def test_the_stem_keeps_the_full_resolution():
    encoder = ModalityEncoder("resnet18", in_channels=2, depth=2, widths={0: 3, 1: 4, 2: 6}).eval()
    image = torch.zeros(1, 2, 32, 32)
    image[..., 9, 13] = 1.0
    with torch.no_grad():
        stem, *coarser = encoder(image)
        empty = encoder(torch.zeros_like(image))[0]
    assert tuple(stem.shape) == (1, 3, 32, 32)
    assert [tuple(feature.shape) for feature in coarser] == [(1, 4, 16, 16), (1, 6, 8, 8)]
    changed = (stem != empty).any(dim=1)[0].nonzero()
    # A single pixel stays within its 3 x 3 neighbourhood.
    assert len(changed) > 0
    assert bool(((changed - torch.tensor([9, 13])).abs() <= 1).all())
