"""Answers of windows: symmetries and precision keep the laws of probabilities and contributions."""

import pytest
import torch

from equipoise.models.network import FusionUNet, NetworkSpec
from equipoise.pipeline.errors import PipelineError
from equipoise.pipeline.window_answers import WindowAnswers, check_precision

PRIOR = torch.tensor([0.5, 0.3, 0.2])


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    spec = NetworkSpec(modalities=("eo", "sar"), in_channels=(2, 1), classes=3, depth=2, decoder_channels=(8, 4))
    network = FusionUNet(spec).eval()
    with torch.no_grad():
        for weight in network.head.parameters():
            weight.mul_(8)
    return network


@pytest.fixture(scope="module")
def tensors():
    generator = torch.Generator().manual_seed(1)
    valid = {name: torch.ones(2, 32, 32, dtype=torch.bool) for name in ("eo", "sar")}
    valid["eo"][1] = False
    return {
        "image": {
            name: torch.randn(2, bands, 32, 32, generator=generator) for name, bands in (("eo", 2), ("sar", 1))
        },
        "valid": valid,
        "available": torch.tensor([[True, True], [False, True]]),
    }  # fmt: skip


def _answers(network, tensors, **options):
    return WindowAnswers(network=network, prior=PRIOR, reliance="shapley", **options)(tensors)


@pytest.mark.parametrize("options", [{}, {"augment": "flips"}, {"precision": "bf16"}])
def test_probabilities_sum_to_one_and_contributions_to_what_was_gained(network, tensors, options):
    probability, phi = (torch.from_numpy(item) for item in _answers(network, tensors, **options))
    assert probability.dtype == phi.dtype == torch.float32
    torch.testing.assert_close(probability.sum(dim=1), torch.ones(2, 32, 32), atol=1e-5, rtol=0)
    best, predicted = probability.max(dim=1)
    torch.testing.assert_close(phi.sum(dim=1), best - PRIOR[predicted], atol=1e-5, rtol=0)
    assert phi[1, 0].abs().max() < 1e-6  # a sensor that the window lacks contributes nothing


@pytest.mark.parametrize("axes", [(-1,), (-2,), (-2, -1)])
def test_the_mean_over_flips_turns_with_the_image(network, tensors, axes):
    turned = {key: {name: x.flip(axes) for name, x in tensors[key].items()} for key in ("image", "valid")}
    turned["available"] = tensors["available"]
    for first, second in zip(
        _answers(network, tensors, augment="flips"), _answers(network, turned, augment="flips"), strict=True
    ):
        torch.testing.assert_close(torch.from_numpy(first).flip(axes), torch.from_numpy(second), atol=1e-5, rtol=0)


def test_the_mean_over_flips_is_that_of_four_answers(network, tensors):
    found = torch.from_numpy(_answers(network, tensors, augment="flips")[0])
    with torch.no_grad():
        each = [
            network({name: x.flip(axes) for name, x in tensors["image"].items()}, available=tensors["available"],
                    valid={name: x.flip(axes) for name, x in tensors["valid"].items()}).softmax(dim=1).flip(axes)
            for axes in ((), (-1,), (-2,), (-2, -1))
        ]  # fmt: skip
    torch.testing.assert_close(found, torch.stack(each).mean(dim=0), atol=1e-6, rtol=0)


@pytest.mark.parametrize("augment", ["none", "flips"])
def test_temperature_makes_answers_less_sure_and_leaves_reliance_alone(network, tensors, augment):
    (sure, phi), (unsure, same) = (
        _answers(network, tensors, augment=augment, temperature=value) for value in (1.0, 2.0)
    )  # fmt: skip
    assert (phi == same).all()
    assert unsure.max(axis=1).mean() < sure.max(axis=1).mean()
    if augment == "none":
        with torch.no_grad():
            logits = network(tensors["image"], valid=tensors["valid"], available=tensors["available"])
        torch.testing.assert_close(torch.from_numpy(unsure), (logits / 2).softmax(dim=1), atol=1e-6, rtol=0)


def test_bfloat16_changes_little(network, tensors):
    whole, low = (_answers(network, tensors, precision=precision)[0] for precision in ("32", "bf16"))
    assert 0 < abs(whole - low).mean() < 0.01
    assert (whole.argmax(axis=1) == low.argmax(axis=1)).mean() > 0.98


def test_a_precision_is_tried_and_refused_in_one_line():
    check_precision("32", torch.device("cpu"))
    check_precision("bf16", torch.device("cpu"))
    if torch.cuda.is_available():
        pytest.skip("needs a device that cannot work at half precision; this machine's can")
    with pytest.raises(PipelineError, match=r"cuda, that does not work at precision fp16 .*predict\.precision: 32"):
        check_precision("fp16", torch.device("cuda"))
