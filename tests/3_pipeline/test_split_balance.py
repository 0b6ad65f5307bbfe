"""Split balance: what a split cannot say of the classes is said before anything is trained."""

import geopandas as gpd
import pytest
from shapely.geometry import box

from equipoise.datasets.patches import PatchIndex
from equipoise.pipeline.scene_options import ClassOptions
from equipoise.pipeline.split_balance import lopsided

CLASSES = [
    ClassOptions(value=value, name=name, color="#000000") for value, name in enumerate(("water", "forest", "road"))
]


def _told(train, validation, test):
    rows = {"split": ["train", "validation", "test"], "geometry": [box(0, 0, 1, 1)] * 3}
    rows |= {f"class_{value}": list(counts) for value, counts in enumerate(zip(train, validation, test, strict=True))}
    return list(lopsided(PatchIndex(table=gpd.GeoDataFrame(rows), modalities=("eo",)), CLASSES))


def test_even_splits_are_not_spoken_of():
    assert _told([50, 40, 10], [5, 4, 1], [60, 30, 10]) == []


def test_a_class_that_the_test_split_lacks_is_named_with_its_share():
    (line,) = _told([50, 40, 10], [5, 4, 1], [50, 50, 0])
    assert "the test split holds nothing of 'road' (10 %)" in line


def test_a_class_that_hardly_occurs_is_not_missed():
    assert _told([5000, 4990, 10], [5, 4, 0], [5, 4, 0]) == []


@pytest.mark.parametrize(("share", "told"), [(69, False), (89, True)])
def test_other_places_are_told_by_their_classes(share, told):
    found = _told([50, 40, 10], [50, 40, 10], [share, 98 - share, 2])
    assert bool(found) == told
    if told:
        assert "differ from those of training by 39 %" in found[0]
        assert "'water': 89 % there, 50 % in training" in found[0]


def test_a_split_without_labels_holds_nothing():
    assert (
        "holds nothing of 'water' (50 %), 'forest' (40 %), 'road' (10 %)" in _told([5, 4, 1], [5, 4, 1], [0, 0, 0])[0]
    )
