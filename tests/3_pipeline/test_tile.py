"""Tiling: what the index says of a patch is what its pixels say; filters, splits over scenes, copies of the patches."""

import json
from dataclasses import replace

import geopandas as gpd
import numpy as np
import pyarrow.parquet as pq
import pyproj
import pytest
import rasterio
from hypothesis import given
from hypothesis import strategies as st
from strategies import north_up, registration_layer, write_tiff

from equipoise.datasets.errors import DatasetError, SceneError, SplitError
from equipoise.datasets.modality import Band, Modality, Unit
from equipoise.datasets.patch_store import PatchStore
from equipoise.datasets.patches import PatchIndex
from equipoise.datasets.position_confidence import PositionConfidence
from equipoise.datasets.registration_layer import RegistrationLayer
from equipoise.datasets.splits import SPLITS
from equipoise.datasets.stack import AlignedStack, StackReader
from equipoise.pipeline.errors import PipelineError
from equipoise.pipeline.scene_options import ClassOptions
from equipoise.pipeline.stage_options import TileOptions
from equipoise.pipeline.tile import _placed, tile

MODALITIES = tuple(
    Modality(name=name, bands=tuple(Band(name=f"{name}{n}", unit=Unit.REFLECTANCE) for n in range(count)))
    for name, count in (("eo", 2), ("sar", 1))
)
CLASSES = [ClassOptions(value=value, name=f"class {value}", color="#808080") for value in (0, 3)]
OPTIONS = {"patch_size": 16, "block_size": 32, "buffer": 4, "min_valid": 0.1, "min_labelled": 0, "store": "none"}


