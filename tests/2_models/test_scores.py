"""Scores: closed forms, bounds, and distributions in the place of labels."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from equipoise.models.errors import ModelError
from equipoise.models.scores import PLACE_SCORES, SCORES, build_score, class_sums, clipped_ce_score, place_scores


def _drawn(*, seed, classes=4, scale=3.0):
    generator = torch.Generator().manual_seed(seed)
    logits = scale * torch.randn(3, classes, 5, 2, generator=generator, dtype=torch.float64)
    return logits, torch.randint(0, classes, (3, 5, 2), generator=generator)


@pytest.mark.parametrize(
    ("probability", "expected"),
    [(1.0, 0.0), (0.0, 1.0), (0.5, math.log(0.505) / math.log(0.01)), (0.25, math.log(0.2575) / math.log(0.01))],
)
def test_closed_forms_of_the_clipped_cross_entropy(probability, expected):
    logits = torch.tensor([[probability, 1 - probability]]).log()
    assert clipped_ce_score(logits, torch.tensor([0])).item() == pytest.approx(expected, abs=1e-6)


@given(seed=st.integers(0, 10_000), scale=st.floats(0, 50))
def test_bounded_scores_are_bounded(seed, scale):
    logits, target = _drawn(seed=seed, scale=scale)
    for name in ("brier", "clipped_ce"):
        score = place_scores(name, logits, target)
        assert (score >= 0).all()
        assert (score <= 1).all()


def test_the_clip_keeps_a_gradient_on_errors():
    # At p_y = 1e-2 a hard clip would already be flat.
    logits = torch.tensor([[0.0, math.log(99.0)]], requires_grad=True)
    clipped_ce_score(logits, torch.tensor([0])).sum().backward()
    assert logits.grad.abs().min() > 1e-3


@pytest.mark.parametrize("name", SCORES)
def test_a_distribution_gives_the_expected_score(name):
    logits, _ = _drawn(seed=1)
    truth = torch.rand(logits.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2)).softmax(dim=1)
    expected = sum(
        truth[:, k] * PLACE_SCORES[name](logits, torch.full((3, 5, 2), k, dtype=torch.int64)) for k in range(4)
    )
    torch.testing.assert_close(PLACE_SCORES[name](logits, truth), expected)


@pytest.mark.parametrize("name", SCORES)
def test_sample_scores_are_means_over_labelled_places(name):
    logits, target = _drawn(seed=3)
    target[0, 1] = target[1] = 255
    places = place_scores(name, logits, target)
    assert places.isnan().equal(target == 255)
    found = build_score(name)(logits, target)
    torch.testing.assert_close(found[[0, 2]], places.flatten(1).nanmean(dim=1)[[0, 2]])
    assert found[1].isnan()


def test_sums_of_classes():
    values, target = torch.rand(2, 3, 3), torch.randint(0, 3, (2, 3, 3))
    target[0, 0] = 255
    values[0, 0] = torch.nan
    found = class_sums(values, target, classes=4)
    for sample in range(2):
        for number in range(4):
            expected = sum(values[sample][target[sample] == number].double())
            assert found[sample, number].item() == pytest.approx(float(expected))


def test_unknown_names_are_refused():
    for call in (build_score, lambda name: place_scores(name, *_drawn(seed=0))):
        with pytest.raises(ModelError, match=r"'auc'.*clipped_ce"):
            call("auc")
