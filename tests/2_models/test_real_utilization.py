"""The study of reliance on real imagery, on an invented landscape: what it divides, cuts, counts and compares."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from equipoise.models.network import FusionUNet
from equipoise.models.utilization import permutation_reliance
from real_utilization.chips import Chips, decibels, power
from real_utilization.conditions import CONDITIONS, HELD_OUT, TRAINING
from real_utilization.cut import regular, tiles
from real_utilization.division import TOUCHING, border_likeness, divided, number_gap
from real_utilization.drawing import RandomPatches
from real_utilization.imagery import Imagery
from real_utilization.measures import accuracy, counts, flood_iou, shares
from real_utilization.methods import METHODS, methods
from real_utilization.summary import compared, differences
from real_utilization.training import Budget, spec_of

SIDE = 64


def _chips() -> Chips:
    """Twelve chips, the first four of them a square of one landscape; the second is for testing."""
    rng = np.random.default_rng(0)
    ground = ndimage.gaussian_filter(rng.standard_normal((9, 2 * SIDE, 2 * SIDE)), (0, 3, 3)) * 5
    square = [ground[:, y : y + SIDE, x : x + SIDE] for y in (0, SIDE) for x in (0, SIDE)]
    apart = ndimage.gaussian_filter(rng.standard_normal((8, 9, SIDE, SIDE)), (0, 0, 3, 3)) * 5
    layers = np.concatenate([square, apart]).astype(np.float32)
    before = layers[:, 3:6]
    return Chips(
        number=np.arange(12), test=np.isin(np.arange(12), [1, 6, 11]),
        image={"eo": layers[:, :6], "sar": layers[:, 6:8]}, flooded=layers[:, 8] > 0,
        edges=np.stack([before[:, :, 0], before[:, :, -1], before[..., 0], before[..., -1]], axis=1),
    )  # fmt: skip


@pytest.fixture(scope="module")
def imagery() -> Imagery:
    return Imagery.of(_chips())


def _named(name):
    return next(condition for condition in CONDITIONS if condition.name == name)


def test_chips_that_touch_are_found_and_kept_apart(imagery):
    assert imagery.division.pairs == [(0, 1), (0, 2), (1, 3), (2, 3)]
    assert imagery.division.left_out == [0, 3]
    parts = [imagery.division.train, imagery.division.validation, imagery.division.test, imagery.division.left_out]
    assert sorted(chip for part in parts for chip in part) == list(range(12))
    touch = border_likeness(imagery.chips.edges) > TOUCHING
    for group in (imagery.division.validation, imagery.division.test):
        assert not touch[np.ix_(group, imagery.division.train)].any()
    assert imagery.division == divided(imagery.chips)
    assert imagery.division.gap[1] < TOUCHING < imagery.division.gap[0]
    assert 1 <= number_gap(imagery.chips) < 12


def test_a_cut_shows_every_pixel_once_and_the_same_ones_under_every_condition(imagery):
    positions = imagery.division.test
    clear = regular(imagery, positions, "segmentation", batch=5)
    masks = torch.cat([batch["mask"] for batch in clear.batches])
    assert masks.sum() == imagery.chips.flooded[positions].sum()
    for chip in positions:
        mine = tiles(imagery.chips.flooded[[chip]][:, None])[:, 0]
        found = masks[torch.from_numpy(clear.chip == chip)].numpy()
        assert sorted(patch.tobytes() for patch in mine.astype(np.int64)) == sorted(p.tobytes() for p in found)
    cloudy = regular(imagery, positions, "segmentation", batch=5, conditions=[_named("thick_cloud_70")])
    for first, second in zip(clear.batches, cloudy.batches, strict=True):
        torch.testing.assert_close(first["mask"], second["mask"])
        torch.testing.assert_close(first["image"]["eo"][:, 3:], second["image"]["eo"][:, 3:])
        assert not torch.equal(first["image"]["eo"][:, :3], second["image"]["eo"][:, :3])


def test_what_is_lost_is_not_valid_and_an_outage_is_an_absence(imagery):
    striped = regular(imagery, [1], "segmentation", conditions=[_named("sar_stripes")]).batches[0]
    assert 0.4 < striped["valid"]["sar"].float().mean() < 0.6
    assert striped["valid"]["eo"].all()
    assert all(image.isfinite().all() for image in striped["image"].values())
    gone = regular(imagery, [1], "segmentation", conditions=[_named("outage_eo")]).batches[0]
    assert gone["available"].tolist() == [[False, True]] * 4


def test_both_classes_come_equally_often(imagery):
    labels = torch.cat([batch["label"] for batch in regular(imagery, range(12), "classification").batches])
    assert 0 < 2 * labels.sum() == len(labels)
    drawn = RandomPatches(imagery, "classification", conditions=TRAINING, count=2, batch=16, seed=0)
    assert [int(batch["label"].sum()) for batch in drawn] == [8, 8]


def test_training_patches_repeat_with_the_seed_and_differ_between_rounds(imagery):
    first, second = (
        RandomPatches(imagery, "segmentation", conditions=TRAINING, count=1, batch=8, seed=3) for _ in range(2)
    )
    one, again, later = next(iter(first)), next(iter(second)), next(iter(first))
    torch.testing.assert_close(one, again)
    assert not torch.equal(one["mask"], later["mask"])


def test_radar_goes_to_linear_power_and_back():
    shown = np.linspace(0, 1, 8, dtype=np.float32).reshape(1, 2, 4)
    np.testing.assert_allclose(decibels(power(shown)), shown, atol=1e-6)


def test_shares_are_those_of_the_package_with_intervals_over_chips(imagery):
    torch.manual_seed(0)
    network = FusionUNet(spec_of("segmentation")).eval()
    cut = regular(imagery, range(3), "segmentation", batch=6)
    found = shares(network, cut, rolls=2, bootstrap=200, seed=4)
    for name, mine in (("brier", found.share), ("cross_entropy", found.ce_share)):
        theirs = permutation_reliance(network, cut.batches, score=name, rolls=2, bootstrap=200, seed=4).share
        if theirs is not None and mine is not None:  # each has its own noise floor
            assert mine == pytest.approx(theirs)
    table = counts(network, cut)
    assert table.sum(axis=1).tolist() == [SIDE * SIDE] * 3
    assert table[:, 2:].sum() == imagery.chips.flooded[:3].sum()


def test_counts_give_accuracy_and_iou():
    table = np.array([[5, 1, 2, 2]])
    assert accuracy(table).tolist() == [0.7]
    assert flood_iou(table).tolist() == [0.4]


def test_no_training_shows_a_held_out_family():
    assert not {condition.family for condition in TRAINING} & HELD_OUT.keys()
    assert TRAINING[0].name == "clear"
    assert tuple(methods(None, Budget(), information=0.5)) == METHODS


def test_a_method_differs_from_a_worse_one_and_not_from_itself():
    rng = np.random.default_rng(0)

    def run(method, seed, right):
        hits = rng.binomial(100, right, size=(len(CONDITIONS), 6, 2)) if method == "worse" else np.full((18, 6, 2), 90)
        tables = np.stack([hits[..., 0], 100 - hits[..., 0], 100 - hits[..., 1], hits[..., 1]], axis=-1)
        return {
            "method": method,
            "seed": seed,
            "counts": {item.name: table.tolist() for item, table in zip(CONDITIONS, tables, strict=True)},
        }

    runs = [run(method, seed, 0.7) for method in ("better", "same", "worse") for seed in range(3)]
    found = differences(runs, "better", replicates=100)
    assert found["same"]["accuracy"]["held_out"] == {"mean": 0.0, "interval": [0.0, 0.0]}
    low, high = found["worse"]["accuracy"]["held_out"]["interval"]
    assert 0.15 < low < 0.2 < high < 0.25
    assert compared(runs)["better"]["accuracy"]["held_out"]["each"] == pytest.approx([0.9] * 3)
