"""The guard: transforms that cut physical values to a display's range are refused by name, others pass."""

import numpy as np
import pytest

from equipoise.datasets.clipping_guard import AugmentationError, refuse_clipping, refuse_moving
from equipoise.datasets.shared_geometry import albumentations

A = albumentations()

CLIPPING = [
    A.RandomBrightnessContrast(), A.RandomGamma(), A.GaussNoise(), A.MultiplicativeNoise(), A.HueSaturationValue(),
    A.CLAHE(), A.GaussianBlur(), A.MedianBlur(), A.Posterize(), A.RandomFog(), A.ColorJitter(),
]  # fmt: skip
KEEPING = [
    A.D4(), A.HorizontalFlip(), A.Affine(rotate=(-20, 20)), A.RandomCrop(200, 200), A.ElasticTransform(), A.Blur(),
    A.ToGray(), A.CoarseDropout(), A.NoOp(),
]  # fmt: skip


@pytest.mark.parametrize("transform", CLIPPING, ids=lambda item: type(item).__name__)
def test_transforms_that_clip_are_named_however_deep_and_however_seldom(transform):
    name = type(transform).__name__
    for wrapped in (transform, A.Compose([A.D4(), A.OneOf([A.NoOp(), transform])], p=0.01)):
        with pytest.raises(AugmentationError, match=f"transform {name}: found") as caught:
            refuse_clipping(wrapped)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("transform", KEEPING, ids=lambda item: type(item).__name__)
def test_transforms_that_keep_values_pass(transform):
    refuse_clipping(A.Compose([transform]))


def test_the_guard_is_right_about_what_it_refuses():
    # The oracle: a raster from -25 to 350 really comes back within 0 to 1.
    raster = np.linspace(-25, 350, 64 * 64 * 3, dtype=np.float32).reshape(64, 64, 3)
    for transform in (A.GaussNoise(p=1.0), A.RandomBrightnessContrast(p=1.0), A.MultiplicativeNoise(p=1.0)):
        seen = transform(image=raster)["image"]
        assert seen.min() >= 0
        assert seen.max() <= 1


def test_the_probe_leaves_the_transform_as_it_was():
    transform = A.Blur(p=0.25)
    refuse_clipping(transform)
    assert transform.p == 0.25


def test_transforms_that_move_pixels_are_refused_for_one_modality_alone():
    refuse_moving(A.Compose([A.Blur(), A.OneOf([A.MedianBlur(), A.ToGray()])]))
    for transform in (A.D4(), A.Compose([A.Blur(), A.RandomCrop(8, 8)]), object()):
        with pytest.raises(AugmentationError, match="moves pixels"):
            refuse_moving(transform)


def test_what_is_no_transform_at_all_is_refused_in_one_line():
    for thing in (object(), np.sqrt, "Blur"):
        with pytest.raises(AugmentationError, match="fails") as caught:
            refuse_clipping(thing)
        assert "\n" not in str(caught.value)
