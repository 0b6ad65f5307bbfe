"""Benchmark readers: each generated copy of a published layout gives the common sample, with its files' numbers."""

import warnings
from dataclasses import dataclass, field
from pathlib import Path

import fake_aerial_benchmarks as aerial
import fake_satellite_benchmarks as satellite
import numpy as np
import pytest
import rasterio
from rasterio.errors import NotGeoreferencedWarning
from torch.utils.data import DataLoader, default_collate

from equipoise.datasets.benchmarks.benchmark_dataset import BenchmarkDataset
from equipoise.datasets.benchmarks.collection import PUBLIC_DATASETS, public_dataset
from equipoise.datasets.benchmarks.errors import BenchmarkError
from equipoise.datasets.benchmarks.public_dataset import Task
from equipoise.datasets.errors import LabelError, SceneError

EDGE = satellite.EDGE


@dataclass(frozen=True)
class Published:
    """A generated copy and what must come out of it."""

    name: str
    write: object
    split: str
    ids: list[str]
    groups: list[str | None]
    bands: dict[str, int]
    scale: dict[str, float] = field(default_factory=dict)
    positioned: bool = True


PUBLISHED = [
    Published("sen1floods11", satellite.write_sen1floods11, "train", ["Ghana_103272", "India_900498"],
              ["Ghana", "India"], {"eo": 13, "sar": 2}, {"eo": 1e-4}),
    Published("ombria", aerial.write_ombria, "train", ["0470", "0741"], [None, None],
              {"eo": 3, "sar": 1, "eo_before": 3, "sar_before": 1}, positioned=False),
    Published("sen12ms", satellite.write_sen12ms, "train", ["ROIs1158_spring_1_p30", "ROIs1158_spring_4_p2"],
              ["ROIs1158_spring_1", "ROIs1158_spring_4"], {"eo": 13, "sar": 2}, {"eo": 1e-4}),
    Published("sen12ms-simplified", satellite.write_sen12ms, "test", ["ROIs1868_summer_146_p202"],
              ["ROIs1868_summer_146"], {"eo": 13, "sar": 2}, {"eo": 1e-4}),
    Published("dfc2020", satellite.write_dfc2020, "validation",
              [f"ROIs0000_validation_0_p{number}" for number in (0, 3, 12)], [None] * 3,
              {"eo": 13, "sar": 2}, {"eo": 1e-4}, positioned=False),
    Published("dfc2020", satellite.write_dfc2020, "test", [f"ROIs0000_test_0_p{number}" for number in (0, 3, 12)],
              [None] * 3, {"eo": 13, "sar": 2}, {"eo": 1e-4}, positioned=False),
    Published("bright", satellite.write_bright, "train", ["bata-explosion_00000000", "ukraine-conflict_00000007"],
              ["bata-explosion", "ukraine-conflict"], {"eo": 3, "sar": 1}),
    Published("bright", satellite.write_bright_contest, "validation", ["hawaii_00000001"], ["hawaii"],
              {"eo": 3, "sar": 1}),
    Published("bright", satellite.write_bright_contest, "test", ["libya-flood_00000002"], ["libya-flood"],
              {"eo": 3, "sar": 1}),
    Published("spacenet6", satellite.write_spacenet6, "train",
              [f"20190804111224_20190804111453_tile_{number}" for number in (8681, 8683)],
              ["20190804111224_20190804111453"] * 2, {"sar": 4, "eo": 4}),
    Published("spacenet6", satellite.write_spacenet6, "test", ["20190823_tile_1"], ["20190823"], {"sar": 4, "eo": 4}),
    Published("openearthmap-sar", aerial.write_openearthmap_sar, "train", ["TrainArea_001", "TrainArea_003"],
              [None, None], {"eo": 3, "sar": 1}),
    Published("openearthmap-sar", aerial.write_openearthmap_sar, "validation", ["ValArea_001"], [None],
              {"eo": 3, "sar": 1}),
    Published("whu-opt-sar", aerial.write_whu_opt_sar, "all", ["NH49E001013", "NH49E001014"],
              ["NH49E001013", "NH49E001014"], {"eo": 4, "sar": 1}),
    Published("mcubes", aerial.write_mcubes, "train", ["outscene1208_2_0000000150"], ["outscene1208_2"],
              {"eo": 3, "aolp": 2, "dolp": 1, "ir": 1}, positioned=False),
    Published("mavoc", aerial.write_mavoc, "train", ["box_truck/7", "sedan/1", "sedan/2"], [None] * 3,
              {"eo": 1, "sar": 1}, positioned=False),
    Published("isprs-vaihingen", aerial.write_vaihingen, "train", ["1", "11"], ["1", "11"], {"eo": 3, "dem": 1},
              positioned=False),
    Published("isprs-potsdam", aerial.write_potsdam, "test", ["3_13"], ["3_13"], {"eo": 4, "dem": 1},
              positioned=False),
    Published("sen12-gum", satellite.write_sen12_gum, "train", ["atlanta_0000000000-0000000256"], ["atlanta"],
              {"eo": 10, "sar": 2}),
    Published("sen12-gum", satellite.write_sen12_gum, "validation", ["calgary_0000000000-0000000256"], ["calgary"],
              {"eo": 10, "sar": 2}),
    Published("sen12-gum", satellite.write_sen12_gum, "unlabelled", ["lagos_0000000000-0000000256"], ["lagos"],
              {"eo": 10, "sar": 2}),
    Published("sen12-gum", satellite.write_sen12_gum, "test", ["L15-0331E-1257N_1327_3160_13"], ["South America"],
              {"eo": 10, "sar": 2}),
]  # fmt: skip


