"""Loaders: equal seeds give equal batches, every patch once an epoch, the same with and without worker processes."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from strategies import InventedStack, north_up, write_tiff
from torch.utils.data import DataLoader

from equipoise.datasets.augment import Augmentation
from equipoise.datasets.datamodule import PatchDataModule
from equipoise.datasets.degrade import Speckle
from equipoise.datasets.degrade_sensor import Outage
from equipoise.datasets.errors import DatasetError
from equipoise.datasets.modality import Band, Modality, Unit
from equipoise.datasets.normalise import Normaliser
from equipoise.datasets.patch_dataset import PatchDataset
from equipoise.datasets.patch_store import write_store
from equipoise.datasets.patches import PatchIndex, footprint
from equipoise.datasets.stack import AlignedStack
from equipoise.datasets.statistics import BandStatistics

GRID = north_up(64, 64)
SIZE = 8
MODALITIES = tuple(
    Modality(name=name, bands=tuple(Band(name=f"{name}{n}", unit=Unit.DIGITAL_NUMBER) for n in range(count)))
    for name, count in (("eo", 3), ("sar", 2))
)


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    rng = np.random.default_rng(0)
    image = {item.name: rng.normal(size=(len(item.bands), 64, 64)).astype(np.float32) for item in MODALITIES}
    labels = rng.integers(0, 3, (64, 64)).astype(np.uint8)
    invented = InventedStack(geobox=GRID, modalities=("eo", "sar"), image=image, labels=labels)
    return invented.write(tmp_path_factory.mktemp("stack"))


def index_of(stack, places, *, train=None):
    train = len(places) if train is None else train
    rows = [
        {
            "scene": stack.name, "row": row, "col": col, "height": SIZE, "width": SIZE, "label": number % 3,
            "split": "train" if number < train else "validation", "valid_eo": 1.0, "valid_sar": 1.0,
            "geometry": footprint(GRID[:SIZE, :SIZE]),
        }
        for number, (row, col) in enumerate(places)
    ]  # fmt: skip
    return PatchIndex.from_rows(rows, modalities=("eo", "sar"), georeferenced=True)


def normaliser():
    statistics = {
        item.name: BandStatistics(mean=(0.0,) * len(item.bands), std=(1.0,) * len(item.bands), count=1)
        for item in MODALITIES
    }
    return Normaliser(modalities=MODALITIES, training=statistics)


def module_of(stack, *, train=16, validation=3, classification=False, **options):
    places = [(row, col) for row in range(0, 64, SIZE) for col in range(0, 64, SIZE)]
    settings = {"batch_size": 4, "workers": 0, "augment": Augmentation(MODALITIES), "seed": 0} | options
    return PatchDataModule(
        index_of(stack, places[: train + validation], train=train), {stack.name: stack}, normaliser=normaliser(),
        class_values=(0, 1, 2), classification=classification, **settings,
    )  # fmt: skip


def test_a_batch_says_which_degradation_each_patch_met(stack):
    augment = Augmentation(MODALITIES, degradations={"sar": [Outage(probability=0.5)]})
    for batch in batches(module_of(stack, augment=augment)):
        assert (batch["condition"].dtype, batch["condition"].shape) == (torch.int64, (4,))
        assert torch.equal(batch["condition"] == 1, ~batch["available"][:, 1])
    assert not any(batch["condition"].any() for batch in module_of(stack, augment=augment).loader("validation"))


def batches(module, split="train", *, epoch=0):
    return list(module.loader(split, epoch=epoch))


def flat(batch):
    """Every tensor of a batch under one name."""
    nested = {f"{kind} {name}": value for kind in ("image", "valid") for name, value in batch[kind].items()}
    return nested | {name: value for name, value in batch.items() if isinstance(value, torch.Tensor)}


def equal(first, second):
    return len(first) == len(second) and all(map(equal_batches, map(flat, first), map(flat, second)))


def equal_batches(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def fingerprints(found):
    """What identifies a patch whichever way it is turned: the sum of its sorted values."""
    return sorted(round(patch.double().sum().item(), 6) for batch in found for patch in batch["image"]["eo"])


def test_a_batch_has_the_shapes_that_the_network_expects(stack):
    batch = batches(module_of(stack))[0]
    assert batch["image"]["eo"].shape == (4, 3, SIZE, SIZE)
    assert batch["image"]["sar"].shape == (4, 2, SIZE, SIZE)
    assert batch["valid"]["eo"].shape == batch["mask"].shape == (4, SIZE, SIZE)
    assert batch["available"].shape == (4, 2)
    assert [flat(batch)[name].dtype for name in ("image eo", "valid eo", "available", "mask")] == [
        torch.float32, torch.bool, torch.bool, torch.int64,
    ]  # fmt: skip


def test_equal_seeds_give_equal_batches(stack):
    assert equal(batches(module_of(stack, seed=3), epoch=5), batches(module_of(stack, seed=3), epoch=5))


def test_batches_do_not_depend_on_global_randomness(stack):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        first = batches(module_of(stack))
        torch.manual_seed(2)
        assert equal(first, batches(module_of(stack)))


def test_a_later_epoch_is_the_same_whether_or_not_the_earlier_ones_were_drawn(stack):
    module = module_of(stack)
    for epoch in range(3):
        batches(module, epoch=epoch)
    assert equal(batches(module, epoch=3), batches(module_of(stack), epoch=3))


@pytest.mark.parametrize("other", [{"seed": 1}, {"epoch": 1}])
def test_another_seed_or_epoch_gives_another_order(stack, other):
    plain = {"augment": None}
    changed = batches(module_of(stack, **plain, seed=other.get("seed", 0)), epoch=other.get("epoch", 0))
    assert not equal(batches(module_of(stack, **plain)), changed)
    assert fingerprints(changed) == fingerprints(batches(module_of(stack, **plain)))


def test_augmentation_changes_the_geometry_and_not_the_order(stack):
    turned, plain = batches(module_of(stack)), batches(module_of(stack, augment=None))
    assert not equal(turned, plain)
    for one, other in zip(turned, plain, strict=True):
        np.testing.assert_allclose(
            one["image"]["eo"].sum(dim=(1, 2, 3)), other["image"]["eo"].sum(dim=(1, 2, 3)), rtol=1e-4
        )


def test_an_epoch_sees_every_patch_once(stack):
    found = batches(module_of(stack, train=17, batch_size=5))
    assert [len(batch["mask"]) for batch in found] == [5, 5, 5, 2]
    assert len(set(fingerprints(found))) == 17


def test_a_last_batch_of_one_is_left_out_of_training_only(stack):
    module = module_of(stack, train=17, validation=5)
    assert [len(batch["mask"]) for batch in batches(module)] == [4, 4, 4, 4]
    assert [len(batch["mask"]) for batch in batches(module, "validation", epoch=None)] == [4, 1]
    assert [len(batch["mask"]) for batch in batches(module_of(stack, train=1))] == [1]


def test_validation_is_always_in_the_same_drawn_order_and_not_augmented(stack):
    module = module_of(stack, train=2, validation=9, seed=8)
    (first, *_), again = (
        module.val_dataloader(),
        batches(module_of(stack, train=2, validation=9), "validation", epoch=None),
    )
    assert torch.equal(first["image"]["eo"], again[0]["image"]["eo"])
    loader = module.loader("validation")
    order = list(loader.sampler)
    assert sorted(order) == list(range(9)) != order
    torch.testing.assert_close(first["image"]["eo"][1], loader.dataset[order[1]]["image"]["eo"])


def test_without_a_trainer_training_starts_at_epoch_zero(stack):
    module = module_of(stack)
    assert equal(list(module.train_dataloader()), batches(module, epoch=0))


def test_classification_batches_hold_labels(stack):
    batch = batches(module_of(stack, classification=True))[0]
    assert batch["label"].shape == (4,)
    assert batch["label"].dtype == torch.int64


def test_an_empty_split_is_refused(stack):
    with pytest.raises(DatasetError, match=r"found no test patch.*`split`"):
        module_of(stack).loader("test")


def test_a_worker_process_gives_the_same_batches(stack):
    """Also after the parent has read: the worker opens the files for itself."""
    alone = module_of(stack, train=6, seed=2)
    expected = batches(alone)
    assert equal(batches(module_of(stack, train=6, seed=2, workers=1)), expected)


@pytest.fixture(scope="module")
def blocked(tmp_path_factory):
    """A scene in many compressed blocks: only those that were read are in the parent's cache when it forks."""
    folder = tmp_path_factory.mktemp("blocked")
    rng, grid = np.random.default_rng(0), north_up(512, 512)
    options = {"tiled": True, "blockxsize": 32, "blockysize": 32, "compress": "deflate"}
    present = {
        item.name: write_tiff(
            folder / f"{item.name}.tif", rng.normal(size=(len(item.bands), 512, 512)).astype(np.float32), grid,
            nodata=np.nan, **options,
        )
        for item in MODALITIES
    }  # fmt: skip
    return AlignedStack(name="blocked", geobox=grid, modalities=("eo", "sar"), present=present)


