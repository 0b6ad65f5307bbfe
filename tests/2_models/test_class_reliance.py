"""Class reliance: planted matrices, the sum over classes, explicit loops, intervals."""

import json
import math

import pytest
import torch
from fake_networks import MODALITIES, PerClass, Reader, chunked, clues

from equipoise.models.class_reliance import class_reliance
from equipoise.models.errors import ModelError
from equipoise.models.scores import SCORES, place_scores
from equipoise.models.utilization import permutation_reliance


def _four(count, *, seed=0, size=4):
    """Classes 0 to 3 that PerClass reads without error: ``ir`` is the same everywhere in a sample."""
    generator = torch.Generator().manual_seed(seed)
    pair = torch.randint(0, 2, (count, 1, 1), generator=generator).expand(count, size, size)
    within = torch.randint(0, 2, (count, size, size), generator=generator)
    other = torch.randint(0, 2, (count, size, size), generator=generator)
    eo, sar = torch.where(pair == 0, within, other), torch.where(pair == 1, within, other)
    image = {"eo": 2.0 * eo - 1, "sar": 2.0 * sar - 1, "ir": 3.0 * (2.0 * pair - 1)}
    return {"image": {name: data[:, None] for name, data in image.items()}, "mask": 2 * pair + within}


def test_planted_matrix_is_found():
    found = class_reliance(PerClass(1.0, 1.0, 1.0), chunked(_four(120), 40, 40, 40), bootstrap=100)
    matrix = torch.tensor(found.reliance)
    assert matrix.shape == (4, 3)
    # Exchanging the telling modality is wrong at every second place; `ir` is wrong in every second sample.
    expected = [[0.5, 0.0, 0.5]] * 2 + [[0.0, 0.5, 0.5]] * 2
    torch.testing.assert_close(matrix, torch.tensor(expected), atol=0.12, rtol=0)
    assert [row[m] for row, m in zip(found.reliance, (1, 1, 0, 0), strict=True)] == pytest.approx([0] * 4, abs=1e-6)
    assert sum(found.places) == 120 * 16
    assert found.indeterminate == (False,) * 4
    for row, shares in zip(found.reliance, found.share, strict=True):
        assert sum(shares) == pytest.approx(1)
        assert shares[0] == pytest.approx(max(row[0], 0) / sum(max(value, 0) for value in row))


@pytest.mark.parametrize("score", SCORES)
def test_classes_add_up_to_the_reliance_of_all(score):
    network, batch = Reader(1.0, 0.6, -0.2), clues(30, noise=1.0, missing=0.2)
    batches = chunked(batch, 10, 20)
    by_class = class_reliance(network, batches, score=score, rolls=2, bootstrap=20, seed=3)
    whole = permutation_reliance(network, batches, score=score, rolls=2, bootstrap=20, seed=3)
    for m in range(3):
        # The law is about the samples that have the modality: weigh by their places.
        held = batch["mask"][batch["available"][:, m]]
        weights = [float((held == k).double().mean()) for k in range(2)]
        total = sum(weight * row[m] for weight, row in zip(weights, by_class.reliance, strict=True))
        assert total == pytest.approx(whole.reliance[m], abs=1e-6)


def test_all_rolls_are_the_mean_over_all_pairs():
    network, batch = Reader(1.0, 0.6, -0.2), clues(5, noise=1.0)
    batch["mask"][0, 0] = 255
    found = class_reliance(network, [batch], rolls=4, bootstrap=2)
    features = network.encode(batch["image"])

    def places(features):
        logits = network.decode(network.fuse(features, batch["available"]), size=(4, 4))
        return place_scores("brier", logits, batch["mask"])

    for m, name in enumerate(MODALITIES):
        rises = [places(features.rolled(name, torch.arange(5).roll(shift))) - places(features) for shift in range(1, 5)]
        for k in range(2):
            expected = torch.stack(rises)[:, batch["mask"] == k].mean()
            assert found.reliance[k][m] == pytest.approx(float(expected), abs=1e-6)


def test_a_class_that_never_occurs_is_undefined_but_written():
    batch = clues(6)
    batch["mask"][:] = 1
    found = class_reliance(Reader(1.0, 0.5, 0.0), [batch], bootstrap=20)
    assert all(math.isnan(value) for value in found.reliance[0])
    assert found.share[0] is None
    assert found.places == (0, 96)
    assert found.samples == (0, 6)
    # All samples are of class 1 and certain of it: exchanges change next to nothing, but that is measurable.
    assert json.loads(json.dumps(found.to_dict(), allow_nan=False))["reliance"][0] == [None] * 3


def test_intervals_cover_the_truth():
    network = Reader(0.6, 0.4, 0.2)
    truth = class_reliance(network, [clues(20_000, noise=1.0, size=2)], rolls=4, bootstrap=2)
    covered = []
    for seed in range(1, 31):
        batches = chunked(clues(64, noise=1.0, size=2, seed=seed), *(8,) * 8)
        found = class_reliance(network, batches, rolls=7, bootstrap=200, seed=seed)
        covered += [
            low < value < high
            for pairs, values in zip(found.reliance_interval, truth.reliance, strict=True)
            for (low, high), value in zip(pairs, values, strict=True)
        ]
    # 180 intervals that depend on each other within a data set, hence the room around 95 %.
    assert 0.88 <= sum(covered) / len(covered) <= 0.995


def test_patches_with_one_label_and_whole_images():
    class Pooled(Reader):
        def decode(self, fused, *, size):
            return super().decode(fused, size=size).mean(dim=(2, 3))

    batch = clues(12)
    batch["mask"] = batch["mask"][:, :1, :1].expand(12, 4, 4)
    batch["image"] = dict.fromkeys(MODALITIES, (2.0 * batch["mask"] - 1)[:, None])
    batch["label"] = batch.pop("mask")[:, 0, 0]
    first, second = (
        class_reliance(Pooled(9.0, 0.0, 0.0), [batch], rolls=11, level=level, bootstrap=20)
        for level in ("feature", "input")
    )
    assert first.reliance == second.reliance
    ones = int(batch["label"].sum())
    # All pairs: a patch of class 1 is wrong with the donors of class 0.
    assert first.reliance[1][0] == pytest.approx((12 - ones) / 11)
    assert first.places == (12 - ones, ones)


def test_what_cannot_be_measured_is_refused():
    batch = clues(4)
    with pytest.raises(ModelError, match="no labelled"):
        class_reliance(Reader(1.0, 0.0, 0.0), [batch | {"mask": torch.full_like(batch["mask"], 255)}])
    with pytest.raises(ModelError, match="1 bootstrap"):
        class_reliance(Reader(1.0, 0.0, 0.0), [batch], bootstrap=1)
    with pytest.raises(ModelError, match="no batch"):
        class_reliance(Reader(1.0, 0.0, 0.0), [])
