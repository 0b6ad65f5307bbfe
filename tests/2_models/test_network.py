"""FusionUNet: sizes, absence, validity, batch statistics."""

import functools
import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from equipoise.models.baselines import single_modality_spec
from equipoise.models.errors import ModelError
from equipoise.models.fusion import FUSIONS
from equipoise.models.network import FusionUNet, NetworkSpec

MODALITIES = ("eo", "sar", "ir")
SPEC = {"modalities": MODALITIES, "in_channels": (3, 2, 1), "classes": 4, "depth": 2, "decoder_channels": (8, 4)}


def _network(**changes):
    torch.manual_seed(0)
    return FusionUNet(NetworkSpec(**{**SPEC, **changes})).eval()


@pytest.fixture(scope="module")
def network():
    return _network()


def _image(batch=2, size=(16, 16), *, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(batch, bands, *size, generator=generator)
        for name, bands in zip(MODALITIES, SPEC["in_channels"], strict=True)
    }


@pytest.mark.parametrize("size", [(1, 1), (1, 37), (29, 1), (13, 17), (16, 16), (23, 8)])
@pytest.mark.parametrize("training", [False, True])
def test_any_size_works(size, training):
    network = _network().train(training)
    logits = network(_image(1, size))
    assert logits.shape == (1, 4, *size)
    assert logits.isfinite().all()


@pytest.mark.parametrize("size", [(1, 1), (13, 17)])
def test_classification_gives_one_row_a_sample(size):
    network = _network(task="classification")
    assert network(_image(3, size)).shape == (3, 4)
    assert not hasattr(network, "decoder")


def test_steps_in_a_row_are_forward(network):
    image, available = _image(), torch.tensor([[True, False, True], [True, True, True]])
    features = network.encode(image, available=available)
    assert [tuple(feature.shape) for feature in features.maps["eo"]] == [(2, 4, 16, 16), (2, 4, 8, 8), (2, 8, 4, 4)]
    stepwise = network.decode(network.fuse(features, available), size=features.size)
    assert torch.equal(stepwise, network(image, available=available))


@functools.cache
def _shared(task):
    return _network(task=task)


@settings(max_examples=25, deadline=None)
@given(
    absent=st.lists(st.sampled_from(MODALITIES), min_size=1, max_size=2, unique=True),
    garbage=st.sampled_from([0.0, 1e30, float("nan"), float("inf")]),
    task=st.sampled_from(["segmentation", "classification"]),
    masked=st.booleans(),
)
def test_an_absent_modality_changes_nothing(absent, garbage, task, masked):
    network, image = _shared(task), _image(size=(9, 11))
    available = torch.tensor([[name not in absent for name in MODALITIES], [True] * 3])
    valid = {name: torch.rand(2, 9, 11) < 0.8 for name in MODALITIES} if masked else None
    spoiled = {name: data.clone() for name, data in image.items()}
    for name in absent:
        spoiled[name][0] = garbage
    expected = network(image, available=available, valid=valid)
    assert expected.isfinite().all()
    assert torch.equal(expected, network(spoiled, available=available, valid=valid))


def test_leaving_out_at_fusion_equals_leaving_out_at_encoding(network):
    image, available = _image(), torch.tensor([[True, False, True], [False, True, True]])
    features = network.encode(image)
    late = network.decode(network.fuse(features, available), size=features.size)
    torch.testing.assert_close(late, network(image, available=available), atol=1e-5, rtol=1e-5)


def test_one_present_modality_equals_its_own_network(network):
    alone = FusionUNet(single_modality_spec(network.spec, "sar")).eval()
    alone.encoders[0].load_state_dict(network.encoders[1].state_dict())
    alone.decoder.load_state_dict(network.decoder.state_dict())
    alone.head.load_state_dict(network.head.state_dict())
    image = _image()
    torch.testing.assert_close(alone(image), network(image, available=torch.tensor([[False, True, False]] * 2)))


def test_invalid_pixels_are_never_read(network):
    image = _image()
    valid = {name: torch.ones(2, 16, 16, dtype=torch.bool) for name in MODALITIES}
    valid["eo"][:, 3:9, 2:7] = False
    spoiled = {**image, "eo": image["eo"].masked_fill(~valid["eo"][:, None], float("nan"))}
    assert torch.equal(network(image, valid=valid), network(spoiled, valid=valid))


def test_valid_shares_are_areas(network):
    valid = {name: torch.ones(1, 8, 8, dtype=torch.bool) for name in MODALITIES}
    valid["eo"][:, :, :2] = False
    features = network.encode(_image(1, (8, 8)), valid=valid)
    torch.testing.assert_close(features.shares["eo"][1][0, 0, 0], torch.tensor([0.0, 1.0, 1.0, 1.0]))
    torch.testing.assert_close(features.shares["eo"][2][0, 0, 0], torch.tensor([0.5, 1.0]))