def stored(files) -> np.ndarray:
    """The numbers in a chip's files (band, y, x), read without any of our code."""
    paths = [files] if isinstance(files, Path) else list(files.values())
    if paths[0].suffix == ".npy":
        return np.stack([np.load(path) for path in paths])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(paths[0]) as source:
            return source.read().astype(np.float64)


@pytest.mark.parametrize("case", PUBLISHED, ids=lambda case: f"{case.name}-{case.split}-{case.ids[0]}")
def test_the_published_layout_gives_the_common_sample(case: Published, tmp_path: Path):
    root = case.write(tmp_path, np.random.default_rng(7))
    public = public_dataset(case.name)
    chips = public.chips(root, case.split)
    assert [chip.id for chip in chips] == case.ids
    assert [chip.group for chip in chips] == case.groups
    assert {chip.split for chip in chips} == {case.split}
    samples = BenchmarkDataset(public, chips)
    assert len(samples) == len(chips)
    for position, chip in enumerate(chips):
        sample = samples[position]
        assert list(sample["image"]) == list(case.bands)
        for name, count in case.bands.items():
            image, valid = sample["image"][name].numpy(), sample["valid"][name].numpy()
            assert image.dtype == np.float32
            assert image.shape == (count, *valid.shape)
            if name not in chip.files:
                assert not valid.any()
                assert not image.any()
                continue
            raw = stored(chip.files[name]) * case.scale.get(name, 1.0)
            rows, cols = raw.shape[1:]
            np.testing.assert_allclose(image[:, :rows, :cols][:, valid[:rows, :cols]],
                                       raw[:, valid[:rows, :cols]], rtol=2e-5, atol=2e-5)  # fmt: skip
            assert not image[:, ~valid].any()
        assert sample["available"].tolist() == [name in chip.files for name in case.bands]
        assert ("crs" in sample) == case.positioned
        if public.task is Task.SEGMENTATION:
            mask = sample["mask"].numpy()
            assert mask.dtype == np.int64
            assert set(np.unique(mask)) <= {*range(len(public.classes)), 255}
            assert (mask == 255).all() == (chip.labels is None)


@pytest.mark.parametrize("name", [name for name in PUBLIC_DATASETS if name != "mavoc"])
def test_samples_of_a_data_set_make_batches(name: str, tmp_path: Path):
    case = next(case for case in PUBLISHED if case.name == name)
    public = public_dataset(name)
    samples = BenchmarkDataset(public, public.chips(case.write(tmp_path, np.random.default_rng(1)), case.split))
    batch = default_collate([samples[position] for position in range(len(samples))])
    assert batch["mask"].shape == (len(samples), EDGE, EDGE)
    assert batch["available"].shape == (len(samples), len(case.bands))


def test_every_data_set_is_described_and_tested():
    assert {case.name for case in PUBLISHED} == set(PUBLIC_DATASETS)
    for name, public in PUBLIC_DATASETS.items():
        assert public.name == name
        assert all((public.title, public.licence, public.obtain, public.citation))
        assert len(set(public.class_values)) == len(public.classes)
        assert set(public.values_in_files.values()) - {255} <= set(public.class_values)
        named = [modality.name for modality in public.modalities]
        assert len(set(named)) == len(named)


@pytest.mark.parametrize("name", list(PUBLIC_DATASETS))
def test_a_folder_that_is_not_there_says_how_to_get_the_data(name: str, tmp_path: Path):
    public = public_dataset(name)
    for split in public.splits:
        with pytest.raises(BenchmarkError) as caught:
            public.chips(tmp_path / "nowhere", split)
        text = str(caught.value)
        assert "\n" not in text
        assert "found no" in text
        assert public.obtain in text


