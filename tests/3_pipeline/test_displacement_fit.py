"""Displacement fits: a Gaussian process as scikit-learn and plain algebra have it, chosen by evidence."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, DotProduct, Matern

from equipoise.pipeline.displacement_fit import SHIFT, Prior, conditioned, trust

EDGE = 600.0
MIDDLE = np.array([EDGE / 2, EDGE / 2])
PRIORS = {
    "shift": Prior(linear=0.0),
    "affine": Prior(linear=0.02),
    "field": Prior(linear=0.02, amplitude=2.0, length=200.0),
}


def lattice(count=6):
    ticks = np.linspace(40, EDGE - 40, count)
    return np.stack(np.meshgrid(ticks, ticks, indexing="ij"), axis=-1).reshape(-1, 2)


def round_errors(rng, count, *, deviation=0.2):
    """Covariances (count, 2, 2) of no preferred direction."""
    root = deviation * (np.eye(2) + 0.4 * rng.standard_normal((count, 2, 2)))
    return root @ root.transpose(0, 2, 1) + 1e-3 * np.eye(2)


def drawn(rng, covariance):
    return np.einsum("nij,nj->ni", np.linalg.cholesky(covariance), rng.standard_normal((len(covariance), 2)))


def truth(kind, places, rng):
    """A displacement of that kind, px."""
    shift = rng.uniform(-8, 8, 2)
    if kind == "shift":
        return np.tile(shift, (len(places), 1))
    if kind == "affine":
        return shift + (places - MIDDLE) @ rng.normal(0, 0.008, (2, 2))
    phase = rng.uniform(0, 2 * np.pi, 2)
    return shift + 2.5 * np.sin(2 * np.pi * places[:, ::-1] / 700 + phase)


def covariance_of(prior, one, other):
    """The prior's covariance, pair by pair."""
    result = np.empty((len(one), len(other)))
    for i, a in enumerate(one):
        for j, b in enumerate(other):
            way = np.sqrt(3) * np.linalg.norm(a - b) / prior.length
            smooth = prior.amplitude**2 * (1 + way) * np.exp(-way)
            result[i, j] = SHIFT**2 + prior.linear**2 * np.dot(a - MIDDLE, b - MIDDLE) + smooth
    return result


# against independent truths


@pytest.mark.parametrize("kind", PRIORS)
def test_round_errors_give_the_answers_of_scikit_learn(kind):
    rng = np.random.default_rng(0)
    prior, places, new = PRIORS[kind], rng.uniform(0, EDGE, (12, 2)), rng.uniform(-100, EDGE + 100, (7, 2))
    peaks, variance = truth(kind, places, rng) + rng.normal(0, 0.2, (12, 2)), rng.uniform(0.02, 0.5, 12)
    kernel = ConstantKernel(SHIFT**2, "fixed")
    if prior.linear:
        kernel += ConstantKernel(prior.linear**2, "fixed") * DotProduct(0.0, "fixed")
    if prior.amplitude:
        kernel += ConstantKernel(prior.amplitude**2, "fixed") * Matern(prior.length, "fixed", nu=1.5)
    peer = GaussianProcessRegressor(kernel, alpha=variance, optimizer=None).fit(places - MIDDLE, peaks)
    mean, covariance = peer.predict(new - MIDDLE, return_cov=True)
    found = conditioned(prior, places, peaks, variance[:, None, None] * np.eye(2), middle=MIDDLE)
    assert found.prior.kind == kind
    np.testing.assert_allclose(found.at(new), mean, atol=1e-6)
    variances = np.diagonal(covariance[..., 0])
    np.testing.assert_allclose(found.covariance_at(new), variances[:, None, None] * np.eye(2), rtol=1e-4, atol=1e-6)
    assert found.evidence == pytest.approx(peer.log_marginal_likelihood_value_, rel=1e-6)