def test_padding_counts_as_unseen(network):
    features = network.encode(_image(1, (5, 8)))
    assert features.size == (5, 8)
    torch.testing.assert_close(features.shares["eo"][2][0, 0, :, 0], torch.tensor([1.0, 0.25]))


def test_an_invalid_patch_is_an_absent_one(network):
    image = _image()
    valid = {name: torch.ones(2, 16, 16, dtype=torch.bool) for name in MODALITIES}
    valid["ir"][1] = False
    available = torch.tensor([[True] * 3, [True, True, False]])
    assert torch.equal(network(image, valid=valid), network(image, available=available))


def test_nothing_present_is_finite(network):
    assert network(_image(), available=torch.zeros(2, 3, dtype=torch.bool)).isfinite().all()


def test_absent_samples_stay_out_of_batch_statistics():
    mixed, alone = _network().train(), _network().train()
    image = _image(3)
    mixed(image, available=torch.tensor([[True] * 3, [False, True, True], [True] * 3]))
    alone({name: data[[0, 2]] for name, data in image.items()})
    statistics = mixed.encoders[0].backbone.bn1.running_mean
    torch.testing.assert_close(statistics, alone.encoders[0].backbone.bn1.running_mean)
    mixed(image, available=torch.tensor([[False, True, True]] * 3))
    assert mixed.encoders[0].backbone.bn1.num_batches_tracked == 1


def test_gradients_reach_only_what_was_seen():
    network = _network().train()
    network(_image(), available=torch.tensor([[True, True, False]] * 2)).sum().backward()
    seen = [any(p.grad is not None for p in encoder.parameters()) for encoder in network.encoders]
    assert seen == [True, True, False]


def test_encoders_may_differ():
    network = _network(encoder=("resnet18", "mobilenet_v2", "resnet18"))
    assert network(_image()).shape == (2, 4, 16, 16)


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"eo": None}, "modalities"),
        ({"sar": torch.zeros(2, 5, 16, 16)}, "sar of shape"),
        ({"ir": torch.zeros(2, 1, 16, 15)}, "ir of shape"),
        ({"eo": torch.zeros(2, 3, 16)}, "eo of shape"),
    ],
)
def test_batches_that_do_not_fit_are_named(network, change, found):
    image = {name: data for name, data in {**_image(), **change}.items() if data is not None}
    with pytest.raises(ModelError, match=f"found {found}.*wanted"):
        network(image)


def test_availability_of_the_wrong_kind_is_named(network):
    with pytest.raises(ModelError, match="available of shape"):
        network(_image(), available=torch.ones(2, 2, dtype=torch.bool))
    with pytest.raises(ModelError, match="available of shape"):
        network(_image(), available=torch.ones(2, 3))


def test_valid_masks_of_the_wrong_shape_are_named(network):
    with pytest.raises(ModelError, match="valid mask of eo"):
        network(_image(), valid={name: torch.ones(2, 4, 4, dtype=torch.bool) for name in MODALITIES})


@pytest.mark.parametrize("encoder", ["resnet18", ("resnet18", "mobilenet_v2", "resnet18")])
@pytest.mark.parametrize("fusion", sorted(FUSIONS))
def test_spec_survives_json(encoder, fusion):
    spec = NetworkSpec(**SPEC, encoder=encoder, fusion=fusion, deep_supervision=fusion == "gated")
    assert NetworkSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec


@pytest.mark.parametrize(
    "change",
    [
        {"modalities": ()},
        {"modalities": ("eo", "eo", "ir")},
        {"in_channels": (3, 2)},
        {"in_channels": (3, 2, 0)},
        {"classes": 1},
        {"classes": 256},
        {"task": "regression"},
        {"encoder": ("resnet18",)},
        {"depth": 6},
        {"decoder_channels": (8,)},
        {"fusion": "median"},
        {"deep_supervision": "yes"},
        {"deep_supervision": True, "task": "classification"},
    ],
)
def test_specs_that_contradict_themselves_are_refused(change):
    with pytest.raises(ModelError, match=r"found.*wanted"):
        NetworkSpec(**{**SPEC, **change})


def test_spec_keys_are_checked():
    values = NetworkSpec(**SPEC).to_dict()
    with pytest.raises(ModelError, match="network keys"):
        NetworkSpec.from_dict({**values, "surprise": 1})
    with pytest.raises(ModelError, match="wrong types"):
        NetworkSpec.from_dict({**values, "modalities": 3})


def test_single_modality_spec_keeps_the_rest():
    spec = NetworkSpec(**SPEC, encoder=("resnet18", "mobilenet_v2", "resnet18"))
    alone = single_modality_spec(spec, "sar")
    assert (alone.modalities, alone.in_channels, alone.encoder) == (("sar",), (2,), "mobilenet_v2")
    assert (alone.depth, alone.decoder_channels, alone.classes) == (spec.depth, spec.decoder_channels, spec.classes)
    with pytest.raises(ModelError, match="'lidar'"):
        single_modality_spec(spec, "lidar")