def test_splits_and_names_are_checked(tmp_path: Path):
    with pytest.raises(BenchmarkError, match="found split 'val'; wanted one of train, test"):
        public_dataset("ombria").chips(tmp_path, "val")
    with pytest.raises(BenchmarkError, match="found data set 'eurosat'"):
        public_dataset("eurosat")


@pytest.mark.parametrize("hostile", ["../../outside", "/etc/passwd", "a/../../b", "..\\up"])
def test_a_list_cannot_lead_out_of_the_folder(hostile: str, tmp_path: Path):
    root = satellite.write_bright(tmp_path, np.random.default_rng(1))
    (root / "train_set.txt").write_text(hostile)
    with pytest.raises(BenchmarkError, match="inside the data set's folder"):
        public_dataset("bright").chips(root, "train")


def test_a_listed_chip_without_labels_or_images_is_an_error(tmp_path: Path):
    root = satellite.write_sen12ms(tmp_path, np.random.default_rng(1))
    (root / "ROIs1158_spring/lc_1/ROIs1158_spring_lc_1_p30.tif").unlink()
    with pytest.raises(BenchmarkError, match=r"found no file ROIs1158_spring/lc_1/ROIs1158_spring_lc_1_p30\.tif"):
        public_dataset("sen12ms").chips(root, "train")
    for kind in ("s1", "s2"):
        (root / f"ROIs1868_summer/{kind}_146/ROIs1868_summer_{kind}_146_p202.tif").unlink()
    with pytest.raises(BenchmarkError, match="found no image of chip 'ROIs1868_summer_146_p202'"):
        public_dataset("sen12ms").chips(root, "test")


def test_other_bands_than_published_are_refused(tmp_path: Path):
    rng = np.random.default_rng(1)
    root = satellite.write_sen12ms(tmp_path, rng)
    public = public_dataset("sen12ms")
    chips = public.chips(root, "test")
    satellite.write(chips[0].files["eo"], satellite.reflectance(rng, bands=12), satellite.utm(10))
    with pytest.raises(SceneError, match="found 12 bands; wanted 13"):
        BenchmarkDataset(public, chips)[0]


def test_values_that_no_class_declares_are_refused(tmp_path: Path):
    rng = np.random.default_rng(1)
    root = aerial.write_whu_opt_sar(tmp_path, rng)
    public = public_dataset("whu-opt-sar")
    chips = public.chips(root, "all")
    satellite.write(
        chips[0].labels, satellite.values(rng, [1, 2, 3]), satellite.utm(0, pixel=5.0)
    )  # others' relabelling
    with pytest.raises(LabelError, match="that no class declares"):
        BenchmarkDataset(public, chips)[0]


@pytest.mark.parametrize("workers", [0, 2])
def test_workers_that_were_forked_after_a_read_give_the_same(workers: int, tmp_path: Path):
    root = satellite.write_sen1floods11(tmp_path, np.random.default_rng(1))
    public = public_dataset("sen1floods11")
    samples = BenchmarkDataset(public, public.chips(root, "train"))
    first = samples[0]["image"]["eo"].numpy()
    context = "fork" if workers else None
    loader = DataLoader(samples, batch_size=1, num_workers=workers, multiprocessing_context=context)
    read = [batch["image"]["eo"][0].numpy() for batch in loader]
    np.testing.assert_array_equal(read[0], first)


@pytest.mark.parametrize("kept", [0, 10, 200, 900])
@pytest.mark.parametrize("which", ["eo", "sar", "labels"])
def test_truncated_files_are_one_clear_error(which: str, kept: int, tmp_path: Path):
    public = public_dataset("sen1floods11")
    chip = public.chips(satellite.write_sen1floods11(tmp_path, np.random.default_rng(1)), "test")[0]
    path = chip.labels if which == "labels" else chip.files[which]
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises((SceneError, LabelError)) as caught:
        BenchmarkDataset(public, [chip])[0]
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("content", ["", "3", "[" * 100_000, '{"samples": 3}', '{"samples": [4]}', '{"samples": [{}]}'])
@pytest.mark.parametrize("split", ["train", "test"])
def test_damaged_metadata_are_one_clear_error(content: str, split: str, tmp_path: Path):
    root = satellite.write_sen12_gum(tmp_path, np.random.default_rng(1))
    (root / {"train": "atlanta", "test": "sn7"}[split] / "samples.json").write_text(content)
    with pytest.raises(BenchmarkError, match="found"):
        public_dataset("sen12-gum").chips(root, split)