@pytest.fixture
def scene(tmp_path):
    """Write a scene; ``place`` is its upper left pixel on a common lattice."""

    def make(name="a", *, shape=(128, 128), place=(0, 0), seed=0, holes=False, clouds=False, **options):
        rng, folder = np.random.default_rng(seed), tmp_path / name
        folder.mkdir()
        grid = north_up(*shape, left=500_000.0 + 10 * place[1], top=5_300_000.0 - 10 * place[0])
        present = {}
        for modality in MODALITIES:
            image = rng.normal(0.3, 0.1, (len(modality.bands), *shape)).astype(np.float32)
            if holes:
                image[:, : shape[0] // 3, : shape[1] // 2] = np.nan
            present[modality.name] = write_tiff(folder / f"{modality.name}.tif", image, grid, nodata=np.nan)
        labels = rng.choice(np.array([0, 3, 255], np.uint8), (1, *shape))
        if clouds:
            codes = rng.choice(np.array([0, 0, 1, 2, 3, 255], np.uint8), (1, *shape))
            codes[:, 64:] = 0
            options["clouds"] = {"eo": write_tiff(folder / "clouds.tif", codes, grid)}
        return AlignedStack(
            name=name, geobox=grid, modalities=("eo", "sar"), present=present,
            labels=write_tiff(folder / "labels.tif", labels, grid, nodata=255), **options,
        )  # fmt: skip

    return make


@pytest.fixture
def run(tmp_path):
    def make(*stacks, task="segmentation", seed=0, **options):
        return tile(
            stacks, MODALITIES, classes=CLASSES, task=task, options=TileOptions(**(OPTIONS | options)), seed=seed,
            folder=tmp_path,
        )  # fmt: skip

    return make


def test_the_index_says_what_the_pixels_say(scene, run):
    """Oracle: numpy over the windows, read with rasterio alone."""
    stack = scene(holes=True, clouds=True, confidence={"eo": 1.0, "sar": 0.7})
    table = run(stack).index.table
    with rasterio.open(stack.present["eo"]) as eo, rasterio.open(stack.clouds["eo"]) as clouds:
        image, codes = eo.read(), clouds.read(1)
    with rasterio.open(stack.labels) as file:
        labels = file.read(1)
    assert len(table) > 10
    for item in table.itertuples():
        at = (slice(item.row, item.row + 16), slice(item.col, item.col + 16))
        assert item.valid_eo == pytest.approx(np.isfinite(image[:, *at]).all(axis=0).mean())
        observed, clouded = np.isin(codes[at], (0, 1, 2)), np.isin(codes[at], (1, 2))
        assert item.cloud_eo == pytest.approx(clouded.sum() / observed.sum())
        assert np.isnan(item.cloud_sar)
        assert (item.registration_eo, item.registration_sar) == (1.0, 0.7)
        assert (item.class_0, item.class_3) == ((labels[at] == 0).sum(), (labels[at] == 3).sum())
    assert table["cloud_eo"].max() > 0.3
    assert table["cloud_eo"].min() == 0


def test_cloudy_and_badly_placed_patches_are_left_out_on_request(scene, run):
    stack = scene(clouds=True, confidence={"eo": 1.0, "sar": 0.4})
    shares = {"validation": 0.35, "test": 0.3}
    every = run(stack, **shares).index.table
    clear = run(stack, **shares, max_cloud=0.2).index.table
    assert 0 < len(clear) < len(every)
    assert len(clear) == (every["cloud_eo"] <= 0.2).sum()
    assert len(run(stack, **shares, min_registration=0.4).index) == len(every)
    with pytest.raises(DatasetError, match="no patch that passes the filters"):
        run(stack, min_registration=0.5)


def test_what_is_not_known_of_a_modality_filters_nothing(scene, run):
    """No cloud layer, and a sensor that is missing."""
    stack = scene(confidence={"eo": 1.0})
    assert len(run(stack, max_cloud=0.0, min_registration=0.9).index) == len(run(stack).index)


@pytest.fixture
def left_half(tmp_path):
    """Write a layer of the 128 x 128 px scene: sure up to column 48, lost from column 64 on."""
    registration_layer(np.repeat([[1.0] * 4 + [0.0] * 5], 2, axis=0), north_up(128, 128)).save(tmp_path / "sar.tif")
    return tmp_path / "sar.tif"


def test_a_patch_knows_how_sure_a_position_is_where_it_lies(scene, run, left_half, monkeypatch):
    """The number of the whole scene stands where there is no layer, and only there."""
    read, opened = RegistrationLayer.load, []
    monkeypatch.setattr(RegistrationLayer, "load", lambda path: opened.append(path) or read(path))
    stack = scene(confidence={"eo": 0.9, "sar": 0.2}, registration={"sar": left_half})
    shares = {"validation": 0.35, "test": 0.3}
    every = run(stack, **shares).index.table
    assert opened == [left_half]
    right = every["col"] + 16
    wanted = np.where(right <= 48, 1.0, np.where(every["col"] >= 64, 0.0, np.nan))
    assert 0 < np.isnan(wanted).sum() < len(wanted)
    found = every["registration_sar"].to_numpy()
    np.testing.assert_array_equal(found[np.isfinite(wanted)], wanted[np.isfinite(wanted)])
    slope = 1 - (every["col"] + 8 - 48) / 16
    inside = ((every["col"] >= 48) & (right <= 64)).to_numpy()
    np.testing.assert_allclose(found[inside], slope[inside], atol=1e-6)
    assert (every["registration_eo"] == 0.9).all()
    placed = run(stack, **shares, min_registration=0.3).index.table
    assert len(placed) == (found >= 0.3).sum() < len(every)
    assert placed["col"].max() <= 64


@given(sure=st.floats(0, 1).map(lambda number: round(number, 4)))
def test_a_layer_that_is_the_same_everywhere_is_the_number_of_the_scene(tmp_path_factory, sure):
    folder, grid = tmp_path_factory.mktemp("layer"), north_up(40, 50)
    registration_layer(np.full((3, 4), sure), grid).save(folder / "layer.tif")
    numbers = AlignedStack(name="a", geobox=grid, modalities=("eo",), present={}, confidence={"eo": sure})
    layers = replace(numbers, registration={"eo": folder / "layer.tif"}, confidence={"eo": 0.123})
    placed = [_placed(PositionConfidence.of_stack(stack), "eo", grid[3:20, 5:22]) for stack in (numbers, layers)]
    assert placed == [sure, sure]


def test_a_chip_that_is_smaller_than_a_patch_counts_where_it_is(scene, run, tmp_path):
    chips = [scene(split, place=(0, 900 * n), split=split, label=3, shape=(8, 8)) for n, split in enumerate(SPLITS)]
    registration_layer(np.array([[1.0, 0.0], [1.0, 0.0]]), chips[0].geobox).save(tmp_path / "eo.tif")
    chips[0] = replace(chips[0], registration={"eo": tmp_path / "eo.tif"})
    table = run(*chips, task="classification").index.table.set_index("scene")
    assert table.loc[SPLITS[0], "registration_eo"] == 0.5
    assert np.isnan(table.loc[SPLITS[1], "registration_eo"])


def test_a_layer_that_is_gone_is_one_clear_error(scene, run, left_half):
    stack = scene(registration={"sar": left_half})
    left_half.unlink()
    with pytest.raises(SceneError, match=r"sar\.tif: found no readable registration layer .*coregister"):
        run(stack)


def test_the_file_is_geoparquet_that_gis_programs_read(scene, run, tmp_path):
    """GDAL's own Parquet driver is not in the wheels: what the GeoParquet 1.1 standard asks for is looked at."""
    run(scene(holes=True, clouds=True))
    metadata = json.loads(pq.read_schema(tmp_path / "patches.parquet").metadata[b"geo"])
    column = metadata["columns"][metadata["primary_column"]]
    assert metadata["version"] == "1.1.0"
    assert (column["encoding"], column["geometry_types"]) == ("WKB", ["Polygon"])
    assert pyproj.CRS.from_json_dict(column["crs"]) == pyproj.CRS("EPSG:4326")
    assert set(column["covering"]["bbox"]) == {"xmin", "ymin", "xmax", "ymax"}
    table = gpd.read_parquet(tmp_path / "patches.parquet")
    assert table.geometry.is_valid.all()
    kinds = {name: str(table[name].dtype) for name in ("row", "valid_eo", "cloud_eo", "registration_eo", "class_0")}
    assert kinds == {"row": "int64", "valid_eo": "float64", "cloud_eo": "float64", "registration_eo": "float64",
                     "class_0": "int64"}  # fmt: skip
    assert PatchIndex.load(tmp_path / "patches.parquet").modalities == ("eo", "sar")


def test_patches_overlap_as_asked_and_stay_on_the_grid(scene, run):
    stack = scene(split="train")
    others = [scene("b", place=(0, 900), split="test"), scene("c", place=(900, 0), split="validation")]
    table = run(stack, *others, overlap=8).index.of_split("train").table
    assert sorted(set(table["row"])) == list(range(0, 113, 8))
    assert len(table) == 15**2


def test_statistics_count_the_pixels_of_overlapping_patches_once(scene, run):
    stack = scene(split="train")
    others = [scene("b", place=(0, 900), split="test"), scene("c", place=(900, 0), split="validation")]
    plain, overlapping = (run(stack, *others, overlap=overlap).training["eo"] for overlap in (0, 12))
    assert plain.count == overlapping.count == 128 * 128
    np.testing.assert_allclose(overlapping.mean, plain.mean, rtol=1e-12)
    assert plain.percentiles == overlapping.percentiles
    with rasterio.open(stack.present["eo"]) as file:
        values = file.read().reshape(2, -1).astype(np.float64)
    np.testing.assert_allclose(plain.std, values.std(axis=1), rtol=1e-6)
    np.testing.assert_allclose(plain.percentiles, np.percentile(values, (1, 50, 99), axis=1).T, atol=2e-3)


def test_overlapping_scenes_are_cut_by_the_same_blocks(scene, run):
    """Two dates of one place, half a block apart: nothing near common ground is of another split."""
    table = run(scene(), scene("b", place=(16, 48), seed=1)).index.table
    assert set(table["split"]) == {"train", "validation", "test"}
    grown = table[table["scene"] == "a"].to_crs("EPSG:32633")
    grown["geometry"] = grown.buffer(39.9, join_style="mitre")
    pairs = gpd.sjoin(grown, table[table["scene"] == "b"].to_crs("EPSG:32633"))
    assert len(pairs) > 20
    assert (pairs["split_left"] == pairs["split_right"]).all()


def test_overlapping_scenes_that_are_given_two_splits_are_refused(scene, run):
    stacks = [scene(split="train"), scene("b", place=(64, 64), split="test"), scene("c", place=(900, 0))]
    with pytest.raises(SplitError, match=r"train patch of scene 'a'.*test patch of scene 'b'"):
        run(*stacks)


def test_scenes_of_an_event_are_drawn_together(scene, run):
    stacks = [scene(f"s{n}", shape=(32, 32), place=(0, 500 * n), group=f"event {n // 2}") for n in range(6)]
    table = run(*stacks).index.table
    splits = table.groupby("scene")["split"].unique()
    assert all(len(found) == 1 for found in splits)
    assert all(splits[f"s{2 * n}"] == splits[f"s{2 * n + 1}"] for n in range(3))
    assert {found[0] for found in splits} == {"train", "validation", "test"}


def test_a_split_without_patches_is_refused(scene, run):
    with pytest.raises(PipelineError, match=r"no patch for validation and test.*`split`"):
        run(scene(split="train"))


# copies


def test_the_store_holds_the_patches_of_the_index_and_goes_when_it_is_not_wanted(scene, run, tmp_path):
    stack = scene(holes=True, clouds=True)
    result = run(stack, store="npy")
    assert {path.relative_to(tmp_path).as_posix() for path in result.outputs} == {
        "patches.parquet", "patches/store.json", "patches/eo.npy", "patches/sar.npy", "patches/labels.npy",
        "patches/eo.quality.npy",
    }  # fmt: skip
    store, first = PatchStore(tmp_path / "patches"), result.index.table.iloc[0]
    assert len(store) == len(result.index)
    expected = StackReader(stack).read(int(first["row"]), int(first["col"]), height=16, width=16)
    np.testing.assert_array_equal(store.read(0, stack).image["eo"], expected.image["eo"])
    before = (tmp_path / "patches" / "eo.npy").stat().st_mtime_ns
    run(stack, store="npy")
    assert (tmp_path / "patches" / "eo.npy").stat().st_mtime_ns == before
    assert run(stack).outputs == (tmp_path / "patches.parquet",)
    assert not (tmp_path / "patches").exists()


def test_chips_are_small_rasters_in_their_place(scene, run, tmp_path):
    """Read with rasterio alone: pixels, position, nodata, names of bands."""
    stack = scene(holes=True)
    result = run(stack, chips=True)
    folders = sorted(path for path in (tmp_path / "chips").glob("*/*"))
    assert len(folders) == len(result.index)
    with rasterio.open(stack.present["eo"]) as file:
        whole = file.read()
    for item in result.index.table.itertuples():
        folder = tmp_path / "chips" / item.split / f"a_{item.row}_{item.col}"
        assert sorted(path.name for path in folder.iterdir()) == ["eo.tif", "labels.tif", "sar.tif"]
        with rasterio.open(folder / "eo.tif") as chip:
            np.testing.assert_array_equal(chip.read(), whole[:, item.row : item.row + 16, item.col : item.col + 16])
            assert chip.crs == "EPSG:32633"
            assert (chip.transform.c, chip.transform.f) == (500_000 + 10 * item.col, 5_300_000 - 10 * item.row)
            assert np.isnan(chip.nodata)
        with rasterio.open(folder / "labels.tif") as chip:
            assert (chip.dtypes, chip.nodata) == (("uint8",), 255)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "chips").glob("*/*/*.tif")}
    run(stack, chips=True)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    next((tmp_path / "chips").glob("*/*/eo.tif")).unlink()
    repaired = run(stack, chips=True)
    assert {path for path in repaired.outputs if path.suffix == ".tif"} == set(before)
    assert all(path.is_file() for path in before)
    run(stack, chips=True, patch_size=12)
    assert all("_" in path.name for path in (tmp_path / "chips").glob("*/*"))
    assert len(list((tmp_path / "chips").glob("*/*"))) != len(folders)
    run(stack)
    assert not (tmp_path / "chips").exists()


def test_chips_of_an_interrupted_export_are_kept(scene, run, tmp_path, monkeypatch):
    stack, read, calls = scene(), StackReader.read, []
    run(stack)

    def failing(self, row, col, **size):
        calls.append((row, col))
        if len(calls) == stop:
            raise KeyboardInterrupt
        return read(self, row, col, **size)

    stop = 10**6
    monkeypatch.setattr(StackReader, "read", failing)
    run(stack)
    base, stop = len(calls), len(calls) + 8
    calls.clear()
    with pytest.raises(KeyboardInterrupt):
        run(stack, chips=True)
    assert not (tmp_path / "chips").exists()
    calls.clear()
    stop = 10**6
    result = run(stack, chips=True)
    assert len(calls) == base + len(result.index) - 7
    assert len(list((tmp_path / "chips").glob("*/*"))) == len(result.index)
