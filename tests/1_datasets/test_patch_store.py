"""The patch store gives the windows that the aligned rasters give; it is whole or not there, and gone on with."""

import json
import shutil

import numpy as np
import pytest
import torch
from strategies import InventedStack, north_up, write_tiff

from equipoise.datasets import patch_store
from equipoise.datasets.errors import DatasetError, SceneError
from equipoise.datasets.patch_store import PatchStore, write_store
from equipoise.datasets.patches import PatchIndex, footprint
from equipoise.datasets.quality import Quality
from equipoise.datasets.stack import StackReader

GRID = north_up(64, 64)
SIZE = 16


@pytest.fixture
def stacks(tmp_path):
    """Two scenes: one without radar, one with clouds told and without labels."""
    rng = np.random.default_rng(0)
    made = {}
    for name, modalities in (("a", ("eo",)), ("b", ("eo", "sar"))):
        image = {item: rng.normal(size=(2, 64, 64)).astype(np.float32) for item in modalities}
        image["eo"][:, 10:20, 5:30] = np.nan
        labels = rng.integers(0, 3, (64, 64)).astype(np.uint8) if name == "a" else None
        stack = InventedStack(geobox=GRID, modalities=("eo", "sar"), image=image, labels=labels).write(
            tmp_path / name, name=name
        )
        if name == "b":
            codes = rng.choice(np.array([0, 1, 2, 255], np.uint8), (1, 64, 64))
            stack.clouds["eo"] = write_tiff(tmp_path / name / "clouds.tif", codes, GRID)
        made[name] = stack
    return made


def index_of(*windows, size=SIZE):
    rows = [
        {
            "scene": scene, "row": row, "col": col, "height": size, "width": size, "label": 0, "split": "train",
            "valid_eo": 1.0, "valid_sar": 1.0, "geometry": footprint(GRID[:size, :size]),
        }
        for scene, row, col in windows
    ]  # fmt: skip
    return PatchIndex.from_rows(rows, modalities=("eo", "sar"), georeferenced=True)


WINDOWS = [("a", 0, 0), ("b", 30, 7), ("a", 56, 60), ("b", -8, 20), ("a", 9, 9)]


def assert_equal(one, other):
    assert list(one.image) == list(other.image)
    for field in ("image", "valid", "quality"):
        found, expected = getattr(one, field), getattr(other, field)
        assert found.keys() == expected.keys()
        for name in found:
            assert found[name].dtype == expected[name].dtype
            np.testing.assert_array_equal(found[name], expected[name])
    if other.labels is None:
        assert one.labels is None
    else:
        np.testing.assert_array_equal(one.labels, other.labels)


def test_stored_windows_are_those_of_the_rasters(stacks, tmp_path):
    """Missing modalities, holes, clouds and windows beyond the grid included; the rasters may be gone."""
    expected = [StackReader(stacks[name]).read(row, col, height=SIZE, width=SIZE) for name, row, col in WINDOWS]
    store = write_store(tmp_path / "store", index_of(*WINDOWS), stacks, fingerprint="1")
    assert len(store) == 5
    shutil.rmtree(tmp_path / "a")
    for position, (name, _, _) in enumerate(WINDOWS):
        assert_equal(PatchStore(tmp_path / "store").read(position, stacks[name]), expected[position])
    assert (expected[1].quality["eo"] == Quality.CLOUD).any()


def test_patches_are_found_in_any_order_and_a_foreign_one_is_refused(stacks, tmp_path):
    store = write_store(tmp_path / "store", index_of(*WINDOWS), stacks, fingerprint="1")
    assert store.positions(index_of(*WINDOWS[::-1])) == [4, 3, 2, 1, 0]
    assert store.positions(index_of(WINDOWS[2])) == [2]
    for other in (index_of(("a", 1, 1)), index_of(WINDOWS[0], size=8)):
        with pytest.raises(DatasetError, match=r"store: found no patch .* in the store.*--force"):
            store.positions(other)


def test_what_is_read_may_be_written_to(stacks, tmp_path):
    """Training samples are changed in place; the store is not."""
    store = write_store(tmp_path / "store", index_of(*WINDOWS), stacks, fingerprint="1")
    window = store.read(0, stacks["a"])
    for array in (window.image["eo"], window.labels):
        array[...] = 0
        torch.from_numpy(array)
    assert store.read(0, stacks["a"]).image["eo"].any()


def test_a_store_of_the_same_fingerprint_is_kept_and_another_one_replaced(stacks, tmp_path):
    folder = tmp_path / "store"
    write_store(folder, index_of(*WINDOWS), stacks, fingerprint="1")
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    write_store(folder, index_of(*WINDOWS), stacks, fingerprint="1")
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == before
    replaced = write_store(folder, index_of(*WINDOWS[:2]), stacks, fingerprint="2")
    assert len(replaced) == len(PatchStore(folder)) == 2
    assert_equal(
        replaced.read(1, stacks["b"]), StackReader(stacks["b"]).read(30, 7, height=SIZE, width=SIZE)
    )  # fmt: skip


