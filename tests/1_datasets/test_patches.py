"""The patch index as a GeoParquet file, and samples that equal what was written."""

import json

import geopandas as gpd
import numpy as np
import pyarrow.parquet as pq
import pytest
import shapely
import torch
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from pyproj import Geod, Transformer
from strategies import InventedStack, geoboxes, north_up, valid_masks

from equipoise.datasets.augment import Augmentation
from equipoise.datasets.errors import DatasetError
from equipoise.datasets.modality import Band, Modality, Unit
from equipoise.datasets.normalise import Normaliser
from equipoise.datasets.patch_dataset import PatchDataset
from equipoise.datasets.patches import PatchIndex, footprint
from equipoise.datasets.stack import IGNORE
from equipoise.datasets.statistics import BandStatistics

GRID = north_up(40, 40)
MODALITIES = tuple(
    Modality(name=name, bands=tuple(Band(name=f"{name}{n}", unit=Unit.DIGITAL_NUMBER) for n in range(count)))
    for name, count in (("sar", 2), ("eo", 3), ("ir", 1))
)
STATISTICS = {
    "sar": BandStatistics(mean=(1.0, 2.0), std=(2.0, 0.5), count=9),
    "eo": BandStatistics(mean=(0.0, 0.5, 1.0), std=(1.0, 1.0, 4.0), count=9),
    "ir": BandStatistics(mean=(0.0,), std=(1.0,), count=9),
}


def row(scene="invented", *, grid=GRID, top=0, left=0, size=16, split="train", label=IGNORE, **more):
    columns = {"valid_sar": 1.0, "valid_eo": 0.5, "valid_ir": 0.0, "class_0": 10, "class_7": 3}
    where = footprint(grid[top : top + size, left : left + size])
    return {
        "scene": scene, "row": top, "col": left, "height": size, "width": size, "split": split, "label": label,
        "geometry": where, **columns, **more,
    }  # fmt: skip


def index_of(*rows, georeferenced=True):
    return PatchIndex.from_rows(rows, modalities=("sar", "eo", "ir"), georeferenced=georeferenced)


def invented(*, seed=0, missing=("ir",)):
    rng = np.random.default_rng(seed)
    image = {
        item.name: rng.normal(1.0, 2.0, (len(item.bands), 40, 40)).astype(np.float32)
        for item in MODALITIES
        if item.name not in missing
    }
    if "eo" in image:
        image["eo"][:, 3:8, 2:30] = np.nan
    labels = rng.choice([0, 7, IGNORE], (40, 40)).astype(np.uint8)
    return InventedStack(geobox=GRID, modalities=("sar", "eo", "ir"), image=image, labels=labels)


def dataset_of(stack, *rows, classification=False, augment_seed=None, scenes=None):
    normaliser = Normaliser(modalities=MODALITIES, training=STATISTICS, scenes=scenes)
    return PatchDataset(
        index_of(*rows), {stack.name: stack}, normaliser=normaliser, class_values=(7, 0),
        classification=classification, augment=None if augment_seed is None else Augmentation(MODALITIES),
        augment_seed=augment_seed or 0,
    )  # fmt: skip


# the index


def test_the_file_is_geoparquet_1_1_with_a_bounding_box_covering(tmp_path):
    index = index_of(row(), row(top=20, split="test"))
    index.save(tmp_path / "patches.parquet")
    metadata = json.loads(pq.read_schema(tmp_path / "patches.parquet").metadata[b"geo"])
    assert metadata["version"] == "1.1.0"
    assert metadata["columns"]["geometry"]["covering"]["bbox"]["xmin"] == ["bbox", "xmin"]
    assert [file.name for file in tmp_path.iterdir()] == ["patches.parquet"]


def test_the_file_reopens_in_geopandas_alone(tmp_path):
    index = index_of(row(), row(top=20, left=8, split="test"))
    index.save(tmp_path / "p.parquet")
    table = gpd.read_parquet(tmp_path / "p.parquet")
    assert table.crs == "EPSG:4326"
    assert list(table["split"]) == ["train", "test"]
    west, south, east, north = table.total_bounds
    assert len(gpd.read_parquet(tmp_path / "p.parquet", bbox=(west, north, east, north))) == 1
    assert len(gpd.read_parquet(tmp_path / "p.parquet", bbox=(west, south, east, north))) == 2


def test_loading_gives_back_what_was_saved(tmp_path):
    index = index_of(row(), row("b", top=20, split="validation", label=3))
    index.save(tmp_path / "p.parquet")
    loaded = PatchIndex.load(tmp_path / "p.parquet")
    assert loaded.modalities == ("sar", "eo", "ir")
    assert loaded.table.drop(columns="geometry").equals(index.table.drop(columns="geometry"))
    assert loaded.table.geom_equals_exact(index.table, tolerance=0).all()
    assert len(loaded) == 2


