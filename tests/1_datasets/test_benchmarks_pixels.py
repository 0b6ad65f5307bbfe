"""Benchmark readers: labels, validity, positions and sizes, each against a truth of its own."""

import logging
import warnings
from dataclasses import replace
from pathlib import Path

import fake_aerial_benchmarks as aerial
import fake_satellite_benchmarks as satellite
import numpy as np
import pytest
import rasterio
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from rasterio.errors import NotGeoreferencedWarning
from strategies import geoboxes

from equipoise.datasets.benchmarks.benchmark_dataset import BenchmarkDataset, chip_statistics
from equipoise.datasets.benchmarks.chip_reader import is_elsewhere
from equipoise.datasets.benchmarks.collection import public_dataset
from equipoise.datasets.benchmarks.errors import BenchmarkError
from equipoise.datasets.benchmarks.land_cover import SIMPLIFIED_OF_IGBP
from equipoise.datasets.benchmarks.public_dataset import Chip
from equipoise.datasets.errors import LabelError, SceneError

EDGE = satellite.EDGE


def opened(name: str, root: Path, split: str, **options) -> BenchmarkDataset:
    public = public_dataset(name)
    return BenchmarkDataset(public, public.chips(root, split), **options)


def first_band(path: Path) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path) as source:
            return source.read(1)


def of_band(values: np.ndarray, table: dict[int, int]) -> np.ndarray:
    """Look up position of class by value in the file; what the table does not name is not labelled."""
    return np.vectorize(lambda value: table.get(int(value), 255))(values)


@pytest.mark.parametrize(
    ("name", "write", "split", "table"),
    [
        ("sen1floods11", satellite.write_sen1floods11, "train", {0: 0, 1: 1}),
        ("ombria", aerial.write_ombria, "train", {0: 0, 255: 1}),
        ("sen12ms", satellite.write_sen12ms, "train", {value: value - 1 for value in range(1, 18)}),
        ("sen12ms-simplified", satellite.write_sen12ms, "train", {k: v - 1 for k, v in SIMPLIFIED_OF_IGBP.items()}),
        ("dfc2020", satellite.write_dfc2020, "test", {value: value - 1 for value in range(1, 11)}),
        ("bright", satellite.write_bright, "train", {value: value for value in range(4)}),
        ("openearthmap-sar", aerial.write_openearthmap_sar, "train", {value: value - 1 for value in range(1, 9)}),
        ("whu-opt-sar", aerial.write_whu_opt_sar, "all", {10 * value: value - 1 for value in range(1, 8)}),
        ("mcubes", aerial.write_mcubes, "train", {value: value for value in range(20)}),
        ("sen12-gum", satellite.write_sen12_gum, "train", None),
    ],
)
def test_masks_hold_class_positions(name: str, write, split: str, table, tmp_path: Path):
    samples = opened(name, write(tmp_path, np.random.default_rng(3)), split)
    for position, chip in enumerate(samples.public.chips(tmp_path, split)):
        raw = first_band(chip.labels)
        wanted = (raw > 0).astype(int) if table is None else of_band(raw, table)
        np.testing.assert_array_equal(samples[position]["mask"].numpy(), wanted)


def test_colours_become_classes_and_black_is_not_labelled(tmp_path: Path):
    rng = np.random.default_rng(3)
    root = aerial.write_vaihingen(tmp_path, rng)
    truth = satellite.values(rng, list(range(6)))
    published = aerial.colours(truth)
    published[:, :2] = 0  # the eroded ground truth
    published[1][published[1] == 255] = 252  # as in one published file
    satellite.write(root / "top_mosaic_09cm_area1.tif", published, satellite.utm(1, pixel=0.09, crs=None))
    mask = opened("isprs-vaihingen", root, "train")[0]["mask"].numpy()
    assert (mask[:2] == 255).all()
    np.testing.assert_array_equal(mask[2:], truth[0, 2:])


