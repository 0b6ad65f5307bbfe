"""Losses and scores: closed forms, ignored targets, bounds."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from equipoise.models.errors import ModelError
from equipoise.models.losses import ClassificationLoss, SegmentationLoss
from equipoise.models.scores import brier_score, build_score, cross_entropy_score


def _pair(*, seed=0, classes=3):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, classes, 5, 7, generator=generator)
    return logits.requires_grad_(), torch.randint(0, classes, (2, 5, 7), generator=generator)


@pytest.mark.parametrize("weights", [None, (0.5, 1.0, 3.0)])
def test_cross_entropy_is_torchs(weights):
    logits, target = _pair()
    target[0, :2] = 255
    reference = F.cross_entropy(
        logits, target, weight=None if weights is None else torch.tensor(weights), ignore_index=255
    )
    torch.testing.assert_close(SegmentationLoss(class_weights=weights, dice_weight=0)(logits, target), reference)


def test_dice_of_certainty():
    target = torch.tensor([[[0, 1], [1, 1]]])
    certain = 100.0 * F.one_hot(target, 3).movedim(-1, 1).float()
    torch.testing.assert_close(SegmentationLoss()(certain, target), torch.tensor(0.0), atol=1e-6, rtol=0)


def test_dice_of_ignorance():
    # Uniform over 2 classes, 3 of 4 pixels are class 1: coefficients 2*.5/(2+1) and 2*1.5/(2+3).
    target = torch.tensor([[[0, 1], [1, 1]]])
    dice = 1 - (1 / 3 + 3 / 5) / 2
    expected = torch.tensor(math.log(2) + dice)
    torch.testing.assert_close(SegmentationLoss()(torch.zeros(1, 2, 2, 2), target), expected)


@pytest.mark.parametrize("weights", [None, (1.0, 2.0, 0.0)])
def test_nothing_labelled_gives_zero_and_finite_gradients(weights):
    logits, target = _pair()
    loss = SegmentationLoss(class_weights=weights)(logits, torch.full_like(target, 255))
    loss.backward()
    assert loss == 0
    assert not logits.grad.any()


def test_ignored_pixels_do_not_matter():
    logits, target = _pair()
    target[:, 2:4] = 255
    other = logits.detach().clone()
    other[:, :, 2:4] = 50.0
    other.requires_grad_()
    loss = SegmentationLoss()(other, target)
    loss.backward()
    torch.testing.assert_close(loss, SegmentationLoss()(logits, target))
    assert not other.grad[:, :, 2:4].any()


def test_partly_ignored_batches_are_finite_everywhere():
    logits, target = _pair()
    target[1] = 255
    SegmentationLoss()(logits, target).backward()
    assert logits.grad.isfinite().all()


def test_classification_loss_ignores_and_survives():
    logits = torch.randn(4, 3).requires_grad_()
    target = torch.tensor([0, 255, 2, 255])
    torch.testing.assert_close(ClassificationLoss()(logits, target), F.cross_entropy(logits[::2], target[::2]))
    loss = ClassificationLoss()(logits, torch.full((4,), 255))
    loss.backward()
    assert loss == 0
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("stranger", [3, 254, -1])
def test_unknown_classes_are_named(stranger):
    logits, target = _pair()
    target[0, 0, 0] = stranger
    with pytest.raises(ModelError, match=f"class number {stranger} .*0 to 2"):
        SegmentationLoss()(logits, target)


def test_shapes_and_weights_are_checked():
    logits, target = _pair()
    with pytest.raises(ModelError, match="target of shape"):
        SegmentationLoss()(logits, target[:, :3])
    with pytest.raises(ModelError, match="class weights"):
        SegmentationLoss(class_weights=(1.0, float("nan"), 1.0))


def test_brier_closed_forms():
    uniform, target = torch.zeros(1, 4, 2, 2), torch.zeros(1, 2, 2, dtype=torch.int64)
    torch.testing.assert_close(brier_score(uniform, target), torch.tensor([0.5 * (1 - 1 / 4)]))
    certain = torch.tensor([[100.0, 0.0], [0.0, 100.0]])
    torch.testing.assert_close(brier_score(certain, torch.tensor([0, 0])), torch.tensor([0.0, 1.0]))
    # p = (.75, .25), truth 0: half of .25^2 + .25^2
    logits = torch.tensor([[math.log(3.0), 0.0]])
    torch.testing.assert_close(brier_score(logits, torch.tensor([0])), torch.tensor([0.0625]))


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), scale=st.sampled_from([0.0, 1.0, 30.0, 1e4]), classes=st.integers(2, 7))
def test_brier_is_bounded(seed, scale, classes):
    logits, target = _pair(seed=seed, classes=classes)
    score = brier_score(logits * scale, target)
    assert ((score >= 0) & (score <= 1)).all()


def test_scores_are_means_over_labelled_pixels():
    logits, target = _pair()
    target[0, :3] = 255
    target[1] = 255
    for score in (brier_score, cross_entropy_score):
        values = score(logits, target)
        torch.testing.assert_close(values[:1], score(logits[:1, :, 3:], target[:1, 3:]))
        assert values[1].isnan()
    expected = F.cross_entropy(logits[:1], target[:1], ignore_index=255)
    torch.testing.assert_close(cross_entropy_score(logits, target)[0], expected)


def test_unknown_score_is_named():
    with pytest.raises(ModelError, match=r"'accuracy'.*brier"):
        build_score("accuracy")
