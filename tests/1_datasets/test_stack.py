"""Aligned stacks: windows in and beyond the grid, descriptions that survive, readers that survive a fork."""

import multiprocessing
import os
import pickle
import shutil
from dataclasses import replace

import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from strategies import InventedStack, north_up, stacks, write_tiff

from equipoise.datasets.errors import SceneError
from equipoise.datasets.stack import IGNORE, AlignedStack, StackReader

GRID = north_up(30, 20)


def invented(*, seed=0, geobox=GRID):
    rng = np.random.default_rng(seed)
    image = {name: rng.random((bands, *geobox.shape), np.float32) + 1 for name, bands in (("eo", 3), ("sar", 2))}
    image["eo"][:, 4:9, 5:7] = np.nan
    image["sar"][1, 20:, :] = np.nan
    labels = rng.integers(0, 4, geobox.shape).astype(np.uint8)
    return InventedStack(geobox=geobox, modalities=("sar", "eo", "ir"), image=image, labels=labels)


@pytest.fixture
def stack(tmp_path):
    return invented().write(tmp_path)


# windows


def test_a_window_holds_values_masks_and_labels(stack):
    window = StackReader(stack).read(2, 3, height=10, width=6)
    truth = invented()
    assert list(window.image) == ["eo", "sar"]
    for name in ("eo", "sar"):
        assert window.image[name].dtype == np.float32
        np.testing.assert_array_equal(window.image[name], truth.image[name][:, 2:12, 3:9])
        np.testing.assert_array_equal(window.valid[name], np.isfinite(truth.image[name]).all(axis=0)[2:12, 3:9])
    np.testing.assert_array_equal(window.labels, truth.labels[2:12, 3:9])


def test_every_modality_has_a_mask_in_the_configured_order(stack):
    window = StackReader(stack).read(0, 0, height=4, width=5)
    assert list(window.valid) == ["sar", "eo", "ir"]
    assert window.valid["ir"].shape == (4, 5)
    assert not window.valid["ir"].any()
    assert "ir" not in window.image


def test_a_pixel_with_a_hole_in_one_band_is_not_valid(stack):
    window = StackReader(stack).read(18, 0, height=4, width=20)
    np.testing.assert_array_equal(window.valid["sar"], np.repeat([[True], [True], [False], [False]], 20, axis=1))


@given(
    truth=stacks(), row=st.integers(-60, 60), col=st.integers(-60, 60),
    height=st.integers(1, 70), width=st.integers(1, 70),
)  # fmt: skip
def test_windows_equal_slices_of_a_padded_image(tmp_path_factory, truth, row, col, height, width):
    """Padding the whole image and cutting from it, by numpy, is the oracle; also far outside of the grid."""
    reader = StackReader(truth.write(tmp_path_factory.mktemp("stack")))
    window = reader.read(row, col, height=height, width=width)
    rim = 130
    cut = (slice(row + rim, row + rim + height), slice(col + rim, col + rim + width))
    for name, values in truth.image.items():
        padded = np.pad(values, ((0, 0), (rim, rim), (rim, rim)), constant_values=np.nan)[:, *cut]
        np.testing.assert_array_equal(window.image[name], padded)
        np.testing.assert_array_equal(window.valid[name], np.isfinite(padded).all(axis=0))
    if truth.labels is None:
        assert window.labels is None
    else:
        np.testing.assert_array_equal(window.labels, np.pad(truth.labels, rim, constant_values=IGNORE)[cut])


@given(truth=stacks(), rim=st.integers(0, 9))
def test_crop_after_pad_is_identity(tmp_path_factory, truth, rim):
    reader = StackReader(truth.write(tmp_path_factory.mktemp("stack")))
    rows, cols = truth.geobox.shape
    wide = reader.read(-rim, -rim, height=rows + 2 * rim, width=cols + 2 * rim)
    for name, values in truth.image.items():
        np.testing.assert_array_equal(wide.image[name][:, rim : rim + rows, rim : rim + cols], values)
        assert wide.valid[name].sum() == np.isfinite(values).all(axis=0).sum()


def test_no_labels_is_none(stack):
    assert StackReader(replace(stack, labels=None)).read(0, 0, height=3, width=3).labels is None