def test_chips_without_a_position_have_no_crs(tmp_path):
    chip = GeoBox((16, 16), Affine.identity(), None)
    index = index_of(row(grid=chip), georeferenced=False)
    index.save(tmp_path / "p.parquet")
    loaded = PatchIndex.load(tmp_path / "p.parquet")
    assert loaded.table.crs is None
    assert loaded.table.total_bounds.tolist() == [0, 0, 16, 16]


def test_several_zones_share_an_index(tmp_path):
    """Each scene keeps its own grid; the table places both."""
    far = north_up(40, 40, crs="EPSG:32756", top=6_250_000.0)
    index = index_of(row("here"), row("far", grid=far))
    index.save(tmp_path / "p.parquet")
    middles = PatchIndex.load(tmp_path / "p.parquet").table.geometry.representative_point()
    assert middles.x.tolist() == pytest.approx([15.0, 153.0], abs=0.01)
    assert middles.y.tolist() == pytest.approx([47.85, -33.89], abs=0.02)


def test_a_split_keeps_its_order_and_an_empty_one_is_empty():
    index = index_of(row(top=0), row(top=20, split="test"), row(top=8))
    assert index.of_split("train").table["row"].tolist() == [0, 8]
    assert index.of_split("train").table.index.tolist() == [0, 1]
    assert len(index.of_split("validation")) == 0
    assert index.of_split("test").modalities == index.modalities


def test_class_counts_come_in_the_order_asked_for():
    index = index_of(row(class_0=1, class_7=5), row(class_0=10, class_7=50))
    np.testing.assert_array_equal(index.class_counts([7, 0]), [55.0, 11.0])
    assert index.class_counts([7]).dtype == np.float64


def test_an_index_without_patches_is_refused():
    with pytest.raises(DatasetError, match=r"found no patch.*min_valid"):
        index_of()


@pytest.mark.parametrize("kind", ["missing", "no parquet", "truncated", "no geometry", "other geometry"])
def test_what_is_no_index_is_one_clear_error(tmp_path, kind):
    path = tmp_path / "p.parquet"
    index = index_of(row())
    if kind == "no parquet":
        path.write_bytes(b"no parquet")
    elif kind == "truncated":
        index.save(path)
        path.write_bytes(path.read_bytes()[:-200])
    elif kind == "no geometry":
        index.table.drop(columns="geometry").to_parquet(path)
    elif kind == "other geometry":
        gpd.GeoDataFrame({"height": [1.0]}, geometry=[shapely.Point(0, 0)], crs="EPSG:4326").to_parquet(path)
    with pytest.raises(DatasetError, match=r"p\.parquet: found no readable patch index.*equipoise tile"):
        PatchIndex.load(path)


@given(geobox=geoboxes(zones=("EPSG:32633", "EPSG:32721")))
def test_a_footprint_is_the_outline_of_the_grid(geobox):
    """Corners by pyproj are the oracle."""
    rows, cols = geobox.shape
    corners = [geobox.affine * corner for corner in ((0, 0), (cols, 0), (cols, rows), (0, rows))]
    to_degrees = Transformer.from_crs(str(geobox.crs), "EPSG:4326", always_xy=True)
    expected = shapely.Polygon([to_degrees.transform(*corner) for corner in corners])
    assert footprint(geobox).symmetric_difference(expected).area <= 1e-3 * expected.area


# samples


