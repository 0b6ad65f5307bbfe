"""The oracle scene: its posterior against brute force, its calibration, and the laws that its variants must obey."""

import math
from itertools import pairwise

import pytest
import torch
from scipy.stats import gamma, multivariate_normal

from equipoise.models.coalitions import coalitions
from equipoise.models.utilization import brier_score, coalition_scores, permutation_reliance
from oracle.conditions import CONDITIONS, HELD_OUT_FAMILIES, TRAINING_FAMILIES, named
from oracle.exact import BayesNetwork, exact_figures
from oracle.loader import OracleBatches, oracle_loader
from oracle.scene import OracleScene
from oracle.sensors import SENSORS
from oracle.variants import VARIANTS

NAMES = [item.name for item in CONDITIONS]
OPTICAL, RADAR, THERMAL = SENSORS["optical"], SENSORS["radar"], SENSORS["thermal"]


def _optical_density(pixels, level, condition):
    """Joint log density of the valid pixels (n, 3) of a cell under a class: all their covariances written out."""
    n = len(pixels)
    found = []
    for cloudy, weight in ((0, 1 - condition.cloud_cover), (1, condition.cloud_cover)):
        if condition.cloud_flagged:
            cloudy, weight = 0, 1
        if not weight:
            continue
        haze = [condition.haze * loss for loss in OPTICAL.haze_loss]
        through = 1 - condition.cloud_opacity * cloudy
        path = [
            through * h * c + (1 - through) * OPTICAL.cloud_colour
            for h, c in zip(haze, OPTICAL.haze_colour, strict=True)
        ]
        seen = [through * (1 - h) * condition.illumination for h in haze]
        mean = [p + s * m for p, s, m in zip(path, seen, level, strict=True)] * n
        covariance = [
            [
                OPTICAL.glow_sd**2 * path[a] * path[b]
                + (a == b) * (seen[a] * OPTICAL.ground_sd) ** 2
                + (a == b and i == j) * (OPTICAL.noise + condition.eo_noise)
                for j in range(n)
                for b in range(3)
            ]
            for i in range(n)
            for a in range(3)
        ]
        found.append(math.log(weight) + multivariate_normal.logpdf(pixels.flatten().numpy(), mean, covariance))
    return torch.logsumexp(torch.tensor(found), dim=0)


def _brute_force(batch, patch, condition):
    """Posterior of a patch that is one cell of 2 x 2 px: joint densities of scipy, Bayes' rule by hand."""
    total = torch.zeros(5, dtype=torch.float64)
    pixels = {
        name: SENSORS[kind].physical(batch["image"][name][patch].double()[None])[0].flatten(1).T
        for name, kind in VARIANTS["standard"].modalities.items()
    }
    for label in range(5):
        valid = batch["valid"]["eo"][patch].flatten()
        if valid.any():
            total[label] += _optical_density(pixels["eo"][valid], OPTICAL.mean[label], condition)
        if batch["available"][patch, 1]:
            for band in range(2):
                power = 10 ** (RADAR.mean[label][band] / 10) + condition.sar_interference
                looks = condition.sar_looks
                total[label] += gamma.logpdf(pixels["sar"][:, band].numpy(), looks, scale=power / looks).sum()
        if batch["available"][patch, 2]:
            middle = THERMAL.middle + condition.ir_contrast * (THERMAL.mean[label] - THERMAL.middle)
            covariance = THERMAL.ground_sd**2 + (THERMAL.noise + condition.ir_noise_k**2) * torch.eye(4).double()
            total[label] += multivariate_normal.logpdf(pixels["ir"][:, 0].numpy(), [middle] * 4, covariance.numpy())
    return total.softmax(dim=0)


@pytest.mark.parametrize("name", [name for name in NAMES if not name.startswith("misregistration")])
def test_the_posterior_is_that_of_brute_force(name):
    scene = OracleScene(cells=1, cell_px=2)
    batch = scene.batch(6, name)
    found = scene.posterior(batch).exp()[:, :, 0, 0]
    wanted = torch.stack([_brute_force(batch, patch, scene.conditions[scene.index(name)]) for patch in range(6)])
    # Images are float32 and decibels: their rounding is all that may differ.
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=0)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("subset_size", [0, 1, None])
def test_the_posterior_sums_to_one(variant, subset_size):
    scene = OracleScene(variant)
    found = scene.posterior(scene.batch(8, NAMES), scene.modalities[:subset_size])
    assert found.shape == (8, len(scene.classes), 4, 4)
    torch.testing.assert_close(found.exp().sum(dim=1), torch.ones(8, 4, 4, dtype=torch.float64))
    if subset_size == 0:
        torch.testing.assert_close(found.exp(), torch.full_like(found, 1 / len(scene.classes)))