@pytest.mark.parametrize("kind", PRIORS)
def test_any_errors_give_the_answers_of_plain_algebra(kind):
    rng = np.random.default_rng(1)
    prior, places, new = PRIORS[kind], rng.uniform(0, EDGE, (15, 2)), rng.uniform(0, EDGE, (4, 2))
    covariance = round_errors(rng, 15)
    peaks = truth(kind, places, rng) + drawn(rng, covariance)
    noisy = np.kron(covariance_of(prior, places, places), np.eye(2))
    for i, own in enumerate(covariance):
        noisy[2 * i : 2 * i + 2, 2 * i : 2 * i + 2] += own
    cross = np.kron(covariance_of(prior, new, places), np.eye(2))
    mean = (cross @ np.linalg.solve(noisy, peaks.ravel())).reshape(-1, 2)
    spread = np.kron(covariance_of(prior, new, new), np.eye(2)) - cross @ np.linalg.solve(noisy, cross.T)
    found = conditioned(prior, places, peaks, covariance, middle=MIDDLE)
    np.testing.assert_allclose(found.at(new), mean, atol=1e-5)
    own = np.stack([spread[2 * i : 2 * i + 2, 2 * i : 2 * i + 2] for i in range(len(new))])
    np.testing.assert_allclose(found.covariance_at(new), own, atol=1e-5)
    expected = stats.multivariate_normal(np.zeros(30), noisy).logpdf(peaks.ravel())
    assert found.evidence == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("kind", PRIORS)
def test_what_the_others_say_is_what_they_say_without_the_one(kind):
    rng = np.random.default_rng(2)
    places, covariance = rng.uniform(0, EDGE, (14, 2)), round_errors(rng, 14)
    peaks = truth(kind, places, rng) + drawn(rng, covariance)
    found = conditioned(PRIORS[kind], places, peaks, covariance, middle=MIDDLE)
    for one in range(14):
        rest = np.arange(14) != one
        without = conditioned(PRIORS[kind], places[rest], peaks[rest], covariance[rest], middle=MIDDLE)
        np.testing.assert_allclose(found.left_out[one], without.at(places[one][None])[0], atol=1e-4)
        np.testing.assert_allclose(
            found.left_out_covariance[one], without.covariance_at(places[one][None])[0], rtol=1e-3, atol=1e-5
        )


def test_a_shift_is_the_mean_of_the_peaks_by_their_precision():
    """As SHIFT is wide: the best linear unbiased estimate."""
    rng = np.random.default_rng(3)
    places, covariance = lattice(3), round_errors(rng, 9)
    peaks = truth("shift", places, rng) + drawn(rng, covariance)
    precision = np.linalg.inv(covariance)
    best = np.linalg.solve(precision.sum(axis=0), np.einsum("nij,nj->i", precision, peaks))
    found = conditioned(PRIORS["shift"], places, peaks, covariance, middle=MIDDLE)
    np.testing.assert_allclose(found.at(np.array([[0.0, 0.0], [500.0, 90.0]])), [best, best], atol=1e-5)
    np.testing.assert_allclose(found.covariance_at(places[:1])[0], np.linalg.inv(precision.sum(axis=0)), atol=1e-5)


@pytest.mark.parametrize("kind", PRIORS)
def test_circles_hold_the_truth_as_often_as_they_say(kind):
    """Squared errors over the covariance, at places between the peaks, are 2 on average."""
    squared = []
    for seed in range(30):
        rng = np.random.default_rng(seed)
        places, covariance = lattice(), round_errors(rng, 36)
        everywhere = np.concatenate([places, rng.uniform(40, EDGE - 40, (5, 2))])
        known = covariance_of(PRIORS[kind], everywhere, everywhere) - SHIFT**2 + 100
        exact = np.linalg.cholesky(known + 1e-8 * np.eye(41)) @ rng.standard_normal((41, 2))  # drawn from the prior
        fit = conditioned(PRIORS[kind], places, exact[:36] + drawn(rng, covariance), covariance, middle=MIDDLE)
        error = fit.at(everywhere[36:]) - exact[36:]
        squared.extend(np.einsum("ni,nij,nj->n", error, np.linalg.inv(fit.covariance_at(everywhere[36:])), error))
    assert 1.2 < np.mean(squared) < 3.2


# which kind it is


