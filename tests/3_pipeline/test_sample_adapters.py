"""Adapters of samples: round trips that change nothing, torchgeo's own data sets, TerraTorch's keys."""

import numpy as np
import pytest
import rasterio
import torch
from rasterio.transform import from_origin
from torch.utils.data import DataLoader
from torchgeo.datasets import RasterDataset, stack_samples, unbind_samples

from equipoise.pipeline.errors import PipelineError
from equipoise.pipeline.sample_adapters import from_terratorch, from_torchgeo, to_terratorch, to_torchgeo

BANDS = {"eo": 3, "sar": 2}
NAMES = {"eo": "S2L2A", "sar": "S1GRD"}


def _sample(*batch):
    image = {name: torch.rand(*batch, bands, 8, 6) for name, bands in BANDS.items()}
    valid = {name: torch.rand(*batch, 8, 6) > 0.3 for name in BANDS}
    available = torch.ones(*batch, len(BANDS), dtype=torch.bool)
    return {
        "image": image, "valid": valid, "available": available,
        "mask": torch.randint(0, 4, (*batch, 8, 6)), "crs": "EPSG:32633",
    }  # fmt: skip


def _same(found, wanted):
    assert list(found) == list(wanted)
    for key, value in wanted.items():
        if isinstance(value, dict):
            _same(found[key], value)
        else:
            assert torch.equal(found[key], value) if isinstance(value, torch.Tensor) else found[key] == value


@pytest.mark.parametrize("batch", [(), (2,)])
def test_there_and_back_again_by_torchgeo(batch):
    sample = _sample(*batch)
    other = to_torchgeo(sample)
    assert other["image"].shape == (*batch, 5, 8, 6)
    _same(from_torchgeo(other, BANDS), sample)


def test_torchgeo_stacks_and_unbinds_what_it_is_given():
    samples = [to_torchgeo(_sample()) for _ in range(2)]
    batch = stack_samples(samples)
    found = from_torchgeo(batch, BANDS)
    assert found["image"]["sar"].shape == (2, 2, 8, 6)
    for one, wanted in zip(unbind_samples(batch), samples, strict=True):
        assert torch.equal(one["image"], wanted["image"])
        assert torch.equal(from_torchgeo(one, BANDS)["valid"]["eo"], wanted["valid_eo"])


@pytest.fixture
def raster_dataset(tmp_path):
    """A torchgeo data set over one raster of 5 bands; a pixel of band 2 is no number."""
    values = np.arange(5 * 16 * 16, dtype=np.float32).reshape(5, 16, 16)
    values[1, 0, 0] = np.nan
    with rasterio.open(
        tmp_path / "place.tif", "w", driver="GTiff", width=16, height=16, count=5, dtype="float32", crs="EPSG:32633",
        transform=from_origin(500_000, 5_000_000, 10, 10),
    ) as writer:  # fmt: skip
        writer.write(values)

    class Place(RasterDataset):
        filename_glob = "*.tif"

    return Place(tmp_path), values


def test_a_data_set_of_torchgeo(raster_dataset):
    dataset, values = raster_dataset
    given = dataset[dataset.bounds]
    found = from_torchgeo(given, BANDS)
    np.testing.assert_array_equal(found["image"]["sar"], values[3:])
    assert not found["valid"]["eo"][0, 0]
    assert found["valid"]["sar"].all()
    assert found["available"].tolist() == [True, True]
    assert found["crs"] == dataset.crs
    assert "bounds" in found
    again = to_torchgeo(found)
    np.testing.assert_array_equal(again["image"], given["image"])


def test_an_image_a_modality_under_its_own_key():
    sample = {"image": torch.rand(3, 4, 4), "image_sar": torch.rand(2, 4, 4), "label": torch.tensor(1)}
    found = from_torchgeo(sample, {"sar": "image_sar", "eo": "image"})
    assert list(found["image"]) == ["sar", "eo"]
    assert torch.equal(found["image"]["eo"], sample["image"])
    assert set(found) == {"image", "valid", "available", "label"}


@pytest.mark.parametrize("batch", [(), (2,)])
def test_there_and_back_again_by_terratorch(batch):
    # As `GenericMultimodalDataset.__getitem__` of TerraTorch 1.2 gives it, and as its tasks read it.
    given = {
        "image": {"S2L2A": torch.rand(*batch, 3, 8, 6), "S1GRD": torch.rand(*batch, 2, 8, 6)},
        "mask": torch.randint(0, 4, (*batch, 8, 6)), "filename": {"S2L2A": "a.tif", "S1GRD": "b.tif"},
    }  # fmt: skip
    ours = from_terratorch(given, NAMES)
    assert list(ours["image"]) == ["eo", "sar"]
    assert ours["available"].shape == (*batch, 2)
    _same(to_terratorch(ours, NAMES), given)


def test_terratorch_gets_no_key_that_its_tasks_would_hand_to_the_model():
    found = to_terratorch(_sample(2), NAMES)
    assert set(found) == {"image", "mask"}


def test_a_sensor_that_is_missing_is_left_out_for_terratorch():
    sample = _sample()
    sample["available"][1] = False
    assert list(to_terratorch(sample, NAMES)["image"]) == ["S2L2A"]
    back = from_terratorch({"image": {"S1GRD": torch.rand(2, 8, 6)}}, NAMES)
    assert list(back["image"]) == ["sar"]


def test_batches_of_a_loader_go_to_terratorch():
    loader = DataLoader([{key: value for key, value in _sample().items() if key != "crs"} for _ in range(4)], 2)
    for batch in loader:
        assert to_terratorch(batch, NAMES)["image"]["S1GRD"].shape == (2, 2, 8, 6)


def test_what_does_not_fit_is_said():
    with pytest.raises(PipelineError, match="found an image of 5 bands; wanted 4"):
        from_torchgeo({"image": torch.rand(5, 4, 4)}, {"eo": 3, "sar": 1})
    with pytest.raises(PipelineError, match="found no image under 'image_sar'"):
        from_torchgeo({"image": torch.rand(5, 4, 4)}, {"sar": "image_sar"})
    with pytest.raises(PipelineError, match="no images by modality"):
        to_torchgeo({"image": torch.rand(5, 4, 4)})
    with pytest.raises(PipelineError, match="without `concat_bands`"):
        from_terratorch({"image": torch.rand(5, 4, 4)}, NAMES)
    with pytest.raises(PipelineError, match=r"found modalities \['sar'\]"):
        to_terratorch(_sample(), {"eo": "S2L2A"})
