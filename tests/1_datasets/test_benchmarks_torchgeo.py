"""torchgeo's readers as an oracle for ours, on the same generated files; the adapter to both forms of its samples."""

from pathlib import Path
from typing import Any

import fake_aerial_benchmarks as aerial
import fake_satellite_benchmarks as satellite
import numpy as np
import pytest
import torch

from equipoise.datasets.benchmarks.benchmark_dataset import BenchmarkDataset
from equipoise.datasets.benchmarks.chip_image import open_image
from equipoise.datasets.benchmarks.collection import public_dataset
from equipoise.datasets.benchmarks.errors import BenchmarkError
from equipoise.datasets.benchmarks.isprs import POTSDAM, VAIHINGEN
from equipoise.datasets.benchmarks.public_dataset import PublicDataset
from equipoise.datasets.benchmarks.sensor_bands import numbers
from equipoise.datasets.benchmarks.torchgeo_adapter import TorchgeoSamples, torchgeo_dataset
from equipoise.datasets.modality import Band, Modality, Unit
from equipoise.datasets.opening import open_scene

EDGE = satellite.EDGE


def pair(public: PublicDataset, root: Path, split: str, theirs: Any, channels: dict[str, list[int]], **options):
    """Our samples, and torchgeo's through the adapter."""
    modalities = [modality for modality in public.modalities if modality.name in channels]
    ours = BenchmarkDataset(public, public.chips(root, split), modalities=list(channels))
    return ours, TorchgeoSamples(theirs, modalities=modalities, channels=channels, **options)