def test_damaged_rasters_are_one_clear_error(stack):
    truncated = stack.present["eo"]
    os.truncate(truncated, truncated.stat().st_size // 2)
    with pytest.raises(SceneError, match=r"scene 'invented'.*--force"):
        StackReader(stack).read(0, 0, height=30, width=20)
    truncated.unlink()
    with pytest.raises(SceneError, match="cannot be read"):
        StackReader(stack).read(0, 0, height=30, width=20)


# processes


def _bytes_of(reader: StackReader, answer) -> None:
    windows = [reader.read(row, 0, height=64, width=256) for row in range(0, 512, 64)]
    answer.send([window.image["eo"].tobytes() for window in windows])


# Python 3.12 warns of the very thing that is tried here.
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_a_reader_forked_after_a_read_in_the_parent_gives_the_same_bytes(tmp_path):
    """Several children read at once what the parent holds open: shared handles would mix up their positions."""
    geobox = north_up(512, 256)
    values = np.random.default_rng(0).random((3, *geobox.shape), np.float32)
    path = write_tiff(tmp_path / "eo.tif", values, geobox, nodata=np.nan, compress="deflate", tiled=True)
    reader = StackReader(AlignedStack(name="s", geobox=geobox, modalities=("eo",), present={"eo": path}))
    reader.read(100, 0, height=64, width=256)
    forked = multiprocessing.get_context("fork")
    ends = []
    for _ in range(3):
        receiver, sender = forked.Pipe(duplex=False)
        forked.Process(target=_bytes_of, args=(reader, sender), daemon=True).start()
        sender.close()  # so that a child that dies ends the wait
        ends.append(receiver)
    for receiver in ends:
        assert receiver.poll(60), "a child hangs"
    answers = [receiver.recv() for receiver in ends]
    expected = [values[:, row : row + 64].tobytes() for row in range(0, 512, 64)]
    assert answers == [expected] * 3
    assert reader.read(0, 0, height=64, width=256).image["eo"].tobytes() == expected[0]


def test_a_file_is_opened_once_a_process(stack, monkeypatch):
    opened = []
    real_open = rasterio.open
    monkeypatch.setattr(rasterio, "open", lambda path, *a, **k: opened.append(path) or real_open(path, *a, **k))
    reader = StackReader(stack)
    assert not opened
    for _ in range(3):
        reader.read(0, 0, height=2, width=2)
    assert sorted(opened) == sorted([*stack.present.values(), stack.labels])
    monkeypatch.setattr(os, "getpid", lambda: -1)
    reader.read(0, 0, height=2, width=2)
    assert len(opened) == 6


def test_a_reader_that_has_read_goes_to_a_spawned_process(stack):
    reader = StackReader(stack)
    before = reader.read(0, 0, height=5, width=5)
    copy = pickle.loads(pickle.dumps(reader))  # noqa: S301 - our own bytes; this is how a loader's workers get it
    np.testing.assert_array_equal(copy.read(0, 0, height=5, width=5).image["eo"], before.image["eo"])


def test_a_stack_with_nothing_missing_goes_to_a_spawned_process(stack):
    plain = AlignedStack(name="s", geobox=GRID, modalities=("eo",), present={"eo": stack.present["eo"]})
    copy = pickle.loads(pickle.dumps(plain))  # noqa: S301 - our own bytes; this is how a loader's workers get it
    assert copy == plain


# descriptions


@given(truth=stacks())
def test_a_description_survives_saving_exactly(tmp_path_factory, truth):
    folder = tmp_path_factory.mktemp("stack")
    stack = replace(truth.write(folder), label=7, split="validation")
    stack.save(folder / "stack.json")
    loaded = AlignedStack.load(folder / "stack.json")
    assert loaded == replace(stack, missing=dict(stack.missing))
    assert loaded.geobox == truth.geobox
    assert loaded.geobox.affine[:6] == truth.geobox.affine[:6]
    assert [*folder.glob(".*")] == []


def test_a_chip_without_a_position_survives_saving(tmp_path):
    chip = GeoBox((8, 8), Affine.identity(), None)
    AlignedStack(name="c", geobox=chip, modalities=("eo",), present={}, missing={"eo": "x"}).save(tmp_path / "s.json")
    loaded = AlignedStack.load(tmp_path / "s.json")
    assert loaded.geobox == chip
    assert loaded.geobox.crs is None
    assert (loaded.labels, loaded.label, loaded.split) == (None, None, "auto")


def test_a_folder_that_was_moved_still_finds_its_rasters(tmp_path):
    invented().write(tmp_path / "here").save(tmp_path / "here" / "stack.json")
    shutil.move(tmp_path / "here", tmp_path / "there")
    loaded = AlignedStack.load(tmp_path / "there" / "stack.json")
    assert StackReader(loaded).read(0, 0, height=2, width=2).labels is not None
    assert str(tmp_path) not in (tmp_path / "there" / "stack.json").read_text()


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[:0],
        lambda text: text[: len(text) // 2],
        lambda text: f"[{text}]",
        lambda text: text.replace('"transform"', '"transformation"'),
        lambda text: text.replace("EPSG:32633", "EPSG:0"),
        lambda text: text.replace('"shape": [', '"shape": ["a", '),
    ],
    ids=["empty", "half", "list", "no transform", "no crs", "no shape"],
)
def test_a_damaged_description_is_one_clear_error(stack, tmp_path, damage):
    stack.save(tmp_path / "stack.json")
    (tmp_path / "stack.json").write_text(damage((tmp_path / "stack.json").read_text()))
    with pytest.raises(SceneError, match=r"stack\.json: found no readable stack description.*coregister"):
        AlignedStack.load(tmp_path / "stack.json")
    with pytest.raises(SceneError, match="no readable stack description"):
        AlignedStack.load(tmp_path / "nowhere.json")