@pytest.mark.parametrize(("colour", "wanted"), [((255, 0, 255), "no class declares"), ((120, 255, 0), "between")])
def test_other_colours_are_refused(colour: tuple[int, ...], wanted: str, tmp_path: Path):
    root = aerial.write_vaihingen(tmp_path, np.random.default_rng(3))
    image = np.zeros((3, EDGE, EDGE), dtype=np.uint8) + np.array(colour, dtype=np.uint8)[:, None, None]
    satellite.write(root / "top_mosaic_09cm_area1.tif", image, satellite.utm(1, pixel=0.09, crs=None))
    with pytest.raises(LabelError, match=wanted):
        opened("isprs-vaihingen", root, "train")[0]


def test_footprints_are_drawn_and_the_strip_ends_where_radar_is_zero(tmp_path: Path):
    samples = opened("spacenet6", satellite.write_spacenet6(tmp_path, np.random.default_rng(3)), "train")
    wanted = np.zeros((EDGE, EDGE), dtype=int)
    wanted[4:10, 6:12] = 1
    np.testing.assert_array_equal(samples[0]["mask"].numpy(), wanted)
    assert not samples[1]["mask"].any()
    assert not samples[0]["valid"]["sar"][:, :3].any()
    assert samples[0]["valid"]["sar"][:, 3:].all()
    assert samples[0]["valid"]["eo"].all()


@pytest.mark.parametrize("content", ["", "[]", '{"features": 3}', '{"features": [{"geometry": {"type": "Blob"}}]}'])
def test_damaged_footprints_are_one_clear_error(content: str, tmp_path: Path):
    root = satellite.write_spacenet6(tmp_path, np.random.default_rng(3))
    next(iter(sorted((root / "train").rglob("*8681.geojson")))).write_text(content)
    with pytest.raises(LabelError, match="found no readable footprints"):
        opened("spacenet6", root, "train")[0]


def test_zero_is_fill_in_pictures_but_data_in_stretched_radar(tmp_path: Path):
    root = aerial.write_ombria(tmp_path, np.random.default_rng(3))
    dark = satellite.picture(np.random.default_rng(4), 3)
    dark[:, 5, 6] = 0
    aerial.write_png(root / "OmbriaS2/test/AFTER/S2_after_0013.png", dark)
    sample = opened("ombria", root, "test")[0]
    assert sample["valid"]["sar"].all()
    assert sample["image"]["sar"][0, 0, 0] == 0
    assert not sample["valid"]["eo"][5, 6]
    assert sample["valid"]["eo"].sum() == EDGE * EDGE - 1


def test_infrared_is_not_valid_where_its_mask_is_white(tmp_path: Path):
    sample = opened("mcubes", aerial.write_mcubes(tmp_path, np.random.default_rng(3)), "validation")[0]
    assert not sample["valid"]["ir"][:, :3].any()
    assert sample["valid"]["ir"][:, 3:].all()
    assert sample["valid"]["eo"].all()
    np.testing.assert_allclose((sample["image"]["aolp"].numpy() ** 2).sum(axis=0), 1.0, rtol=1e-6)


def test_arrays_of_objects_are_refused(tmp_path: Path):
    root = aerial.write_mcubes(tmp_path, np.random.default_rng(3))
    np.save(
        root / "multimodal_dataset/polL_dolp/outscene9_1.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True
    )
    with pytest.raises(SceneError, match="found no readable array"):
        opened("mcubes", root, "test")[0]


def test_a_fourth_band_that_looks_like_alpha_is_near_infrared(tmp_path: Path):
    root = aerial.write_whu_opt_sar(tmp_path, np.random.default_rng(3))
    path = root / "optical" / "NH49E001013.tif"
    with rasterio.open(path) as source:
        assert source.colorinterp[3].name == "alpha"
        wanted = source.read(4)
    np.testing.assert_array_equal(opened("whu-opt-sar", root, "all")[0]["image"]["eo"][3].numpy(), wanted)


def test_heights_that_lack_a_column_are_not_valid_there(tmp_path: Path):
    sample = opened("isprs-potsdam", aerial.write_potsdam(tmp_path, np.random.default_rng(3)), "test")[0]
    assert sample["image"]["dem"].shape == (1, EDGE, EDGE)
    assert not sample["valid"]["dem"][:, -1].any()
    assert sample["valid"]["dem"][:, :-1].all()


