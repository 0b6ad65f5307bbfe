"""Permutation reliance against planted truth, coalitions on cached features, report."""

import json
import math

import pytest
import torch
from fake_networks import MODALITIES, Reader

from equipoise.models.errors import ModelError
from equipoise.models.features import Features
from equipoise.models.network import FusionUNet, NetworkSpec
from equipoise.models.utilization import (
    coalition_scores,
    coalitions,
    permutation_reliance,
    roll_derangement,
)


def _batches(count=6, batch=8, *, seed=0, missing=0.0):
    generator = torch.Generator().manual_seed(seed)
    batches = []
    for _ in range(count):
        mask = torch.randint(0, 2, (batch, 4, 4), generator=generator)
        clue = (2.0 * mask - 1)[:, None]
        image = {name: clue + 0.1 * torch.randn(batch, 1, 4, 4, generator=generator) for name in MODALITIES}
        available = torch.rand(batch, 3, generator=generator) >= missing
        batches.append({"image": image, "available": available, "mask": mask})
    return batches


@pytest.mark.parametrize("planted", [0, 1, 2])
@pytest.mark.parametrize("score", ["brier", "cross_entropy"])
def test_planted_reliance_is_found(planted, score):
    weights = [3.0 if m == planted else 0.0 for m in range(3)]
    report = permutation_reliance(Reader(*weights), _batches(), score=score, bootstrap=200)
    assert report.share[planted] > 0.95
    assert [value for m, value in enumerate(report.reliance) if m != planted] == [0.0, 0.0]
    assert report.share_interval[planted][0] > 0.95
    assert not report.indeterminate
    assert report.samples == 48


def test_equal_evidence_gives_equal_shares():
    report = permutation_reliance(Reader(1.0, 1.0, 1.0), _batches(20), bootstrap=200)
    assert sum(report.share) == pytest.approx(1)
    assert report.share == pytest.approx((1 / 3,) * 3, abs=0.02)
    for low, high in report.share_interval:
        assert low < 1 / 3 < high


@pytest.mark.parametrize("rolls", [1, 3, 7])
def test_intervals_cover_the_truth(rolls):
    # Twenty scenes, three symmetric modalities: the truth is 1/3. Resampling receipts alone covered 74 % at 7 rolls.
    covered = []
    for seed in range(20):
        batches = _batches(20, seed=seed)
        report = permutation_reliance(Reader(1.0, 1.0, 1.0), batches, rolls=rolls, bootstrap=100, seed=seed)
        covered += [low < 1 / 3 < high for low, high in report.share_interval]
    assert sum(covered) / len(covered) >= 0.88


def test_closed_form_of_certain_evidence():
    # Certain from one modality: an exchange is wrong wherever the labels differ, half of all pixels.
    report = permutation_reliance(Reader(100.0, 0.0, 0.0), _batches(20), bootstrap=50)
    assert report.baseline == pytest.approx(0, abs=1e-6)
    assert report.reliance[0] == pytest.approx(0.5, abs=0.03)
    low, high = report.reliance_interval[0]
    assert low < report.reliance[0] < high


def test_permuting_the_order_permutes_the_reliance():
    turned = Reader(0.0, 2.0, 1.0, modalities=("ir", "eo", "sar"))
    plain = permutation_reliance(Reader(2.0, 1.0, 0.0), _batches(20), rolls=7, bootstrap=10)
    swapped = permutation_reliance(turned, _batches(20), rolls=7, bootstrap=10)
    # All 7 derangements of 8 samples are used, so that no draw is left to chance.
    assert swapped.reliance == pytest.approx([plain.reliance[2], plain.reliance[0], plain.reliance[1]])


def test_reading_nothing_is_indeterminate():
    report = permutation_reliance(Reader(0.0, 0.0, 0.0), _batches(), bootstrap=20)
    assert report.indeterminate
    assert report.share is None
    assert report.share_interval is None
    assert report.reliance == (0.0, 0.0, 0.0)


def test_only_holders_exchange():
    batches = _batches(missing=0.4)
    for batch in batches:
        for m, name in enumerate(MODALITIES):
            # An absent modality that leaked into an exchange would turn every figure into NaN.
            batch["image"][name][~batch["available"][:, m]] = float("inf")
    report = permutation_reliance(_Guarded(1.0, 1.0, 0.0), batches, bootstrap=20)
    assert all(math.isfinite(value) for value in report.reliance)
    holders = sum(batch["available"].sum(dim=0) for batch in batches)
    assert list(report.pairs) == holders.tolist()


class _Guarded(Reader):
    """Reads with `where`, as absent data may be anything; only an exchange could bring it in."""

    def fuse(self, features, available):
        seen = {
            name: [feature.where(available[:, m, None, None, None], 0) for feature in features.maps[name]]
            for m, name in enumerate(MODALITIES)
        }
        return super().fuse(Features(maps=seen, shares=features.shares, size=features.size), available)


