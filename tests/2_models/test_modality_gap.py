"""Modality gaps: closed forms, laws, and that only what both saw counts."""

import json
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from equipoise.models.errors import ModelError
from equipoise.models.features import Features
from equipoise.models.modality_gap import CentroidGaps, ModalityGapMeter, modality_gap, sliced_wasserstein
from equipoise.models.network import FusionUNet, NetworkSpec

NAMES = ("eo", "sar")


def _features(eo, sar, *, seen=None, size=8):
    """Features of one scale of cells of one pixel; maps (batch, channel, y, x)."""
    whole = torch.ones(len(eo), 1, *eo.shape[-2:])
    shares = {name: [whole if seen is None else seen[name]] for name in NAMES}
    return Features(maps={"eo": [eo], "sar": [sar]}, shares=shares, size=(size, size))


def _measured(eo, sar, *, target=None, classes=0, seen=None):
    meter = ModalityGapMeter(NAMES, classes=classes)
    meter.update(_features(eo, sar, seen=seen), torch.ones(len(eo), 2, dtype=torch.bool), target)
    return meter.compute()


def _random(seed, *, batch=6, channels=5):
    return torch.randn(batch, channels, 8, 8, generator=torch.Generator().manual_seed(seed))


def test_the_same_features_have_no_gap():
    found = _measured(_random(0), 3 * _random(0), target=torch.arange(6) % 2, classes=2)
    assert found.centroid == ((pytest.approx(0, abs=1e-6),),)
    assert found.alignment == ((pytest.approx(0, abs=1e-6),),)
    assert found.transport == ((pytest.approx(0, abs=1e-5), pytest.approx(0, abs=1e-5)),)
    assert all(floor > 0 for floor in found.transport_floor[0])
    assert found.uniformity[0] == pytest.approx(found.uniformity[1], abs=1e-5)


def test_opposite_features_are_as_far_apart_as_can_be():
    ones = torch.ones(4, 3, 8, 8)
    found = _measured(ones, -ones)
    assert found.centroid[0][0] == pytest.approx(2)
    assert found.alignment[0][0] == pytest.approx(4)
    assert found.uniformity == ((pytest.approx(0, abs=1e-6),), (pytest.approx(0, abs=1e-6),))


def test_features_at_a_right_angle():
    eo, sar = torch.zeros(2, 4, 2, 8, 8)
    eo[:, 0], sar[:, 1] = 1, 5
    found = _measured(eo, sar)
    assert (found.centroid[0][0], found.alignment[0][0]) == (pytest.approx(math.sqrt(2)), pytest.approx(2))


@given(st.integers(0, 10_000))
def test_the_order_of_the_modalities_does_not_matter(seed):
    eo, sar = _random(seed), _random(seed + 1)
    found, turned = _measured(eo, sar), _measured(sar, eo)
    assert found.centroid == turned.centroid
    assert found.alignment == turned.alignment
    assert found.uniformity == turned.uniformity[::-1]


def test_the_centroids_are_nearer_than_the_places():
    """Jensen: the distance of the means is at most the mean distance."""
    found = _measured(_random(3), _random(4))
    assert found.centroid[0][0] ** 2 < found.alignment[0][0] < 4
    assert -4 < found.uniformity[0][0] < 0


def test_only_places_that_both_saw_count():
    eo, sar = _random(1), _random(2)
    seen = {name: torch.ones(6, 1, 8, 8) for name in NAMES}
    seen["eo"][:, :, :4], seen["sar"][:, :, :, :4] = 0, 0.4
    eo[:, :, :4], sar[:, :, :, :4] = float("nan"), float("nan")
    found = _measured(eo, sar, seen=seen)
    assert math.isfinite(found.alignment[0][0])
    assert found.cells == ((48,),)
    meter = ModalityGapMeter(NAMES)
    meter.update(_features(eo, sar, seen=seen), torch.tensor([[True, False]] * 6))
    assert meter.compute().cells == ((0,),)


def test_classes_are_told_apart():
    """Of class 0 both say the same; of class 1 the opposite; class 2 is not there."""
    target = torch.arange(6) % 2
    eo = _random(5).abs()
    sar = torch.where(target.bool()[:, None, None, None], -eo, eo)
    found = _measured(eo, sar, target=target[:, None, None].expand(6, 8, 8), classes=3)
    same, opposite, absent = found.transport[0]
    assert same == pytest.approx(0, abs=1e-5)
    assert opposite > 3 * found.transport_floor[0][1]
    assert math.isnan(absent)
    assert json.loads(json.dumps(found.to_dict()))["transport"][0][2] is None


