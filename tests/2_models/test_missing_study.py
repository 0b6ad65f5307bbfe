"""The study of missing sensors: sums by hand, counts by scikit-learn, and recipes that exist."""

import numpy as np
import pytest
import torch
from missing.counting import counted, subset_names
from missing.recipes import RECIPES, known
from missing.sums import best, gains, mean_iou, scores, summed
from sklearn.metrics import confusion_matrix

from equipoise.models.losses import IGNORE
from equipoise.models.network import FusionUNet, NetworkSpec

SPEC = NetworkSpec(modalities=("eo", "sar"), in_channels=(2, 1), classes=3, depth=2, decoder_channels=(8, 4))


def test_subsets_are_named_in_binary_order():
    assert subset_names(("eo", "sar", "ir")) == ["eo", "sar", "eo+sar", "ir", "eo+ir", "sar+ir", "eo+sar+ir"]


def test_counts_are_those_of_scikit_learn():
    torch.manual_seed(0)
    network = FusionUNet(SPEC).eval()
    image = {"eo": torch.randn(4, 2, 8, 8), "sar": torch.randn(4, 1, 8, 8)}
    mask = torch.randint(0, 3, (4, 8, 8))
    mask[0, 0] = IGNORE
    available = torch.ones(4, 2, dtype=torch.bool)
    units = np.array([0, 1, 1, 0])
    found = counted(network, [({"image": image, "mask": mask, "available": available}, units)], units=2)
    assert found.shape == (2, 3, 3, 3)
    for number, row in enumerate(([True, False], [False, True], [True, True])):
        with torch.inference_mode():
            answer = network(image, available=torch.tensor([row] * 4)).argmax(dim=1)
        for unit in (0, 1):
            chosen = (units == unit)[:, None, None] & (mask != IGNORE).numpy()
            table = confusion_matrix(mask.numpy()[chosen], answer.numpy()[chosen], labels=[0, 1, 2])
            expected = [table.diagonal(), table.sum(axis=1), table.sum(axis=0)]
            np.testing.assert_array_equal(found[unit, number], expected)


def test_mean_iou_leaves_out_classes_that_do_not_occur():
    counts = np.array([[3, 1, 0], [4, 4, 0], [5, 2, 1]])  # hits, truth, answers
    assert mean_iou(counts) == pytest.approx((3 / 6 + 1 / 5) / 2)


def test_scores_of_three_sensors_by_hand():
    # eo, sar, eo+sar, ir, eo+ir, sar+ir, all: one of nine pairs falls, from eo+sar to all.
    found = scores([0.5, 0.3, 0.8, 0.2, 0.6, 0.4, 0.7])
    assert found["worst"] == 0.2
    assert found["full"] == 0.7
    assert found["mean"] == pytest.approx(0.5)
    assert found["monotone"] == pytest.approx(8 / 9)
    assert found["largest_drop"] == pytest.approx(0.1)


def _counts(shares):
    """Counts (seed, unit, subset, 3, class) of networks that hit a share of each of two classes of 100 pixels."""
    share = np.asarray(shares)[..., None]
    hits = np.round(100 * share).astype(int) * np.ones(2, int)
    return np.stack([hits, np.full_like(hits, 100), hits], axis=-2)


def test_gains_are_differences_of_worst_and_full_in_points():
    theirs = _counts(np.full((3, 4, 3), 0.5))
    ours = _counts(np.broadcast_to([0.7, 0.6, 0.5], (3, 4, 3)))
    found = gains(ours, theirs, replicates=50)
    assert found["worst"]["points"] == pytest.approx(0)
    assert found["full"]["points"] == pytest.approx(0)
    better = gains(_counts(np.full((3, 4, 3), 0.7)), theirs, replicates=50)
    assert better["worst"]["points"] == pytest.approx(20)
    assert better["worst"]["interval"] == pytest.approx([20, 20]), "units and seeds that are alike leave nothing open"


def test_an_interval_holds_what_seeds_differ_by():
    rng = np.random.default_rng(0)
    theirs = _counts(rng.uniform(0.4, 0.6, (3, 20, 3)))
    found = gains(_counts(rng.uniform(0.5, 0.7, (3, 20, 3))), theirs, replicates=200)
    low, high = found["full"]["interval"]
    assert low < found["full"]["points"] < high
    assert 0 < high - low < 20


def test_the_best_recipe_is_that_of_validation_and_loses_little_of_the_full_set():
    def run(validation):
        return {
            "test": [1.0, 1.0, 1.0],
            "validation": validation,
            "held_out": {"haze": [0.1, 0.2, 0.3]},
            "seconds": 1.0,
        }

    table = {
        "plain": summed([run([0.2, 0.1, 0.9])]),
        "greedy": summed([run([0.8, 0.7, 0.8])]),
        "fair": summed([run([0.6, 0.5, 0.895])]),
        "fairer": summed([run([0.6, 0.55, 0.895])]),
    }
    assert best({"here": table}) == "fairer"
    there = {**table, "fairer": summed([run([0.6, 0.3, 0.9])])}
    assert best({"here": table, "there": there}) == "fair"
    assert table["fair"]["held_out_worst"] == pytest.approx(0.1)


def test_every_recipe_builds_a_network_of_the_study():
    from dataclasses import replace

    for recipe in known(further=True).values():
        assert FusionUNet(replace(SPEC, **{"norm": "layer", **recipe.changes})).modalities == ("eo", "sar")
    assert next(iter(RECIPES)) == "plain"
