"""Receptive field: measured reach is that of the layers."""

import pytest
import torch
from torch import nn

from equipoise.models.features import Features
from equipoise.models.network import FusionUNet, NetworkSpec
from equipoise.models.receptive_field import receptive_field


class Convolutions(nn.Module):
    """Convolutions of known size over one modality."""

    modalities = ("eo",)

    def __init__(self, sizes):
        super().__init__()
        self.layers = nn.Sequential(*[nn.Conv2d(2, 2, size, padding=size // 2) for size in sizes])

    def encode(self, image, *, valid, available):  # noqa: ARG002
        return Features(maps={"eo": [image["eo"]]}, shares={"eo": [valid["eo"][:, None].float()]}, size=(64, 64))

    def fuse(self, features, available):  # noqa: ARG002
        return features.maps["eo"]

    def decode(self, fused, *, size):  # noqa: ARG002
        return self.layers(fused[0])


@pytest.mark.parametrize(("sizes", "radius"), [((1,), 0), ((3,), 1), ((5, 3), 3), ((3, 7, 3), 5)])
def test_the_reach_of_convolutions_is_half_their_sizes(sizes, radius):
    torch.manual_seed(0)
    field = receptive_field(Convolutions(sizes), {"eo": torch.randn(1, 2, 64, 64)})
    assert radius <= field.radius <= radius + 1  # both pixels in the middle are looked at together
    assert not field.reaches_border
    assert float(field.influence.sum()) == pytest.approx(1)
    assert field.beyond(field.radius + 1) == 0
    assert field.beyond(-1) == pytest.approx(1)


def test_what_an_image_is_too_small_for_is_said():
    torch.manual_seed(0)
    field = receptive_field(Convolutions((33, 33, 33)), {"eo": torch.randn(1, 2, 64, 64)})
    assert field.reaches_border


def test_nothing_beyond_the_measured_radius_changes_an_answer():
    """All strides of a real network: whichever pixel is asked, what is farther than the radius does not matter."""
    torch.manual_seed(0)
    spec = NetworkSpec(modalities=("eo", "sar"), in_channels=(2, 1), classes=3, depth=2, decoder_channels=(8, 4))
    network = FusionUNet(spec).eval().double()  # rounding must not pass for a far pixel
    image = {name: torch.randn(1, bands, 128, 128, dtype=torch.float64) for name, bands in (("eo", 2), ("sar", 1))}
    field = receptive_field(network, image)
    assert 8 < field.radius < 56
    with torch.no_grad():
        before = network(image)
        for middle in (61, 63, 64, 66):
            near = (torch.arange(128) - middle).abs() <= field.radius
            mask = near[:, None] & near[None, :]
            after = network({name: torch.where(mask, values, -values) for name, values in image.items()})
            assert torch.allclose(after[..., middle, middle], before[..., middle, middle], atol=1e-12)