def test_sizes_that_differ_without_a_position_are_refused(tmp_path: Path):
    rng = np.random.default_rng(3)
    root = aerial.write_ombria(tmp_path, rng)
    aerial.write_png(root / "OmbriaS1/test/AFTER/S1_after_0013.png", satellite.picture(rng, 1, edge=EDGE - 1))
    with pytest.raises(BenchmarkError, match="found 15 x 15 px without a position; wanted the 16 x 16 px"):
        opened("ombria", root, "test")[0]


def test_another_pixel_size_is_brought_onto_the_first_modality(tmp_path: Path):
    root = satellite.write_sen12ms(tmp_path, np.random.default_rng(3))
    public = public_dataset("sen12ms")
    chip = public.chips(root, "test")[0]
    fine = np.tile(np.array([[-20.0, -3.0], [-3.0, -20.0]]), (EDGE, EDGE))[None].repeat(2, axis=0)
    whole = satellite.utm(10)
    grid = GeoBox(fine.shape[1:], whole.affine * type(whole.affine).scale(0.5), whole.crs)
    satellite.write(chip.files["sar"], fine.astype(np.float32), grid)
    image = BenchmarkDataset(public, [chip])[0]["image"]["sar"]
    assert image.shape == (2, EDGE, EDGE)
    mean_of_power = 10 * np.log10((0.01 + 10**-0.3) / 2)  # the mean of the decibels would be -11.5
    torch.testing.assert_close(image, torch.full_like(image, mean_of_power), rtol=1e-4, atol=1e-4)


def test_vehicles_keep_their_own_pixels_unless_one_size_is_asked_for(tmp_path: Path):
    root = aerial.write_mavoc(tmp_path, np.random.default_rng(3))
    samples = opened("mavoc", root, "train")
    assert [int(samples[i]["label"]) for i in range(3)] == [4, 0, 0]
    assert samples[0]["image"]["eo"].shape == (1, 31, 31)
    assert samples[0]["image"]["sar"].shape == (1, 55, 55)
    assert samples[2]["available"].tolist() == [False, True]
    square = opened("mavoc", root, "train", common_size=40)
    assert {tuple(image.shape) for i in range(3) for image in square[i]["image"].values()} == {(1, 40, 40)}
    with pytest.raises(BenchmarkError, match="found `patch` for mavoc"):
        opened("mavoc", root, "train", patch=8)
    with pytest.raises(BenchmarkError, match="found `common_size` for ombria"):
        BenchmarkDataset(public_dataset("ombria"), [], common_size=8)


def test_stretching_keeps_a_constant_and_a_ramp(tmp_path: Path):
    root = aerial.write_mavoc(tmp_path, np.random.default_rng(3))
    ramp = np.broadcast_to(np.arange(55, dtype=np.uint8) * 4, (1, 55, 55))
    aerial.write_png(root / "SAR_Train/sedan/SAR_1.png", ramp.copy())
    aerial.write_png(root / "EO_Train/sedan/EO_1.png", np.full((1, 31, 31), 77, dtype=np.uint8))
    sample = opened("mavoc", root, "train", common_size=40)[1]
    assert (sample["image"]["eo"] == 77).all()
    found = sample["image"]["sar"][0, 20]
    wanted = 4 * ((np.arange(40) + 0.5) * 55 / 40 - 0.5)  # centres of the coarser pixels on the finer ones
    np.testing.assert_allclose(found[1:-1], wanted[1:-1], atol=0.5)


def test_positions_are_those_of_the_file(tmp_path: Path):
    root = satellite.write_sen12ms(tmp_path, np.random.default_rng(3))
    sample = opened("sen12ms", root, "train")[1]
    with rasterio.open(root / "ROIs1158_spring/s2_4/ROIs1158_spring_s2_4_p2.tif") as source:
        assert sample["crs"] == f"EPSG:{source.crs.to_epsg()}"
        assert sample["transform"].tolist() == list(source.transform)[:6]
        assert sample["bounds"].tolist() == list(source.bounds)