@given(st.floats(-5, 5), st.integers(0, 100))
def test_transport_in_one_dimension_is_the_distance_of_sorted_values(shift, seed):
    points = torch.randn(40, 1, generator=torch.Generator().manual_seed(seed))
    found = sliced_wasserstein(points, points[torch.randperm(40)] + shift, torch.ones(1, 1))
    assert found == pytest.approx(abs(shift), abs=1e-4)


def test_a_network_is_measured_at_every_scale():
    torch.manual_seed(0)
    spec = NetworkSpec(
        modalities=("eo", "sar", "ir"), in_channels=(3, 2, 1), classes=2, depth=2, decoder_channels=(16, 8)
    )
    network = FusionUNet(spec)
    image = {name: torch.randn(4, bands, 20, 28) for name, bands in zip(spec.modalities, spec.in_channels, strict=True)}
    batch = {"image": image, "mask": torch.randint(0, 2, (4, 20, 28))}
    found = modality_gap(network, [batch, batch], classes=2)
    assert found.strides == (1, 2, 4)
    assert found.pairs == (("eo", "sar"), ("eo", "ir"), ("sar", "ir"))
    assert found.cells == ((64, 64, 64),) * 3
    assert found == modality_gap(network, [batch, batch], classes=2)
    assert network.training


def test_chips_have_one_scale():
    spec = NetworkSpec(
        modalities=("eo", "sar"), in_channels=(3, 2), classes=2, depth=3, decoder_channels=(16, 8, 8),
        task="classification",
    )  # fmt: skip
    batch = {"image": {"eo": torch.randn(6, 3, 30, 30), "sar": torch.randn(6, 2, 30, 30)}, "label": torch.arange(6) % 2}
    found = modality_gap(FusionUNet(spec), [batch], classes=2)
    assert found.strides == (8,)
    assert all(map(math.isfinite, found.transport[0]))


def test_one_modality_has_no_gap():
    spec = NetworkSpec(modalities=("eo",), in_channels=(3,), classes=2, depth=2, decoder_channels=(16, 8))
    found = modality_gap(FusionUNet(spec), [{"image": {"eo": torch.randn(2, 3, 16, 16)}}])
    assert (found.pairs, found.centroid, found.cells) == ((), (), ())


def test_the_floor_is_that_of_chance():
    """Scenes that differ lie one after the other: their difference is no chance."""
    shift = torch.linspace(0, 6, 6)[:, None, None, None]
    eo, sar = _random(1) + shift, _random(2) + shift
    found = _measured(eo, sar, target=torch.zeros(6, dtype=torch.long), classes=1)
    assert found.transport[0][0] < 3 * found.transport_floor[0][0]
    vectors = torch.nn.functional.normalize(eo.movedim(1, -1).reshape(-1, 5), dim=1)
    directions = torch.nn.functional.normalize(torch.randn(64, 5, generator=torch.Generator().manual_seed(0)), dim=1)
    between = sliced_wasserstein(vectors[:192], vectors[192:], directions)
    assert found.transport_floor[0][0] < between / 2


def test_the_gap_of_a_training_is_that_of_all_cells():
    eo, sar = _random(3), _random(4)
    gaps, whole = CentroidGaps(NAMES), torch.ones(6, 2, dtype=torch.bool)
    for rows in (slice(0, 2), slice(2, 6)):
        gaps.update(_features(eo[rows], sar[rows]), whole[rows])
    means = [torch.nn.functional.normalize(x, dim=1).mean(dim=(0, 2, 3)) for x in (eo, sar)]
    assert gaps.compute() == {NAMES: pytest.approx(float((means[0] - means[1]).norm()), abs=1e-5)}
    gaps.reset()
    gaps.update(_features(eo, sar), torch.tensor([[True, False]] * 6))
    assert gaps.compute() == {}


def test_no_batch_is_refused():
    with pytest.raises(ModelError, match="found no batch; wanted at least one"):
        ModalityGapMeter(NAMES).compute()