def test_valid_masks_travel_with_their_modality():
    features = Reader(1.0, 0.0, 0.0).encode(
        {name: torch.arange(3.0)[:, None, None, None].expand(3, 1, 4, 4) for name in MODALITIES},
        valid={name: torch.tensor([True, False, True])[:, None, None].expand(3, 4, 4) for name in MODALITIES},
    )
    rolled = features.rolled("sar", torch.tensor([1, 2, 0]))
    assert rolled.maps["sar"][0][:, 0, 0, 0].tolist() == [1, 2, 0]
    assert rolled.shares["sar"][0][:, 0, 0, 0].tolist() == [0, 1, 1]
    assert rolled.maps["eo"] is features.maps["eo"]


def test_a_modality_never_held_by_two_is_undefined_but_written():
    batches = _batches(2)
    for batch in batches:
        batch["available"][:, 2] = False
    report = permutation_reliance(Reader(1.0, 1.0, 1.0), batches, bootstrap=20)
    assert math.isnan(report.reliance[2])
    assert report.share[2] == 0
    written = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert written["reliance"][2] is None
    assert written["modalities"] == list(MODALITIES)


def test_seed_decides_and_unlabelled_samples_are_left_out():
    batches = _batches(3)
    batches[0]["mask"][0] = 255
    first, second = (permutation_reliance(Reader(1.0, 0.5, 0.1), batches, bootstrap=20, seed=4) for _ in range(2))
    assert first == second
    assert first.samples == 23
    assert first != permutation_reliance(Reader(1.0, 0.5, 0.1), batches, bootstrap=20, seed=5)


@pytest.mark.parametrize("sizes", [(8, 1), (1, 8), (8, 1, 1), (1, 1)])
def test_lonely_batches_are_joined(sizes):
    batches = [_batches(1, size, seed=size)[0] for size in sizes]
    assert permutation_reliance(Reader(1.0, 0.0, 0.0), batches, bootstrap=20).samples == sum(sizes)


def test_what_cannot_be_measured_is_refused():
    with pytest.raises(ModelError, match="batch of 1"):
        permutation_reliance(Reader(1.0, 0.0, 0.0), _batches(1, 1))
    with pytest.raises(ModelError, match="no batch"):
        permutation_reliance(Reader(1.0, 0.0, 0.0), [])
    unlabelled = _batches(1)
    unlabelled[0]["mask"][:] = 255
    with pytest.raises(ModelError, match="no labelled"):
        permutation_reliance(Reader(1.0, 0.0, 0.0), unlabelled)
    with pytest.raises(ModelError, match="0 rolls"):
        permutation_reliance(Reader(1.0, 0.0, 0.0), _batches(1), rolls=0)
    with pytest.raises(ModelError, match="'accuracy'"):
        permutation_reliance(Reader(1.0, 0.0, 0.0), _batches(1), score="accuracy")


@pytest.mark.parametrize(("batch", "shift"), [(2, 1), (7, 3), (8, 4), (5, -2), (5, 11)])
def test_derangements_move_everything(batch, shift):
    index = roll_derangement(batch, shift)
    assert sorted(index.tolist()) == list(range(batch))
    assert (index != torch.arange(batch)).all()


@pytest.mark.parametrize(("batch", "shift"), [(1, 1), (0, 1), (4, 0), (4, 8)])
def test_no_derangement_exists(batch, shift):
    with pytest.raises(ModelError, match="found"):
        roll_derangement(batch, shift)


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    spec = NetworkSpec(modalities=MODALITIES, in_channels=(1, 1, 1), classes=2, depth=2, decoder_channels=(8, 4))
    return FusionUNet(spec)


def test_the_real_network_is_measured_and_left_as_it_was(network):
    network.train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    report = permutation_reliance(network, _batches(2), bootstrap=20)
    assert network.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert report.modalities == MODALITIES
    assert report.pairs == (16, 16, 16)


def test_labels_of_patches_are_measured_too():
    torch.manual_seed(0)
    spec = NetworkSpec(
        modalities=MODALITIES,
        in_channels=(1, 1, 1),
        classes=2,
        task="classification",
        depth=2,
        decoder_channels=(8, 4),
    )
    batches = [
        {"image": batch["image"], "label": batch["mask"][:, 0, 0], "available": batch["available"]}
        for batch in _batches(2)
    ]
    assert permutation_reliance(FusionUNet(spec), batches, bootstrap=20).samples == 16


def test_coalition_scores_equal_separate_forwards(network):
    batch = _batches(1, missing=0.3)[0]
    logits = coalition_scores(network, batch)
    assert logits.shape == (8, 8, 2, 4, 4)
    network.eval()
    for subset, expected in zip(coalitions(3), logits, strict=True):
        with torch.no_grad():
            single = network(batch["image"], available=batch["available"] & subset)
        torch.testing.assert_close(single, expected, atol=1e-5, rtol=1e-5)