def test_statistics_are_those_of_valid_pixels_and_normalise(tmp_path: Path):
    root = satellite.write_spacenet6(tmp_path, np.random.default_rng(3))
    samples = opened("spacenet6", root, "train", modalities=("sar",))
    found = chip_statistics(samples)
    raw = np.concatenate(
        [samples[i]["image"]["sar"].numpy()[:, samples[i]["valid"]["sar"].numpy()] for i in range(2)], axis=1
    ).astype(np.float64)
    np.testing.assert_allclose(found["sar"].mean, raw.mean(axis=1), rtol=1e-6)
    np.testing.assert_allclose(found["sar"].std, raw.std(axis=1), rtol=1e-6)
    assert found["sar"].count == raw.shape[1] == 2 * EDGE * (EDGE - 3)
    again = opened("spacenet6", root, "train", modalities=("sar",), statistics=found)[0]
    seen = again["image"]["sar"][:, again["valid"]["sar"]]
    assert abs(float(seen.mean())) < 0.2
    assert not again["image"]["sar"][:, ~again["valid"]["sar"]].any()


def test_a_subset_of_modalities_in_another_order(tmp_path: Path):
    root = satellite.write_bright(tmp_path, np.random.default_rng(3))
    assert list(opened("bright", root, "train", modalities=("sar", "eo"))[0]["image"]) == ["sar", "eo"]
    only = opened("bright", root, "train", modalities=("eo",))
    with pytest.raises(BenchmarkError, match="chip 'ukraine-conflict_00000007' of bright: found modalities sar"):
        only[1]
    with pytest.raises(BenchmarkError, match="found modality 'ir'"):
        opened("bright", root, "train", modalities=("ir",))


def test_missing_sensors_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    root = satellite.write_bright(tmp_path, np.random.default_rng(3))
    with caplog.at_level(logging.WARNING):
        public_dataset("bright").chips(root, "train")
    assert [record.getMessage() for record in caplog.records] == [f"{root}: 1 of 2 chips have no 'eo'"]


@given(grid=geoboxes(largest=40), x=st.floats(-3.0, 3.0), y=st.floats(-3.0, 3.0))
def test_only_another_place_is_elsewhere(grid: GeoBox, x: float, y: float):
    """`x` and `y` are shares of the chip's size: half of it takes the middle out."""
    move = type(grid.affine).translation(x * grid.shape[1], y * grid.shape[0])
    assume(abs(abs(x) - 0.5) > 1e-6 and abs(abs(y) - 0.5) > 1e-6)
    moved = GeoBox(grid.shape, grid.affine * move, grid.crs)
    assert is_elsewhere(moved, grid) == (max(abs(x), abs(y)) > 0.5)


def test_headers_that_differ_a_little_do_not_move_pixels_and_another_place_is_refused(tmp_path: Path):
    root = satellite.write_bright(tmp_path, np.random.default_rng(3))
    public = public_dataset("bright")
    chip = public.chips(root, "validation")[0]
    pixels = first_band(chip.files["sar"])
    at = satellite.utm(0, pixel=0.5)
    satellite.write(
        chip.files["sar"], pixels[None], GeoBox(at.shape, at.affine.translation(1.0, -1.3) * at.affine, at.crs)
    )
    np.testing.assert_array_equal(BenchmarkDataset(public, [chip])[0]["image"]["sar"][0].numpy(), pixels)
    satellite.write(chip.files["sar"], pixels[None], satellite.utm(7, pixel=0.5))
    with pytest.raises(BenchmarkError, match="found an image of another place"):
        BenchmarkDataset(public, [chip])[0]


def test_chips_of_one_group_can_be_chosen(tmp_path: Path):
    public = public_dataset("sen1floods11")
    chips = public.chips(satellite.write_sen1floods11(tmp_path, np.random.default_rng(3)), "train")
    ghana: list[Chip] = [chip for chip in chips if chip.group == "Ghana"]
    assert [sample["id"] for sample in BenchmarkDataset(public, ghana)] == ["Ghana_103272"]
    assert replace(ghana[0], group=None).group is None