@pytest.mark.parametrize("kind", PRIORS)
def test_the_evidence_is_for_the_kind_that_the_data_are_of(kind):
    evidence = {name: [] for name in PRIORS}
    for seed in range(20):
        rng = np.random.default_rng(seed)
        places, covariance = lattice(), round_errors(rng, 36)
        peaks = truth(kind, places, rng) + drawn(rng, covariance)
        for name, prior in PRIORS.items():
            evidence[name].append(conditioned(prior, places, peaks, covariance, middle=MIDDLE, left_out=False).evidence)
    table = np.array([evidence[name] for name in PRIORS])
    best = [list(PRIORS)[i] for i in table.argmax(axis=0)]
    assert best.count(kind) >= 18
    assert list(PRIORS)[table.mean(axis=1).argmax()] == kind


def test_kinds_are_named_by_what_may_vary():
    assert {name: prior.kind for name, prior in PRIORS.items()} == {name: name for name in PRIORS}


# laws


@given(seed=st.integers(0, 999), kind=st.sampled_from(list(PRIORS)), rows=st.floats(-50, 50), cols=st.floats(-50, 50))
@settings(max_examples=20)
def test_moving_all_peaks_moves_the_displacement(seed, kind, rows, cols):
    rng = np.random.default_rng(seed)
    places, covariance = rng.uniform(0, EDGE, (10, 2)), round_errors(rng, 10)
    peaks = truth(kind, places, rng) + drawn(rng, covariance)
    plain = conditioned(PRIORS[kind], places, peaks, covariance, middle=MIDDLE)
    way = np.array([rows, cols])
    moved = conditioned(PRIORS[kind], places, peaks + way, covariance, middle=MIDDLE)
    # Not exactly, as what is known before is a shift of none; but that is known to a kilometre only.
    np.testing.assert_allclose(moved.at(places), plain.at(places) + way, atol=1e-3)
    np.testing.assert_allclose(moved.left_out, plain.left_out + way, atol=1e-3)
    np.testing.assert_array_equal(moved.covariance_at(places), plain.covariance_at(places))


@given(seed=st.integers(0, 999), kind=st.sampled_from(list(PRIORS)))
@settings(max_examples=20)
def test_neither_the_order_of_peaks_nor_that_of_axes_matters(seed, kind):
    rng = np.random.default_rng(seed)
    places, covariance, new = rng.uniform(0, EDGE, (10, 2)), round_errors(rng, 10), rng.uniform(0, EDGE, (3, 2))
    peaks, order = truth(kind, places, rng) + drawn(rng, covariance), rng.permutation(10)
    plain = conditioned(PRIORS[kind], places, peaks, covariance, middle=MIDDLE)
    mixed = conditioned(PRIORS[kind], places[order], peaks[order], covariance[order], middle=MIDDLE)
    np.testing.assert_allclose(mixed.at(new), plain.at(new), atol=1e-5)
    np.testing.assert_allclose(mixed.left_out, plain.left_out[order], atol=1e-4)
    assert mixed.evidence == pytest.approx(plain.evidence, rel=1e-6)
    turned = conditioned(
        PRIORS[kind], places[:, ::-1], peaks[:, ::-1], covariance[:, ::-1, ::-1], middle=MIDDLE[::-1]
    )  # fmt: skip
    np.testing.assert_allclose(turned.at(new[:, ::-1]), plain.at(new)[:, ::-1], atol=1e-5)
    np.testing.assert_allclose(
        turned.covariance_at(new[:, ::-1]), plain.covariance_at(new)[:, ::-1, ::-1], rtol=1e-4, atol=1e-5
    )


def test_a_doubtful_peak_says_as_little_as_none():
    rng = np.random.default_rng(4)
    places, covariance = lattice(4), round_errors(rng, 16)
    peaks = truth("affine", places, rng) + drawn(rng, covariance)
    peaks[5] += 30
    covariance[5] = 1e8 * np.eye(2)
    rest = np.arange(16) != 5
    found = conditioned(PRIORS["affine"], places, peaks, covariance, middle=MIDDLE)
    without = conditioned(PRIORS["affine"], places[rest], peaks[rest], covariance[rest], middle=MIDDLE)
    np.testing.assert_allclose(found.at(places), without.at(places), atol=1e-4)
    np.testing.assert_allclose(found.covariance_at(places), without.covariance_at(places), atol=1e-4)


