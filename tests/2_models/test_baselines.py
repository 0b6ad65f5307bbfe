"""Fusion networks and their competitors: each is a function of what is present, and meters work on all of them."""

import copy
import functools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load, save

from equipoise.models.balancing.strategy import Step
from equipoise.models.baselines import (
    BASELINES,
    I2M2,
    EarlyFusion,
    LateFusion,
    SinglesEnsemble,
    build_baseline,
    single_modality_spec,
)
from equipoise.models.errors import ModelError
from equipoise.models.fusion import FUSIONS
from equipoise.models.network import FusionUNet, NetworkSpec
from equipoise.models.utilization import coalition_scores, permutation_reliance

MODALITIES, BANDS = ("eo", "sar", "ir"), (3, 2, 1)
NAMES = [*sorted(FUSIONS), *sorted(BASELINES), "singles"]
TASKS = ["segmentation", "classification"]


def _spec(task="segmentation", **changes):
    values = {"modalities": MODALITIES, "in_channels": BANDS, "classes": 4, "depth": 2, "decoder_channels": (8, 4)}
    return NetworkSpec(**{**values, "task": task, **changes})


@functools.cache
def _shared(name, task):
    """A network in evaluation mode, moved away from its first state, in which some parameters are 0."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        spec = _spec(task)
        if name == "singles":
            network = SinglesEnsemble([FusionUNet(single_modality_spec(spec, modality)) for modality in MODALITIES])
        elif name in BASELINES:
            network = build_baseline(name, spec)
        else:
            network = FusionUNet(_spec(task, fusion=name))
        for parameter in network.parameters():
            parameter += 0.05 * torch.randn(parameter.shape)
    return network.eval()


def _build(name, task="segmentation"):
    """One that may be changed; copying takes a hundredth of the time of building."""
    return copy.deepcopy(_shared(name, task))


def _image(batch=2, size=(9, 11), *, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(batch, bands, *size, generator=generator)
        for name, bands in zip(MODALITIES, BANDS, strict=True)
    }


@settings(max_examples=50, deadline=None)
@given(
    name=st.sampled_from(NAMES),
    task=st.sampled_from(TASKS),
    absent=st.lists(st.sampled_from(MODALITIES), min_size=1, max_size=3, unique=True),
    garbage=st.sampled_from([0.0, -1e30, float("nan"), float("inf")]),
    masked=st.booleans(),
)
@torch.no_grad()
def test_an_absent_modality_changes_nothing(name, task, absent, garbage, masked):
    network, image = _shared(name, task), _image()
    available = torch.tensor([[modality not in absent for modality in MODALITIES], [True] * 3])
    valid = {modality: torch.rand(2, 9, 11) < 0.8 for modality in MODALITIES} if masked else None
    spoiled = {modality: data.clone() for modality, data in image.items()}
    for modality in absent:
        spoiled[modality][0] = garbage
        if valid is not None:
            spoiled[modality][1].masked_fill_(~valid[modality][1], garbage)
    expected = network(image, available=available, valid=valid)
    assert expected.isfinite().all()
    assert torch.equal(expected, network(spoiled, available=available, valid=valid))


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_leaving_out_at_fusion_equals_leaving_out_at_encoding(name, task):
    network, image = _shared(name, task), _image()
    available = torch.tensor([[True, False, True], [False, True, False]])
    features = network.encode(image)
    late = network.decode(network.fuse(features, available), size=features.size)
    torch.testing.assert_close(late, network(image, available=available), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("size", [(1, 1), (1, 23), (13, 8)])
@pytest.mark.parametrize("name", NAMES)
def test_any_size_trains(name, size):
    for task, shape in (("segmentation", (2, 4, *size)), ("classification", (2, 4))):
        network = _build(name, task).train()
        logits = network(_image(size=size), available=torch.tensor([[True, False, True], [False, False, False]]))
        assert logits.shape == shape
        assert logits.isfinite().all()
        logits.square().sum().backward()
        assert all(p.grad.isfinite().all() for p in network.parameters() if p.grad is not None)


@pytest.mark.parametrize("name", NAMES)
def test_gradients_flow_to_every_parameter(name):
    network = _build(name).train()
    network(_image(size=(16, 16))).square().mean().backward()
    still = [key for key, parameter in network.named_parameters() if parameter.grad is None]
    # Late answers leave nothing unused either.
    assert still == []


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_half_precision_is_finite(name):
    network, available = _shared(name, "segmentation"), torch.tensor([[True, False, True], [False, False, False]])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert network(_image(), available=available).isfinite().all()


@pytest.mark.parametrize("name", NAMES)
def test_weights_survive_safetensors(name):
    network, twin = _build(name), _build(name)
    for parameter in twin.parameters():
        torch.nn.init.zeros_(parameter)
    twin.load_state_dict(load(save({key: value.contiguous() for key, value in network.state_dict().items()})))
    with torch.no_grad():
        assert torch.equal(twin(_image()), network(_image()))


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("name", [*sorted(BASELINES), "singles", "attention", "concat"])
def test_meters_work(name, task):
    network, image = _shared(name, task), _image(4)
    target = torch.randint(0, 4, (4, 9, 11) if task == "segmentation" else (4,), generator=torch.Generator())
    batch = {"image": image, "mask" if task == "segmentation" else "label": target}
    report = permutation_reliance(network, [batch], rolls=1, bootstrap=10)
    assert report.modalities == MODALITIES
    logits = coalition_scores(network, batch)
    assert logits.shape[:2] == (8, 4)
    with torch.no_grad():
        torch.testing.assert_close(logits[-1], network(image))


@pytest.mark.parametrize("name", [*sorted(BASELINES), "singles"])
def test_strategies_can_decode_a_part(name):
    network, image = _build(name).train(), _image(3)
    available = torch.ones(3, 3, dtype=torch.bool)
    features = network.encode(image)
    step = Step(
        network=network, features=features, available=available,
        logits=network.decode(network.fuse(features, available), size=features.size),
        target=torch.zeros(3, 9, 11, dtype=torch.int64), criterion=torch.nn.functional.cross_entropy,
        generator=torch.Generator(), progress=0.5,
    )  # fmt: skip
    rows = torch.tensor([0, 2])
    mixed = step.decode(available[rows], features=features.detached().of(rows).rolled("sar", torch.tensor([1, 0])))
    assert mixed.shape == (2, 4, 9, 11)
    mixed.sum().backward()


def test_late_fusion_is_the_mean_of_the_logits_over_those_present():
    network, image = _build("late"), _image()
    available = torch.tensor([[True, False, True], [False, True, False]])
    with torch.no_grad():
        eo, sar, ir = (single(image) for single in network.singles)
        found = network(image, available=available)
    torch.testing.assert_close(found, torch.stack([(eo[0] + ir[0]) / 2, sar[1]]))


@pytest.mark.parametrize("task", TASKS)
def test_the_ensemble_is_the_mean_of_the_probabilities_over_those_present(task):
    network, image = _build("singles", task), _image()
    available = torch.tensor([[True, False, True], [False, True, False]])
    with torch.no_grad():
        eo, sar, ir = (single(image).softmax(dim=1) for single in network.singles)
        found = network(image, available=available).softmax(dim=1)
    torch.testing.assert_close(found, torch.stack([(eo[0] + ir[0]) / 2, sar[1]]))


def test_i2m2_is_a_sum_of_logits():
    network, image = _build("i2m2"), _image()
    available = torch.tensor([[True, False, True], [False, True, False]])
    with torch.no_grad():
        eo, sar, ir = (single(image) for single in network.singles)
        joint = network.joint(image, available=available)
        found = network(image, available=available)
    torch.testing.assert_close(found, joint + torch.stack([eo[0] + ir[0], sar[1]]))


def test_a_pixel_is_answered_by_what_is_valid_there():
    network, image = _build("late"), _image()
    valid = {name: torch.ones(2, 9, 11, dtype=torch.bool) for name in MODALITIES}
    valid["eo"][:, :4] = False
    valid["sar"][:, :2] = False
    valid["ir"][:, :2] = False
    with torch.no_grad():
        eo, sar, ir = (single(image, valid=valid) for single in network.singles)
        found = network(image, valid=valid)
    torch.testing.assert_close(found[:, :, 2:4], (sar + ir)[:, :, 2:4] / 2)
    torch.testing.assert_close(found[:, :, 4:], (eo + sar + ir)[:, :, 4:] / 3)
    # Where nothing is valid, the neighbourhood of every modality has its say.
    torch.testing.assert_close(found[:, :, :2], (eo + sar + ir)[:, :, :2] / 3)


@pytest.mark.parametrize("name", ["late", "singles"])
def test_the_order_of_modalities_does_not_matter(name):
    network, image, order = _build(name), _image(), (2, 0, 1)
    shuffled = SinglesEnsemble([network.singles[column] for column in order])
    if name == "late":
        shuffled = LateFusion(shuffled.spec).eval()
        for single, column in zip(shuffled.singles, order, strict=True):
            single.load_state_dict(network.singles[column].state_dict())
    available = torch.tensor([[True, False, True], [True, True, False]])
    with torch.no_grad():
        found = shuffled.eval()(image, available=available[:, order])
        torch.testing.assert_close(found, network(image, available=available))


def test_absent_samples_stay_out_of_the_batch_statistics_of_late_fusion():
    mixed, alone = _build("late").train(), _build("late").train()
    image = _image(3)
    mixed(image, available=torch.tensor([[True] * 3, [False, True, True], [True] * 3]))
    alone({name: data[[0, 2]] for name, data in image.items()})
    for name, buffer in mixed.singles[0].named_buffers():
        torch.testing.assert_close(buffer, alone.singles[0].get_buffer(name))


def test_early_fusion_tells_a_zero_from_an_absence():
    network, image = _build("early"), _image()
    image["sar"] = torch.zeros_like(image["sar"])
    with torch.no_grad():
        assert not torch.equal(network(image), network(image, available=torch.tensor([[True, False, True]] * 2)))


def test_encoders_may_differ_and_heads_for_deep_supervision_belong_to_one_network():
    spec = _spec(encoder=("resnet18", "mobilenet_v2", "resnet18"), deep_supervision=True)
    for kind in (LateFusion, I2M2):
        network = kind(spec)
        assert not network.spec.deep_supervision
        assert network.side_logits([], size=(1, 1)) == []
        assert not any("side_heads" in key for key in network.state_dict())
    early = EarlyFusion(spec)
    fused = early.fuse(early.encode(_image()), torch.ones(2, 3, dtype=torch.bool))
    assert [tuple(logits.shape) for logits in early.side_logits(fused, size=(9, 11))] == [(2, 4, 9, 11)] * 2


def test_what_cannot_be_built_is_named():
    with pytest.raises(ModelError, match=r"'middle'.*early"):
        build_baseline("middle", _spec())
    with pytest.raises(ModelError, match="weights for"):
        LateFusion(_spec(), weights={"lidar": "imagenet"})
    with pytest.raises(ModelError, match="networks of modalities"):
        SinglesEnsemble([])
    with pytest.raises(ModelError, match="networks of modalities"):
        SinglesEnsemble([FusionUNet(_spec())])
    singles = [FusionUNet(_spec(classes=classes).single("eo")) for classes in (3, 4)]
    with pytest.raises(ModelError, match="classes"):
        SinglesEnsemble(singles)
    with pytest.raises(ModelError, match="differ"):
        SinglesEnsemble([singles[0], singles[0]])


@pytest.mark.parametrize("name", [*sorted(BASELINES), "singles"])
def test_batches_that_do_not_fit_are_named(name):
    network = _shared(name, "segmentation")
    with pytest.raises(ModelError, match="modalities"):
        network({"eo": torch.zeros(1, 3, 8, 8)})
    with pytest.raises(ModelError, match="available of shape"):
        network(_image(), available=torch.ones(2, 2, dtype=torch.bool))