@pytest.mark.parametrize(("name", "pixels"), [("misregistration_quarter", 2), ("misregistration_half", 4)])
def test_a_known_shift_hides_only_what_it_moved_out(name, pixels):
    scene = OracleScene()
    clear, shifted = scene.batch(16, "clear"), scene.batch(16, name)
    assert torch.equal(shifted["image"]["eo"][..., pixels:, pixels:], clear["image"]["eo"][..., :-pixels, :-pixels])
    assert torch.equal(shifted["image"]["sar"], clear["image"]["sar"])
    same = (scene.posterior(shifted) - scene.posterior(clear)).abs().amax(dim=(0, 1)) < 1e-9
    # Two pixels leave a part of every native pixel of 4 px; four take the last row and column of them.
    assert same[:3, :3].all()
    assert bool(same.all()) == (pixels == 2)


@pytest.mark.parametrize("name", ["clear", "eo_noise_0.3", "thin_cloud_half", "stripe_loss_half", "mixed"])
def test_the_posterior_is_calibrated(name):
    scene = OracleScene()
    batch = scene.batch(1000, NAMES if name == "mixed" else name)
    probability = scene.posterior(batch).exp()
    truth = torch.nn.functional.one_hot(batch["cell_class"], 5).permute(0, 3, 1, 2)
    edges = torch.linspace(0, 1, 11, dtype=torch.float64)
    for low, high in pairwise(edges.tolist()):
        inside = (probability > low) & (probability <= high)
        stated, came = probability[inside], truth[inside].double()
        error = (stated * (1 - stated)).sum().sqrt() / len(stated)
        # Four standard errors: with a fixed seed this says that the draw is ordinary.
        assert abs(stated.mean() - came.mean()) < 4 * error + 1e-3


def test_a_reader_who_believes_in_the_wrong_condition_scores_worse():
    scene = OracleScene()
    batch = scene.batch(500, "eo_noise_0.3")
    scores = [
        brier_score(scene.posterior(batch, assume=name), batch["cell_class"]).mean()
        for name in (None, "eo_noise_0.3", "eo_noise_0.06", "clear")
    ]
    assert scores[0] == scores[1] < scores[2] < scores[3]


@pytest.mark.parametrize("name", NAMES)
def test_more_sensors_never_know_less_and_shares_add_up(name):
    figures = exact_figures(OracleScene(), name, patches=256)
    subsets = coalitions(3)
    for score, row in (("information", 0), ("brier_gain", 1)):
        value = getattr(figures, score)
        assert value[0].abs() < 1e-9
        for member in range(3):
            without = (~subsets[:, member]).nonzero().flatten()
            gain = value[without + 2**member] - value[without]
            assert (gain > -4 * figures.error[row].amax() - 1e-12).all()
        torch.testing.assert_close(figures.shapley(score).sum(), value[-1] - value[0])
    assert (figures.accuracy <= 1).all()


def test_the_clear_scene_divides_information_unevenly_and_saturates_nothing():
    figures = exact_figures(OracleScene(), patches=1024)
    torch.testing.assert_close(figures.shares(), torch.tensor([0.54, 0.28, 0.18]).double(), atol=0.02, rtol=0)
    assert (figures.accuracy[[1, 2, 4]] < 0.85).all()
    assert 0.9 < figures.accuracy[-1] < 0.95


def test_classification_asks_the_same_question():
    one = exact_figures(OracleScene(task="classification"), "haze_heavy", patches=4096)
    many = exact_figures(OracleScene(seed=1), "haze_heavy", patches=1024)
    difference = (one.information - many.information).abs()
    assert (difference <= 4 * (one.error[0].square() + many.error[0].square()).sqrt() + 1e-12).all()


def test_a_twin_adds_nothing_and_shares_equally():
    figures = exact_figures(OracleScene("twin"), patches=256)
    value, phi = figures.information, figures.shapley()
    torch.testing.assert_close(value[[1, 2, 5]], value[[3, 3, 7]])
    torch.testing.assert_close(phi[0], phi[1])
    assert phi[2] > 0.1


def test_xor_is_known_by_the_pair_alone():
    scene = OracleScene("xor")
    figures = exact_figures(scene, patches=256)
    assert figures.information[1:3].abs().max() < 1e-9
    assert figures.information[3] > 0.85 * math.log(2)
    torch.testing.assert_close(figures.shares(), torch.tensor([0.5, 0.5]).double())
    # Either exchange alone destroys everything: permutation counts the pair's information twice.
    report = permutation_reliance(BayesNetwork(scene), [scene.batch(64)], bootstrap=2)
    assert sum(report.reliance) > 1.6 * float(figures.brier_gain[3])


