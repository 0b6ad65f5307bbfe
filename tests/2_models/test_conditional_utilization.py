"""Conditional utilization rates: closed forms, explicit loops, chunks, intervals."""

import json

import pytest
import torch
from fake_networks import MODALITIES, Reader, chunked, clues
from hypothesis import given, settings
from hypothesis import strategies as st

from equipoise.models.conditional_utilization import conditional_utilization_rate, feature_means
from equipoise.models.errors import ModelError
from equipoise.models.network import FusionUNet, NetworkSpec


def test_means_are_over_usable_cells_of_the_samples_that_have_it():
    batch = clues(12, missing=0.4, noise=1.0)
    for m, name in enumerate(MODALITIES):
        batch["image"][name][~batch["available"][:, m]] = float("nan")
    batch["valid"] = {
        name: torch.rand(12, 4, 4, generator=torch.Generator().manual_seed(m)) < 0.7
        for m, name in enumerate(MODALITIES)
    }
    batch["available"][:, 2] = False
    found = feature_means(Reader(1.0, 1.0, 1.0), chunked(batch, 5, 7))
    for m, name in enumerate(MODALITIES[:2]):
        usable = batch["valid"][name] & batch["available"][:, m, None, None]
        expected = batch["image"][name][:, 0][usable].double().mean()
        torch.testing.assert_close(found[name][0], expected[None])
    assert found["ir"][0].tolist() == [0]


def test_rates_are_those_of_explicit_loops():
    network, batch = Reader(1.0, 0.8, -0.1), clues(15, missing=0.3, noise=1.5)
    batch["mask"][0, 0] = 255
    found = conditional_utilization_rate(network, [batch], bootstrap=20)
    for m, name in enumerate(MODALITIES):
        held = batch["available"][:, m]
        flat = batch["image"] | {name: torch.full_like(batch["image"][name], float(batch["image"][name][held].mean()))}
        right = [_hits(network, image, batch)[held].sum() for image in (batch["image"], flat)]
        assert found.rate[m] == pytest.approx(float((right[0] - right[1]) / right[0]))
        assert found.accuracy_without[m] == pytest.approx(float(right[1] / (batch["mask"][held] != 255).sum()))
    assert list(found.present) == batch["available"].sum(dim=0).tolist()


def _hits(network, image, batch):
    logits = network.decode(network.fuse(network.encode(image), batch["available"]), size=(4, 4))
    return (logits.argmax(dim=1) == batch["mask"]).flatten(1).sum(dim=1)


def test_the_only_witness_is_worth_all_that_is_above_chance():
    batch = clues(200)
    found = conditional_utilization_rate(Reader(1.0, 0.0, 0.0), [batch], bootstrap=100)
    assert found.accuracy == 1
    # With its mean in its place, every place gets the same class.
    share = float(batch["mask"].double().mean())
    assert found.rate[0] == pytest.approx(min(share, 1 - share), abs=1e-9)
    assert found.rate[1:] == (0, 0)
    assert found.imbalance == found.rate[0]


def test_twins_need_neither_of_the_two():
    batch = clues(50)
    batch["image"]["sar"] = batch["image"]["eo"]
    found = conditional_utilization_rate(Reader(1.0, 1.0, 0.0), [batch], bootstrap=20)
    assert found.rate == (0, 0, 0)


def test_means_of_the_training_data_can_be_given():
    batch, network = clues(50), Reader(1.0, 0.0, 0.0)
    always = {name: [torch.tensor([5.0], dtype=torch.float64)] for name in MODALITIES}
    found = conditional_utilization_rate(network, iter([batch]), means=always, bootstrap=20)
    assert found.rate[0] == pytest.approx(1 - float((batch["mask"] == 1).double().mean()))
    with pytest.raises(ModelError, match="read only once"):
        conditional_utilization_rate(network, iter([batch]))


@pytest.mark.parametrize("sizes", [(1,) * 20, (7, 13), (19, 1)])
def test_chunks_change_nothing(sizes):
    batch = clues(20, missing=0.3, noise=1.5)
    network = Reader(1.0, 0.7, 0.4)
    means = feature_means(network, [batch])
    whole = conditional_utilization_rate(network, [batch], means=means, bootstrap=30)
    assert conditional_utilization_rate(network, chunked(batch, *sizes), means=means, bootstrap=30) == whole
    for name, scales in feature_means(network, chunked(batch, *sizes)).items():
        torch.testing.assert_close(scales, means[name])


@given(order=st.permutations(range(3)))
@settings(max_examples=6)
def test_permuting_the_modalities_permutes_the_result(order):
    batch, weights = clues(20, missing=0.3, noise=1.5), (1.0, 0.6, -0.2)
    plain = conditional_utilization_rate(Reader(*weights), [batch], bootstrap=20)
    turned = batch | {"available": batch["available"][:, order]}
    network = Reader(*(weights[m] for m in order), modalities=tuple(MODALITIES[m] for m in order))
    found = conditional_utilization_rate(network, [turned], bootstrap=20)
    assert found.rate == pytest.approx([plain.rate[m] for m in order])
    assert found.present == tuple(plain.present[m] for m in order)


def test_intervals_cover_the_truth():
    network = Reader(1.0, 0.7, 0.4)
    means = {name: [torch.zeros(1, dtype=torch.float64)] for name in MODALITIES}
    truth = conditional_utilization_rate(network, [clues(40_000, noise=1.5, size=2)], means=means, bootstrap=2)
    covered = []
    for seed in range(1, 41):
        batch = clues(80, noise=1.5, size=2, seed=seed)
        found = conditional_utilization_rate(network, [batch], means=means, bootstrap=200, seed=seed)
        covered += [low <= rate <= high for (low, high), rate in zip(found.rate_interval, truth.rate, strict=True)]
    assert 0.89 <= sum(covered) / len(covered) <= 0.995


def test_no_hit_and_no_holder_are_undefined_but_written():
    batch = clues(6)
    batch["available"][:, 2] = False
    found = conditional_utilization_rate(Reader(-1.0, -1.0, 0.0), [batch], bootstrap=20)
    assert found.accuracy == 0
    assert found.rate == (None, None, None)
    assert found.accuracy_without[2] is None
    assert found.imbalance is None
    assert json.loads(json.dumps(found.to_dict(), allow_nan=False))["rate_interval"] == [None] * 3


def test_the_real_network_is_measured_and_left_as_it_was():
    torch.manual_seed(0)
    spec = NetworkSpec(modalities=MODALITIES, in_channels=(1, 1, 1), classes=2, depth=2, decoder_channels=(8, 4))
    network = FusionUNet(spec)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    means = feature_means(network, chunked(clues(6, missing=0.3), 2, 4))
    assert [len(scale) for scale in means["eo"]] == [spec.widths[scale] for scale in sorted(spec.widths)]
    found = conditional_utilization_rate(network, [clues(6, missing=0.3)], means=means, bootstrap=20)
    assert found.modalities == MODALITIES
    assert network.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_what_cannot_be_measured_is_refused():
    network, batch = Reader(1.0, 0.0, 0.0), clues(4)
    for batches, options, message in (
        ([], {}, "no batch"),
        ([clues(1)], {}, "1 labelled"),
        ([batch], {"bootstrap": 1}, "1 bootstrap"),
    ):
        with pytest.raises(ModelError, match=message):
            conditional_utilization_rate(network, batches, **options)
