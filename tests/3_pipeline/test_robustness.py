"""Robustness: the curves of a trained network against separate meters on batches made apart, and each short cut."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from odc.geo.geobox import GeoBox
from torch.utils.data import DataLoader

from equipoise.datasets.augment import Augmentation
from equipoise.datasets.patch_dataset import PatchDataset
from equipoise.models.information import coalition_information
from equipoise.models.network import FusionUNet, NetworkSpec
from equipoise.models.utilization import permutation_reliance
from equipoise.pipeline.conditions import conditions
from equipoise.pipeline.degraded_patches import DegradedPatches
from equipoise.pipeline.encoded_once import EncodedOnce
from equipoise.pipeline.robustness import _calibration, _over_draws

PATCHES = 6


@pytest.fixture(scope="module")
def figures(trained_run):
    return json.loads((trained_run.root / "metrics.json").read_text())["robustness"]


@pytest.fixture(scope="module")
def data(trained_run):
    return trained_run.run._training_data()


def _patches(data, *, most=PATCHES, seed=0):
    return DegradedPatches(data, most=most, batch_size=6, seed=seed, device=torch.device("cpu"))


def _apart(data, index, *, modality, degradation, seed):
    """Batches of degraded patches by the data set alone, all modalities read again."""
    augment = Augmentation(tuple(data.modalities), geometry="none", degradations={modality: [degradation]})
    dataset = PatchDataset(
        index, data.stacks, normaliser=data.normaliser, class_values=[item.value for item in data.classes],
        classification=False, augment=augment, augment_seed=seed,
    )  # fmt: skip
    return list(DataLoader(dataset, batch_size=6))


@pytest.mark.parametrize("name", ["eo noise sigma=0.15", "sar outage", "ir misregistration metres=50"])
def test_a_point_of_the_curves_is_what_separate_meters_find(name, figures, data, trained_run):
    (family, point) = next(
        (family, item) for family in figures["families"] for item in family["conditions"] if item["name"] == name
    )
    patches = _patches(data)
    condition = next(item for item in conditions(data.modalities, None, pixel_m=10.0)[0] if item.name == name)
    network, config = trained_run.run._predictor().network, trained_run.run.config
    seed, bad = config.seed * 1_000_003, condition.degradation
    batches = _apart(data, patches._index, modality=family["modality"], degradation=bad, seed=seed)
    settings = {"bootstrap": config.evaluate.bootstrap, "seed": config.seed}
    reliance = permutation_reliance(network, batches, rolls=1, **settings)
    information = coalition_information(network, batches, prior=data.class_shares().tolist(), **settings)
    for meter, found in (("reliance", reliance), ("information", information)):
        assert point[meter]["indeterminate"] == found.indeterminate
        if found.share is not None:
            assert point[meter]["share"] == pytest.approx(found.share, abs=1e-5)
            np.testing.assert_allclose(point[meter]["share_interval"], found.share_interval, atol=1e-5)
    with torch.inference_mode():
        hits, total = 0, 0
        for batch in batches:
            answer = network(batch["image"], available=batch["available"], valid=batch["valid"]).argmax(dim=1)
            known = batch["mask"] != 255
            hits += int((answer == batch["mask"])[known].sum())
            total += int(known.sum())
    assert point["accuracy"]["draws"][0] == pytest.approx(hits / total)


def test_the_curves_cover_what_was_asked_for(figures, trained_run):
    assert figures["patches"] == min(PATCHES, figures["of"])
    kinds = {(family["modality"], family["kind"]) for family in figures["families"]}
    assert kinds == {
        ("eo", "noise"), ("eo", "thick_cloud"), ("sar", "speckle"), ("ir", "thermal_noise"),
        *((name, kind) for name in ("eo", "sar", "ir") for kind in ("misregistration", "outage")),
    }  # fmt: skip
    assert not any(family["seen_in_training"] for family in figures["families"])
    assert figures["left_out"] == {}
    names = {item["name"] for family in figures["families"] for item in family["conditions"]}
    calibration = figures["utilization_calibration"]
    assert set(calibration["by_condition"]) == names | {"clear"}
    measured = [value for value in calibration["by_condition"].values() if value is not None]
    assert calibration["error"] == pytest.approx(np.mean(measured))
    assert len(calibration["left_out"]) == len(names) + 1 - len(measured)
    for family in figures["families"]:
        for item in family["conditions"]:
            drawn = item["accuracy"]["draws"]
            assert len(drawn) == (1 if family["kind"] == "outage" else figures["draws"])
            assert item["accuracy"]["mean"] == pytest.approx(np.mean(drawn))
            assert 0 <= item["ece"]["mean"] <= 1
    worst = {family["kind"]: family["conditions"][-1] for family in figures["families"] if family["modality"] == "eo"}
    assert worst["noise"]["accuracy"]["mean"] < figures["clear"]["accuracy"]["mean"]


def test_values_are_degraded_in_physical_units_and_nothing_else_is_touched(data):
    patches = _patches(data)
    noise = next(
        item for item in conditions(data.modalities, None, pixel_m=10.0)[0] if item.name == "eo noise sigma=0.15"
    )
    clear, worse = patches.batches(None), patches.batches(noise)
    again, other = patches.batches(noise), patches.batches(noise, draw=1)
    std = np.asarray(data.normaliser.training["eo"].std)
    for before, after, same, another in zip(clear, worse, again, other, strict=True):
        added = (after["image"]["eo"] - before["image"]["eo"]).numpy()
        valid = before["valid"]["eo"].numpy()
        for band in range(len(std)):
            assert (added[:, band][valid] * std[band]).std() == pytest.approx(0.15, rel=0.03)
        assert after["image"]["sar"] is before["image"]["sar"]
        assert torch.equal(after["image"]["eo"], same["image"]["eo"])
        assert not torch.equal(after["image"]["eo"], another["image"]["eo"])


def test_patches_are_drawn_once_and_by_the_seed(data):
    few = [_patches(data, most=3, seed=seed)._index.table[["row", "col"]].to_numpy().tolist() for seed in (0, 0, 1, 2)]
    assert few[0] == few[1]
    assert len({str(rows) for rows in few}) > 1
    assert all(len(rows) == 3 for rows in few)
    assert len(_patches(data, most=1000)) == _patches(data).of


def test_patches_without_a_position_have_no_pixel_size(data):
    assert _patches(data).pixel_m == pytest.approx(10)
    stacks = {
        name: replace(stack, geobox=GeoBox(stack.geobox.shape, stack.geobox.affine, None))
        for name, stack in data.stacks.items()
    }
    assert _patches(replace(data, stacks=stacks)).pixel_m is None


class Counted(FusionUNet):
    """Says which samples of which modalities were encoded."""

    def _encode_one(self, column, image, usable):
        self.encoded.append((column, int(usable.flatten(1).any(dim=1).sum())))
        return super()._encode_one(column, image, usable)


def test_only_what_changed_is_encoded_again():
    torch.manual_seed(0)
    spec = NetworkSpec(modalities=("eo", "sar"), in_channels=(2, 1), classes=3, task="segmentation", depth=2,
                       encoder="resnet18", decoder_channels=(8, 8))  # fmt: skip
    network = Counted(spec).eval()
    network.encoded = []
    image = {"eo": torch.randn(3, 2, 16, 16), "sar": torch.randn(3, 1, 16, 16)}
    valid = {name: torch.ones(3, 16, 16, dtype=torch.bool) for name in image}
    available = torch.tensor([[True, True], [True, False], [False, True]])
    changed = {**image, "sar": image["sar"] + 1}
    with torch.inference_mode():
        first = EncodedOnce(network)
        before = first.encode(image, valid=valid, available=available)
        assert first.encode(image, valid=valid, available=available.clone()).maps["eo"] is before.maps["eo"]
        assert [count for _, count in network.encoded] == [2, 2, 0, 0]
        network.encoded.clear()
        second = EncodedOnce(network, behind=first, most_bytes=0)
        after = second.encode(changed, valid=valid, available=available)
        assert network.encoded == [(0, 0), (1, 2)]
        assert not second._kept
        whole = network.encode(changed, valid=valid, available=available)
    for name in image:
        for part in ("maps", "shares"):
            for found, wanted in zip(getattr(after, part)[name], getattr(whole, part)[name], strict=True):
                torch.testing.assert_close(found, wanted)


def test_conditions_without_shares_are_left_out_of_the_calibration_and_named():
    def condition(reliance, information):
        return {"reliance": {"share": reliance}, "information": {"share": information}}

    found = _calibration(
        {"clear": condition([0.5, 0.5], [0.75, 0.25]), "lost": condition(None, [1.0, 0.0]),
         "worse": condition([1.0, 0.0], [0.9, 0.1])}
    )  # fmt: skip
    assert found["error"] == pytest.approx((0.25 + 0.1) / 2)
    assert found["left_out"] == ["lost"]


def test_the_mean_and_spread_are_those_of_the_draws_that_are_known():
    assert _over_draws([0.25, 0.75]) == {"mean": 0.5, "spread": pytest.approx(0.5 / 2**0.5), "draws": [0.25, 0.75]}
    assert _over_draws([0.25]) == {"mean": 0.25, "spread": None, "draws": [0.25]}
    assert _over_draws([None])["mean"] is None