def assert_equal(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert list(one["image"]) == list(other["image"])
    for name in one["image"]:
        torch.testing.assert_close(one["image"][name], other["image"][name], rtol=1e-6, atol=1e-6)
        assert torch.equal(one["valid"][name], other["valid"][name])
    assert torch.equal(one["mask"], other["mask"])
    assert torch.equal(one["available"], other["available"])


@pytest.mark.parametrize("split", ["train", "test"])
def test_sen12ms(split: str, tmp_path: Path):
    root = satellite.write_sen12ms(tmp_path, np.random.default_rng(5))
    theirs = torchgeo_dataset("SEN12MS", root=root, split=split)
    channels = {"eo": list(range(2, 15)), "sar": [0, 1]}
    ours, adapted = pair(public_dataset("sen12ms"), root, split, theirs, channels, class_values=range(1, 18))
    assert len(ours) == len(adapted) > 0
    for position in range(len(ours)):
        assert_equal(ours[position], adapted[position])


def test_bright(tmp_path: Path):
    root = satellite.write_bright_contest(tmp_path, np.random.default_rng(5))
    theirs = torchgeo_dataset("BRIGHTDFC2025", root=root, split="val")
    channels = {"eo": [0, 1, 2], "sar": [3]}
    ours, adapted = pair(public_dataset("bright"), root, "validation", theirs, channels, class_values=range(4))
    assert len(ours) == len(adapted) == 1
    assert_equal(ours[0], adapted[0])


# torchgeo 0.8 drops empty footprints in place, which pandas 3.1 announces for removal.
@pytest.mark.filterwarnings("ignore:The inplace keyword")
@pytest.mark.parametrize(("image", "modality"), [("SAR-Intensity", "sar"), ("PS-RGBNIR", "eo")])
def test_spacenet6(image: str, modality: str, tmp_path: Path):
    # torchgeo looks below a folder of the data set's own name.
    root = satellite.write_spacenet6(tmp_path / "SN6_buildings", np.random.default_rng(5))
    theirs = torchgeo_dataset("SpaceNet6", root=tmp_path, split="train", image=image, mask="geojson_buildings")
    channels = {modality: [0, 1, 2, 3]}
    ours, adapted = pair(public_dataset("spacenet6"), root, "train", theirs, channels, class_values=(0, 1))
    assert len(ours) == len(adapted) == 2
    for position in range(2):
        assert_equal(ours[position], adapted[position])


@pytest.mark.parametrize(
    ("name", "public", "write", "channels"),
    [
        ("Vaihingen2D", VAIHINGEN, aerial.write_vaihingen, [0, 1, 2]),
        ("Potsdam2D", POTSDAM, aerial.write_potsdam, [0, 1, 2, 3]),
    ],
)
def test_isprs(name: str, public: PublicDataset, write: Any, channels: list[int], tmp_path: Path):
    root = write(tmp_path, np.random.default_rng(5))
    for split in public.splits:
        theirs = torchgeo_dataset(name, root=root, split=split)
        ours, adapted = pair(public, root, split, theirs, {"eo": channels}, class_values=range(6))
        by_area = {Path(files["image"]).stem: position for position, files in enumerate(theirs.files)}
        assert len(ours) == len(adapted) == len(by_area) > 0
        for position, chip in enumerate(public.chips(root, split)):
            assert_equal(ours[position], adapted[by_area[chip.files["eo"].stem]])


def test_contest_areas_are_those_of_torchgeo(tmp_path: Path):
    from torchgeo.datasets import Potsdam2D, Vaihingen2D

    from equipoise.datasets.benchmarks import isprs

    for split in ("train", "test"):
        areas = {f"top_mosaic_09cm_area{area}.tif" for area in isprs.VAIHINGEN_AREAS[split]}
        assert areas == set(Vaihingen2D.splits[split])
        assert {f"top_potsdam_{area}" for area in isprs.POTSDAM_AREAS[split]} == set(Potsdam2D.splits[split])


class Given:
    """A data set of ready samples, as a version of torchgeo would give them."""

    def __init__(self, sample: dict[str, Any], **attributes: Any) -> None:
        self.sample = sample
        for name, value in attributes.items():
            setattr(self, name, value)

    def __len__(self) -> int:
        return 1

    def __getitem__(self, position: int) -> dict[str, Any]:
        return self.sample


RADAR = Modality(name="sar", bands=(Band(name="VV", unit=Unit.DB), Band(name="VH", unit=Unit.DB)))


def test_both_versions_say_the_same_position():
    image = torch.full((3, 4, 5), -12.0)
    old = Given({"image": image, "crs": "EPSG:32633", "bounds": (slice(100.0, 150.0), slice(60.0, 100.0), slice(0, 1))})
    new = Given({"image": image, "transform": torch.tensor([10.0, 0, 100, 0, -10, 100])}, crs="EPSG:32633")
    samples = [
        TorchgeoSamples(given, modalities=[RADAR], channels={"sar": [2, 0]}, class_values=(0, 1))[0]
        for given in (old, new)
    ]
    for sample in samples:
        assert sample["crs"] == "EPSG:32633"
        assert sample["transform"].tolist() == [10, 0, 100, 0, -10, 100]
        assert sample["bounds"].tolist() == [100, 60, 150, 100]
        torch.testing.assert_close(sample["image"]["sar"], torch.full((2, 4, 5), -12.0))


def test_time_series_are_a_run_of_channels_and_labels_become_positions():
    series = torch.arange(2 * 3 * 2 * 2, dtype=torch.float32).reshape(2, 3, 2, 2) + 1
    given = Given({"image": series, "label": torch.tensor(7), "mask": torch.tensor([[[5, 7], [9, 5]]])})
    after = numbers("after", "last")
    sample = TorchgeoSamples(given, modalities=[after], channels={"after": [5]}, class_values=(5, 7))[0]
    assert torch.equal(sample["image"]["after"][0], series[1, 2])
    assert sample["mask"].tolist() == [[0, 1], [255, 0]]
    assert int(sample["label"]) == 1
    assert "crs" not in sample


@pytest.mark.parametrize(
    ("channels", "entries", "wanted"),
    [
        ({"sar": [0]}, None, "found 1 channels for modality 'sar'; wanted one for each of its 2 bands"),
        ({"sar": [0, 3]}, None, "found 3 channels in torchgeo's 'image'; wanted number 3"),
        ({"sar": [0, 1]}, {"sar": "radar"}, "found image in torchgeo's sample; wanted 'radar'"),
    ],
)
def test_channels_that_are_not_there_are_refused(channels: dict, entries: dict | None, wanted: str):
    given = Given({"image": torch.zeros(3, 2, 2)})
    with pytest.raises(BenchmarkError, match=wanted):
        TorchgeoSamples(given, modalities=[RADAR], channels=channels, class_values=(0,), entries=entries)[0]


def test_unknown_and_absent_data_sets_and_downloads_are_refused(tmp_path: Path):
    with pytest.raises(BenchmarkError, match=r"found no data set 'Nowhere' in torchgeo 0\."):
        torchgeo_dataset("Nowhere")
    with pytest.raises(BenchmarkError, match="SEN12MS: found no files"):
        torchgeo_dataset("SEN12MS", root=tmp_path)
    with pytest.raises(BenchmarkError, match="found `download`"):
        torchgeo_dataset("SEN12MS", root=tmp_path, download=True)


@pytest.mark.parametrize(
    ("name", "write", "split", "modality"),
    [
        ("sen1floods11", satellite.write_sen1floods11, "train", "sar"),
        ("sen1floods11", satellite.write_sen1floods11, "train", "eo"),
        ("spacenet6", satellite.write_spacenet6, "train", "sar"),
        ("ombria", aerial.write_ombria, "train", "sar"),
        ("ombria", aerial.write_ombria, "train", "eo"),
        ("isprs-vaihingen", aerial.write_vaihingen, "train", "dem"),
    ],
)
def test_a_chip_has_the_values_that_the_same_file_has_as_a_scene(name, write, split, modality, tmp_path: Path):
    public = public_dataset(name)
    chip = public.chips(write(tmp_path, np.random.default_rng(5)), split)[0]
    declared = next(item for item in public.modalities if item.name == modality)
    image = open_image(chip.files[modality], declared, georeferenced=public.georeferenced)
    scene = open_scene(chip.files[modality], declared, georeferenced=public.georeferenced)
    assert image.grid == scene.geobox
    np.testing.assert_array_equal(image.read(slice(2, EDGE), slice(1, 9)), scene.read((slice(2, EDGE), slice(1, 9))))