def test_irrelevant_ir_is_plain_to_see_and_of_no_use():
    scene = OracleScene("irrelevant_ir")
    figures = exact_figures(scene, patches=256)
    torch.testing.assert_close(figures.information[4:], figures.information[:4])
    assert figures.shapley()[2].abs() < 1e-9
    report = permutation_reliance(BayesNetwork(scene), [scene.batch(64)], bootstrap=2)
    assert abs(report.reliance[2]) < 1e-9
    assert scene.batch(64)["image"]["ir"].std() > 0.8


def test_the_package_meters_agree_with_the_exact_scores():
    scene = OracleScene(cell_px=2)
    figures = exact_figures(scene, "haze_light", patches=1024)
    batch = scene.batch(1024, "haze_light", scene.generator(1))
    logits = coalition_scores(BayesNetwork(scene, "haze_light"), batch)
    scores = torch.stack([brier_score(found, batch["mask"]) for found in logits])
    gain = scores[0] - scores
    error = gain.std(dim=1) / 1024**0.5 + figures.error[1]
    assert ((gain.mean(dim=1) - figures.brier_gain).abs() < 4 * error + 1e-12).all()


@pytest.mark.parametrize("task", ["segmentation", "classification"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_batch_is_what_a_network_takes(variant, task):
    scene = OracleScene(variant, task=task)
    batch = scene.batch(40, NAMES)
    for name in scene.modalities:
        image, valid = batch["image"][name], batch["valid"][name]
        assert image.dtype == torch.float32
        assert image.shape == (40, scene.bands[name], 32, 32)
        assert valid.dtype == torch.bool
        assert (image.where(~valid[:, None], 0.0) == 0).all()
        assert image.isfinite().all()
    assert batch["available"].shape == (40, len(scene.modalities))
    for row, column in (~batch["available"]).nonzero().tolist():
        name = scene.modalities[column]
        condition = CONDITIONS[batch["condition"][row]]
        assert not batch["valid"][name][row].any()
        # In classification, stripes and flagged clouds may take the whole of a cell too.
        assert name in condition.outage or (task == "classification" and condition.family[:6] in ("stripe", "thick_"))
    target = batch["mask"] if task == "segmentation" else batch["label"]
    assert target.dtype == torch.int64
    assert target.shape == ((40, 32, 32) if task == "segmentation" else (40,))
    if task == "segmentation":
        assert torch.equal(target[:, ::8, ::8], batch["cell_class"])


def test_inputs_are_about_normal():
    for image in OracleScene().batch(200)["image"].values():
        assert (image.mean(dim=(0, 2, 3)).abs() < 1.1).all()
        assert ((image.std(dim=(0, 2, 3)) > 0.5) & (image.std(dim=(0, 2, 3)) < 1.5)).all()


def test_batches_depend_on_their_seeds_and_position_alone():
    scene = OracleScene()
    first = OracleBatches(scene, NAMES, count=3, batch_size=4, seed=5)
    again = list(oracle_loader(scene, NAMES, count=3, batch_size=4, seed=5))
    other = OracleBatches(scene, NAMES, count=3, batch_size=4, seed=6)
    assert len(again) == len(list(first)) == 3
    for position in (2, 0, 1):
        assert torch.equal(first[position]["image"]["sar"], again[position]["image"]["sar"])
        assert not torch.equal(first[position]["image"]["sar"], other[position]["image"]["sar"])
    assert not torch.equal(first[0]["cell_class"], first[1]["cell_class"])
    assert not torch.equal(OracleScene(seed=1).batch(4)["cell_class"], scene.batch(4)["cell_class"])


def test_most_families_are_held_out():
    families = {item.family for item in CONDITIONS}
    assert families == set(TRAINING_FAMILIES) | set(HELD_OUT_FAMILIES)
    assert not set(TRAINING_FAMILIES) & set(HELD_OUT_FAMILIES)
    assert len(HELD_OUT_FAMILIES) >= len(families) / 2
    assert set(named(*TRAINING_FAMILIES)) | set(named(*HELD_OUT_FAMILIES)) == set(NAMES)
    assert len(set(NAMES)) == len(NAMES)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: OracleScene("triplet"),
        lambda: OracleScene(task="regression"),
        lambda: OracleScene(cell_px=3),
        lambda: OracleScene().batch(2, "hail"),
        lambda: OracleScene().members(["lidar"]),
        lambda: OracleBatches(OracleScene(), count=0),
        lambda: named("hail"),
    ],
)
def test_mistakes_are_named(wrong):
    with pytest.raises(ValueError, match=r"found .*, wanted .*: correct"):
        wrong()