def test_an_interrupted_store_is_gone_on_with(stacks, tmp_path, monkeypatch):
    """Killed at the fourth patch: what was marked is not read again, and the result is that of one go."""
    monkeypatch.setattr(patch_store, "_MARK_EVERY", 2)
    reads = []

    class Failing(StackReader):
        def read(self, row, col, **size):
            if size["height"] == SIZE:  # not the look at how many bands there are
                if len(reads) == 3:
                    raise KeyboardInterrupt
                reads.append((self.stack.name, row, col))
            return super().read(row, col, **size)

    folder = tmp_path / "store"
    monkeypatch.setattr(patch_store, "StackReader", Failing)
    with pytest.raises(KeyboardInterrupt):
        write_store(folder, index_of(*WINDOWS), stacks, fingerprint="1")
    assert not folder.exists()
    assert reads == WINDOWS[:3]
    reads[:] = [None] * 10
    store = write_store(folder, index_of(*WINDOWS), stacks, fingerprint="1")
    assert reads[10:] == WINDOWS[2:]  # two were marked
    for position, (name, row, col) in enumerate(WINDOWS):
        assert_equal(
            store.read(position, stacks[name]), StackReader(stacks[name]).read(row, col, height=SIZE, width=SIZE)
        )  # fmt: skip
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "store"]


def test_an_interrupted_store_of_another_fingerprint_is_thrown_away(stacks, tmp_path):
    partial = tmp_path / ".store.partial"
    partial.mkdir()
    (partial / "progress.json").write_text(json.dumps({"fingerprint": "old", "done": 4}))
    (partial / "eo.npy").write_bytes(b"old")
    store = write_store(tmp_path / "store", index_of(*WINDOWS), stacks, fingerprint="1")
    assert_equal(store.read(0, stacks["a"]), StackReader(stacks["a"]).read(0, 0, height=SIZE, width=SIZE))


DAMAGE = (
    "no folder", "no description", "torn description", "torn part", "no part", "empty part", "torn header", "zip",
    "other type", "fewer patches", "foreign name",
)  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_store_is_one_clear_error_and_is_made_anew(stacks, tmp_path, damage):
    folder = tmp_path / "store"
    write_store(folder, index_of(*WINDOWS), stacks, fingerprint="1")
    whole = (folder / "eo.npy").read_bytes()
    if damage == "no folder":
        shutil.rmtree(folder)
    elif damage == "no description":
        (folder / "store.json").unlink()
    elif damage == "torn description":
        (folder / "store.json").write_text((folder / "store.json").read_text()[:-9])
    elif damage == "foreign name":
        text = (folder / "store.json").read_text().replace('"image eo"', '"image ../eo"')
        (folder / "store.json").write_text(text)
    elif damage == "no part":
        (folder / "eo.npy").unlink()
    elif damage in ("other type", "fewer patches"):
        values = np.load(folder / "eo.npy")
        np.save(folder / "eo.npy", values.astype(np.float64) if damage == "other type" else values[:-1])
    else:
        damaged = {
            "torn part": whole[:-100], "empty part": b"", "torn header": whole[:30] + b"(" + whole[31:],
            "zip": b"PK\x03\x04" + whole[4:],
        }  # fmt: skip
        (folder / "eo.npy").write_bytes(damaged[damage])
    with pytest.raises(DatasetError, match=r"found no readable.*wanted.*equipoise tile --force") as caught:
        PatchStore(folder)
    assert "\n" not in str(caught.value)
    write_store(folder, index_of(*WINDOWS), stacks, fingerprint="1")
    assert (folder / "eo.npy").read_bytes() == whole


def test_patches_of_several_sizes_have_no_store(stacks, tmp_path):
    index = index_of(*WINDOWS[:2])
    index.table.loc[1, "height"] = 8
    with pytest.raises(DatasetError, match=r"patches of 2 sizes.*tile\.store"):
        write_store(tmp_path / "store", index, stacks, fingerprint="1")


def test_a_raster_that_cannot_be_read_leaves_no_store(stacks, tmp_path):
    (tmp_path / "b" / "sar.tif").write_bytes(b"no raster")
    with pytest.raises(SceneError, match="aligned rasters that cannot be read"):
        write_store(tmp_path / "store", index_of(*WINDOWS), stacks, fingerprint="1")
    assert not (tmp_path / "store").exists()


def test_a_full_disk_is_said_before_anything_is_written(stacks, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(patch_store.shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(DatasetError, match=r"room for 0\.0 GB.*`tile\.store: none`"):
        write_store(tmp_path / "store", index_of(*WINDOWS), stacks, fingerprint="1")
    assert not list(tmp_path.rglob("*.npy"))