def test_a_sample_holds_normalised_images_masks_and_remapped_labels(tmp_path):
    truth = invented()
    sample = dataset_of(truth.write(tmp_path), row(top=2, left=4))[0]
    cut = (slice(2, 18), slice(4, 20))
    assert list(sample) == ["image", "valid", "available", "registration", "condition", "mask"]
    assert int(sample["condition"]) == 0
    assert list(sample["image"]) == list(sample["valid"]) == ["sar", "eo", "ir"]
    for name in ("sar", "eo"):
        working = truth.image[name][:, *cut].astype(np.float64)
        mean, std = (np.array(value)[:, None, None] for value in (STATISTICS[name].mean, STATISTICS[name].std))
        expected = np.where(np.isfinite(working), (working - mean) / std, 0)
        np.testing.assert_allclose(sample["image"][name], expected, rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(sample["valid"][name], np.isfinite(working).all(axis=0))
        assert (sample["image"][name].dtype, sample["valid"][name].dtype) == (torch.float32, torch.bool)
    remapped = {7: 0, 0: 1, IGNORE: IGNORE}
    expected = np.vectorize(remapped.get)(truth.labels[cut])
    np.testing.assert_array_equal(sample["mask"], expected)
    assert sample["mask"].dtype == torch.int64


def test_a_sample_knows_how_sure_positions_are_and_takes_what_is_not_known_for_sure(tmp_path):
    stack = invented().write(tmp_path)
    assert dataset_of(stack, row())[0]["registration"].tolist() == [1, 1, 1]
    known = dataset_of(stack, row(registration_sar=0.25, registration_eo=float("nan")))[0]["registration"]
    assert (known.tolist(), known.dtype) == ([0.25, 1, 1], torch.float32)


def test_a_missing_modality_is_zero_not_valid_and_not_available(tmp_path):
    sample = dataset_of(invented().write(tmp_path), row())[0]
    assert sample["available"].tolist() == [True, True, False]
    assert sample["image"]["ir"].shape == (1, 16, 16)
    assert not sample["image"]["ir"].any()
    assert not sample["valid"]["ir"].any()


def test_a_modality_that_has_a_hole_just_here_is_not_available(tmp_path):
    sample = dataset_of(invented().write(tmp_path), row(top=3, left=2, size=5))[0]
    assert sample["available"].tolist() == [True, False, False]


@settings(max_examples=30)
@given(valid=valid_masks((40, 40)), top=st.integers(-10, 35), left=st.integers(-10, 35))
def test_what_is_not_valid_is_zero_wherever_the_patch_lies(tmp_path_factory, valid, top, left):
    truth = invented()
    truth.image["sar"][:, ~valid] = np.nan
    sample = dataset_of(truth.write(tmp_path_factory.mktemp("p")), row() | {"row": top, "col": left})[0]
    padded = np.pad(valid, 60)[top + 60 : top + 76, left + 60 : left + 76]
    np.testing.assert_array_equal(sample["valid"]["sar"], padded)
    assert not sample["image"]["sar"][:, torch.from_numpy(~padded)].any()
    assert torch.isfinite(sample["image"]["sar"]).all()


def test_without_labels_everything_is_ignored(tmp_path):
    truth = invented()
    unlabelled = InventedStack(geobox=GRID, modalities=truth.modalities, image=truth.image, labels=None)
    assert (dataset_of(unlabelled.write(tmp_path), row())[0]["mask"] == IGNORE).all()


def test_classification_gives_one_label_a_chip(tmp_path):
    chips = dataset_of(invented().write(tmp_path), row(label=7), row(label=0), row(label=IGNORE), classification=True)
    assert [chips[position]["label"].item() for position in range(3)] == [0, 1, IGNORE]
    assert chips[0]["label"].dtype == torch.int64
    assert "mask" not in chips[0]


def test_augmentation_keeps_everything_in_step_and_is_the_same_each_time(tmp_path):
    """Undo by brute force: one of the eight symmetries brings images, masks and labels back together."""
    stack, rows = invented(missing=()).write(tmp_path), [row(top=top) for top in range(0, 24, 2)]
    plain, first, again = (dataset_of(stack, *rows, augment_seed=seed) for seed in (None, 11, 11))
    other = dataset_of(stack, *rows, augment_seed=12)
    turns = []
    for position in range(len(rows)):
        samples = [tensors(dataset[position]) for dataset in (plain, first, again)]
        assert all(torch.equal(samples[1][name], samples[2][name]) for name in samples[1])
        turns.append([turn for turn in range(8) if equal_after(samples[0], samples[1], turn)])
        assert len(turns[-1]) == 1
    assert len({turn for (turn,) in turns}) > 3
    assert any(
        not torch.equal(tensors(first[position])["image sar"], tensors(other[position])["image sar"])
        for position in range(len(rows))
    )


def tensors(sample):
    named = {f"{kind} {name}": value for kind in ("image", "valid") for name, value in sample[kind].items()}
    return named | {"mask": sample["mask"]}


def equal_after(plain, turned, turn):
    def moved(array):
        array = torch.rot90(array, turn % 4, dims=(-2, -1))
        return array.flip(-1) if turn >= 4 else array

    return all(torch.equal(moved(plain[name]), turned[name]) for name in plain)


@pytest.mark.parametrize(("crs", "left"), [("EPSG:32601", 166_000.0), ("EPSG:32660", 832_000.0)])
def test_a_footprint_across_the_antimeridian_is_two_parts(crs, left):
    grid = GeoBox((64, 256), Affine(40, 0, left - 5120, 0, -40, 300_000.0), crs)
    outline = footprint(grid)
    area = abs(Geod(ellps="WGS84").geometry_area_perimeter(outline)[0])
    assert outline.is_valid
    assert outline.geom_type == "MultiPolygon"
    assert area == pytest.approx(64 * 256 * 40**2, rel=5e-3)
    west, _, east, _ = outline.bounds
    assert (west, east) == (-180.0, 180.0)


@pytest.mark.parametrize(("crs", "pole"), [("EPSG:3413", 90.0), ("EPSG:3031", -90.0)])
def test_a_footprint_around_a_pole_holds_all_longitudes(crs, pole):
    outline = footprint(GeoBox((64, 64), Affine(100, 0, -3200, 0, -100, 3200), crs))
    assert outline.is_valid
    assert outline.contains(shapely.Point(12.0, pole - np.sign(pole) * 0.01))
    assert pole in outline.bounds
