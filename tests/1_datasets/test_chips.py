"""Synthetic chips: one modality alone tells each label."""

import csv
import hashlib
from collections import Counter

import numpy as np
import pytest
import rasterio

from equipoise.datasets.chips import write_chips


@pytest.fixture(scope="module")
def chips(tmp_path_factory):
    return write_chips(tmp_path_factory.mktemp("chips"), count=30, size=64, seed=2)


def rows(chips):
    with chips.labels.open() as file:
        return list(csv.DictReader(file))


def test_every_split_holds_every_label(chips):
    counts = Counter((row["split"], row["label"]) for row in rows(chips))
    shares = {"train": 6, "validation": 2, "test": 2}
    assert counts == {(split, label): count for split, count in shares.items() for label in "012"}


def test_both_modalities_share_a_grid_and_chips_do_not_overlap(chips):
    grids = []
    for row in rows(chips):
        with (
            rasterio.open(chips.folder / "eo" / f"{row['id']}.tif") as eo,
            rasterio.open(chips.folder / "sar" / f"{row['id']}.tif") as sar,
        ):
            assert (eo.transform, eo.shape, eo.crs) == (sar.transform, sar.shape, sar.crs)
            assert (eo.dtypes[0], eo.count, sar.dtypes[0], sar.count) == ("uint16", 4, "float32", 2)
            grids.append(tuple(eo.bounds))
    assert len(set(grids)) == len(grids)


@pytest.mark.parametrize(("modality", "told"), [("eo", "1"), ("sar", "2")])
def test_one_label_stands_out_in_one_modality(chips, modality, told):
    """The spread of the smoothed image is large where the patch is seen, and of one size in the other two labels."""
    spread = {label: [] for label in "012"}
    for row in rows(chips):
        with rasterio.open(chips.folder / modality / f"{row['id']}.tif") as file:
            band = np.log(file.read().astype(float)[-1])
        spread[row["label"]].append(band.reshape(8, 8, 8, 8).mean(axis=(1, 3)).std())
    own = spread.pop(told)
    others = np.concatenate(list(spread.values()))
    assert min(own) > 1.3 * max(others)
    first, second = (np.array(values) for values in spread.values())
    error = np.sqrt(first.var(ddof=1) / first.size + second.var(ddof=1) / second.size)
    assert abs(first.mean() - second.mean()) < 3 * error


def test_equal_seeds_give_equal_bytes(tmp_path):
    digests = []
    for name in "ab":
        folder = write_chips(tmp_path / name, count=3, size=16, seed=5).folder
        digests.append([hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.rglob("*.*"))])
    assert digests[0] == digests[1]
    assert len(digests[0]) == 7


def test_chips_without_room_are_refused(tmp_path):
    with pytest.raises(ValueError, match="size=8"):
        write_chips(tmp_path, size=8)