@pytest.mark.parametrize("stored", [False, True])
# Forking a process with threads is what later Pythons warn of, and what this test is about.
@pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning")
# Two workers are needed to get in each other's way, also on a machine of one core.
@pytest.mark.filterwarnings("ignore:.*will create 2 worker processes.*:UserWarning")
def test_files_that_the_parent_has_open_do_no_harm_to_forked_workers(blocked, tmp_path, stored):
    """A handle shared over a fork shares its position in the file: workers then read each other's bytes."""
    rng = np.random.default_rng(1)
    index = index_of(blocked, [tuple(place) for place in rng.integers(0, 480, (200, 2)).tolist()])
    store = write_store(tmp_path / "store", index, {"blocked": blocked}, fingerprint="1") if stored else None
    dataset = PatchDataset(
        index, {"blocked": blocked}, normaliser=normaliser(), class_values=(0,), classification=False, store=store
    )
    dataset[0]
    forked = DataLoader(dataset, batch_size=None, num_workers=2, multiprocessing_context="fork")
    found = [flat(sample) for sample in forked]
    assert all(equal_batches(sample, flat(dataset[position])) for position, sample in enumerate(found))


def test_a_store_gives_the_same_batches(stack, tmp_path):
    plain = module_of(stack, seed=3)
    store = write_store(tmp_path / "store", plain.index, {stack.name: stack}, fingerprint="1")
    stored = module_of(stack, seed=3, store=store)
    assert equal(batches(stored, epoch=2), batches(plain, epoch=2))
    assert equal(batches(stored, "validation", epoch=None), batches(plain, "validation", epoch=None))


def test_degradations_come_before_normalisation_and_keep_to_seed_epoch_and_position(stack):
    """Speckle of one look on the radar alone: other values each epoch, the same whenever the epoch is drawn again."""
    sar = tuple(replace(band, unit=Unit.LINEAR_POWER) for band in MODALITIES[1].bands)
    declared = (MODALITIES[0], replace(MODALITIES[1], bands=sar))
    speckled = Augmentation(declared, geometry="none", degradations={"sar": [Speckle(looks=1.0)]})
    first, again, plain = (batches(module_of(stack, augment=item)) for item in (speckled, speckled, None))
    assert equal(first, again)
    for one, other in zip(first, plain, strict=True):
        assert torch.equal(one["image"]["eo"], other["image"]["eo"])
        assert not torch.equal(one["image"]["sar"], other["image"]["sar"])


def test_a_loader_that_is_iterated_again_gives_the_same_batches(stack):
    """A resumed trainer iterates twice."""
    loader = module_of(stack).loader("train", epoch=2)
    assert equal(list(loader), list(loader))