def test_doubt_grows_away_from_the_peaks():
    rng = np.random.default_rng(5)
    places, covariance = lattice(4), round_errors(rng, 16)
    fit = conditioned(PRIORS["field"], places, truth("field", places, rng), covariance, middle=MIDDLE)
    way = MIDDLE + np.array([[0.0, 0.0], [400.0, 0.0], [800.0, 0.0], [2000.0, 0.0]])
    doubt = np.trace(fit.covariance_at(way), axis1=1, axis2=2)
    assert (np.diff(doubt) > 0).all()


# trust


@pytest.mark.parametrize("kind", PRIORS)
@pytest.mark.parametrize("seed", range(5))
def test_planted_outliers_lose_their_weight(kind, seed):
    rng = np.random.default_rng(seed)
    places, covariance = lattice(), round_errors(rng, 36)
    exact = truth(kind, places, rng)
    peaks = exact + drawn(rng, covariance)
    wrong = rng.choice(36, 4, replace=False)
    peaks[wrong] += 12 * np.array([[1, 1], [-1, 1], [1, -1], [-1, -1]])
    weight = np.ones(36)
    for _ in range(8):
        fit = conditioned(PRIORS[kind], places, peaks, covariance / weight[:, None, None], middle=MIDDLE)
        weight = trust(peaks, fit, covariance)
    right = np.setdiff1d(np.arange(36), wrong)
    assert weight[wrong].max() < 0.1
    assert np.median(weight[right]) > 0.8
    assert np.median(np.hypot(*(fit.at(places) - exact).T)) < 0.4


def test_trust_is_the_expectation_step_of_students_errors():
    """What agrees has more than one; in the mean over the right errors, about one."""
    rng = np.random.default_rng(6)
    places = lattice(12)
    covariance = round_errors(rng, 144)
    fit = conditioned(PRIORS["shift"], places, drawn(rng, covariance), covariance, middle=MIDDLE)
    agreeing = trust(fit.left_out, fit, covariance)
    np.testing.assert_allclose(agreeing, agreeing[0])
    assert agreeing[0] > 1
    deviation = np.sqrt(np.array([0.5, 1, 2, 4]))
    weights = [trust(fit.left_out + 3 * step, fit, covariance).mean() for step in deviation]
    assert (np.diff(weights) < 0).all()
    heavy = drawn(rng, covariance) / np.sqrt(rng.chisquare(4, 144) / 4)[:, None]  # t errors of four degrees of freedom
    fit = conditioned(PRIORS["shift"], places, heavy, covariance, middle=MIDDLE)
    assert trust(heavy, fit, covariance).mean() == pytest.approx(1, abs=0.15)


# odd cases


@pytest.mark.parametrize("kind", PRIORS)
@pytest.mark.parametrize("count", [1, 2, 3])
def test_few_peaks_or_peaks_in_one_place_are_enough_for_an_answer(kind, count):
    places, peaks = np.tile([[100.0, 200.0]], (count, 1)), np.tile([[3.0, -2.0]], (count, 1))
    covariance = np.tile(0.04 * np.eye(2), (count, 1, 1))
    fit = conditioned(PRIORS[kind], places, peaks, covariance, middle=MIDDLE)
    np.testing.assert_allclose(fit.at(places), peaks, atol=1e-4)
    np.testing.assert_allclose(fit.covariance_at(places), covariance / count, atol=1e-4)
    assert np.isfinite(fit.evidence)
    if count == 1:  # nobody else says anything: what was known before
        np.testing.assert_allclose(fit.left_out[0], 0, atol=1e-3)
        assert fit.left_out_covariance[0, 0, 0] > 0.9 * SHIFT**2


def test_what_the_others_say_is_left_out_where_it_is_not_asked_for():
    places = lattice(2)
    fit = conditioned(
        PRIORS["shift"], places, np.zeros((4, 2)), np.tile(np.eye(2), (4, 1, 1)), middle=MIDDLE, left_out=False
    )  # fmt: skip
    assert np.isnan(fit.left_out).all()
    assert np.isnan(fit.left_out_covariance).all()
