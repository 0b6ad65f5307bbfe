"""Conditional learning speed: closed forms, resuming, and a modality that is ahead."""

import math

import pytest
import torch
from fake_networks import MODALITIES, clues
from torch import nn

from equipoise.models.errors import ModelError
from equipoise.models.learning_speed import ConditionalLearningSpeed
from equipoise.models.network import FusionUNet, NetworkSpec


class Linear(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoders = nn.ModuleList(nn.Linear(2, 2) for _ in range(3))
        self.head = nn.Linear(2, 1)

    def modality_encoders(self):
        return list(self.encoders)


def _with_gradients(*factors):
    """Every gradient is the parameter times the factor of its group (three encoders, then the head)."""
    network = Linear()
    for part, factor in zip((*network.encoders, network.head), factors, strict=True):
        for parameter in part.parameters():
            parameter.grad = parameter.detach() * factor
    return network


def test_closed_form_over_steps():
    meter = ConditionalLearningSpeed(3)
    assert meter.speeds() == (None, None, None)
    meter.accumulate(_with_gradients(1.0, 0.1, 10.0, 1.0))
    assert meter.speeds() == pytest.approx((0, -2, 2), abs=1e-6)
    meter.accumulate(_with_gradients(3.0, 0.1, 10.0, 2.0))
    assert meter.speeds() == pytest.approx([math.log10(total / 5) for total in (10, 0.02, 200)], abs=1e-6)
    assert int(meter.steps) == 2
    torch.testing.assert_close(meter.differences(), -meter.differences().T)
    assert float(meter.differences()[2, 1]) == pytest.approx(4, abs=1e-6)
    meter.reset()
    assert meter.speeds() == (None, None, None)


def test_differences_do_not_depend_on_what_is_shared():
    first, second = ConditionalLearningSpeed(3), ConditionalLearningSpeed(3)
    torch.manual_seed(0)
    first.accumulate(_with_gradients(1.0, 2.0, 3.0, 1.0))
    torch.manual_seed(0)
    second.accumulate(_with_gradients(1.0, 2.0, 3.0, 50.0))
    torch.testing.assert_close(first.differences(), second.differences())


def test_a_resumed_training_goes_on_with_the_sums():
    whole, first, second = (ConditionalLearningSpeed(3) for _ in range(3))
    torch.manual_seed(1)
    networks = [_with_gradients(1.0, 2.0, 3.0, 1.0), _with_gradients(2.0, 1.0, 0.0, 3.0)]
    for network in networks:
        whole.accumulate(network)
    first.accumulate(networks[0])
    second.load_state_dict(first.state_dict())
    second.accumulate(networks[1])
    assert all(torch.equal(value, whole.state_dict()[name]) for name, value in second.state_dict().items())
    assert set(whole.state_dict()) == {"total", "shared", "steps"}


def test_what_does_not_learn_has_no_speed():
    network = _with_gradients(1.0, 1.0, 1.0, 1.0)
    for parameter in network.encoders[1].parameters():
        parameter.grad = None
    meter = ConditionalLearningSpeed(3)
    meter.accumulate(network)
    assert meter.speeds()[1] is None
    assert meter.differences()[0, 1].isnan()
    assert meter.differences()[0, 2] == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_the_only_informative_modality_is_ahead(seed):
    torch.manual_seed(seed)
    network, meter = Linear(), ConditionalLearningSpeed(3)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    for _ in range(5):
        # Large batches: the gradient of what tells nothing is 0 but for sampling.
        images = torch.randn(3, 2000, 2)
        answer = images[1].sum(dim=1, keepdim=True).sign()
        optimizer.zero_grad()
        seen = sum(encoder(image) for encoder, image in zip(network.encoders, images, strict=True))
        nn.functional.soft_margin_loss(network.head(seen), answer).backward()
        for encoder in network.encoders:
            encoder.bias.grad = None  # the same for all
        meter.accumulate(network)
        optimizer.step()
    speeds = meter.speeds()
    assert speeds[1] > max(speeds[0], speeds[2]) + 0.5


def test_the_real_network_is_read():
    torch.manual_seed(0)
    spec = NetworkSpec(modalities=MODALITIES, in_channels=(1, 1, 1), classes=2, depth=2, decoder_channels=(8, 4))
    network, meter, batch = FusionUNet(spec), ConditionalLearningSpeed(3), clues(4, size=8)
    available = torch.tensor([[True, False, True]]).expand(4, 3)
    nn.functional.cross_entropy(network(batch["image"], available=available), batch["mask"]).backward()
    meter.accumulate(network)
    speeds = meter.speeds()
    assert speeds[1] is None
    own = [sum(part.grad.double().square().sum() for part in network.encoders[m].parameters()) for m in (0, 2)]
    size = [sum(part.detach().double().square().sum() for part in network.encoders[m].parameters()) for m in (0, 2)]
    expected = math.log10(own[0] / size[0]) - math.log10(own[1] / size[1])
    assert float(meter.differences()[0, 2]) == pytest.approx(expected, abs=1e-4)


def test_another_number_of_encoders_is_refused():
    with pytest.raises(ModelError, match="3 encoders"):
        ConditionalLearningSpeed(2).accumulate(_with_gradients(1.0, 1.0, 1.0, 1.0))
    with pytest.raises(ModelError, match="0 modalities"):
        ConditionalLearningSpeed(0)
