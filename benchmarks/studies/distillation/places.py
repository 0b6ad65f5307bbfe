"""Places: the oracle scene and the flood chips as training places with few labels, many images, and a test apart."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from utilization import networks as oracle

from equipoise.models.losses import IGNORE, SegmentationLoss
from equipoise.models.spec import NetworkSpec
from oracle.loader import oracle_loader
from oracle.scene import OracleScene
from real_utilization import training as real
from real_utilization.cut import regular, turned
from real_utilization.drawing import RandomPatches
from real_utilization.imagery import Imagery

Batch = Mapping[str, Any]

#: Whose labels a batch holds: ``few``: patches of labelled places alone; ``all``: of every training place; ``beside``:
#: half of them as in ``few``, half of every training place without a label.
Labels = Literal["few", "all", "beside"]

SHARE = 0.1
#: Patches of the oracle scene that there are to learn from, and batches of 128 others to choose epochs and to test by.
POOL, VALIDATION, TEST = 640, 6, 12
#: Test patches of the oracle scene that are resampled together.
TOGETHER = 16
_SEEDS = {"pool": 50_000, "validation": 10_000, "test": 881}


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where distillation is measured.

    Attributes
    ----------
    name, title, modalities, spec, loss
        Of the table, and of the networks.
    batch
        Patches a step.
    train
        Labels, seed, steps an epoch -> batches, others each time they are iterated.
    validation
        Seed -> batches that epochs are chosen by.
    test
        Batches that choose nothing, each with the unit of its samples.
    units
        What is resampled.
    """

    name: str
    title: str
    modalities: tuple[str, ...]
    spec: NetworkSpec
    loss: nn.Module
    batch: int
    train: Callable[[Labels, int, int], Iterable[Batch]]
    validation: Callable[[int], Iterable[Batch]]
    test: Callable[[], Iterable[tuple[Batch, NDArray[np.int64]]]]
    units: int


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """Batches of an epoch.

    Attributes
    ----------
    draw
        Batch number since the beginning -> batch.
    count
        Batches an epoch.
    """

    draw: Callable[[], Batch]
    count: int

    def __iter__(self) -> Iterator[Batch]:
        return (self.draw() for _ in range(self.count))

    def __len__(self) -> int:
        return self.count


def oracle_place() -> Place:
    """Return the oracle scene with a pool of patches, a tenth of them labelled; other pools for other seeds."""
    scene = OracleScene(task="segmentation", cells=8, cell_px=2)
    size = 32

    def train(labels: Labels, seed: int, count: int) -> Iterable[Batch]:
        pool = _joined(oracle_loader(scene, "clear", count=POOL // size, batch_size=size, seed=_SEEDS["pool"] + seed))
        rng = np.random.default_rng((seed, 5))
        few, every = np.arange(round(SHARE * POOL)), np.arange(POOL)

        def draw() -> Batch:
            if labels != "beside":
                chosen = rng.choice(few if labels == "few" else every, size=size, replace=False)
                return _taken(pool, torch.from_numpy(chosen))
            halves = [rng.choice(places, size=size // 2, replace=False) for places in (few, every)]
            return _hidden(_taken(pool, torch.from_numpy(np.concatenate(halves))), keep=size // 2)

        return Drawn(draw=draw, count=count)

    def test() -> Iterator[tuple[Batch, NDArray[np.int64]]]:
        for number, batch in enumerate(oracle_loader(scene, "clear", count=TEST, batch_size=128, seed=_SEEDS["test"])):
            yield batch, (number * 128 + np.arange(128)) // TOGETHER

    return Place(
        name="oracle", title=f"Oracle scene, {POOL} training patches, {round(SHARE * POOL)} of them labelled",
        modalities=scene.modalities, spec=oracle.spec_of(scene), loss=oracle.CellLoss(), batch=size, train=train,
        validation=lambda seed: oracle_loader(
            scene, "clear", count=VALIDATION, batch_size=128, seed=_SEEDS["validation"] + seed
        ),
        test=test, units=TEST * 128 // TOGETHER,
    )  # fmt: skip


def flood_place(imagery: Imagery) -> Place:
    """Return the flood chips, a tenth of the training chips labelled; others for other seeds."""
    size, task = 16, "segmentation"
    division = imagery.division

    def train(labels: Labels, seed: int, count: int) -> Iterable[Batch]:
        few = _tenth(imagery, seed)
        options: Any = {"conditions": [real.CLEAR], "count": 1}
        if labels != "beside":
            chosen = few if labels == "few" else imagery
            drawn = RandomPatches(chosen, task, batch=size, seed=seed, **options)
            return Drawn(draw=lambda: next(iter(drawn)), count=count)
        halves = [RandomPatches(few, task, batch=size // 2, seed=seed, **options)]
        halves.append(RandomPatches(imagery, task, batch=size // 2, seed=seed + 9000, **options))
        return Drawn(
            draw=lambda: _hidden(_joined([next(iter(half)) for half in halves]), keep=size // 2), count=count
        )  # fmt: skip

    def test() -> Iterator[tuple[Batch, NDArray[np.int64]]]:
        cut = regular(imagery, division.test, task, seed=881)
        units = np.searchsorted(np.asarray(division.test), cut.chip)
        ends = np.cumsum([len(batch["mask"]) for batch in cut.batches])
        yield from zip(cut.batches, np.split(units, ends[:-1]), strict=True)

    count = len(division.train)
    return Place(
        name="floods",
        title=f"Flood chips, {count} for training, {max(2, round(SHARE * count))} of them labelled",
        modalities=real.MODALITIES, spec=real.spec_of(task), loss=SegmentationLoss(dice_weight=0), batch=size,
        train=train, test=test, units=len(division.test),
        validation=lambda _: turned(imagery, division.validation, task, turns=3, seed=real.VALIDATION_SEED).batches,
    )  # fmt: skip


def _tenth(imagery: Imagery, seed: int) -> Imagery:
    rng = np.random.default_rng((seed, 77))
    train = imagery.division.train
    chosen = sorted(rng.choice(train, size=max(2, round(SHARE * len(train))), replace=False).tolist())
    return replace(imagery, division=replace(imagery.division, train=chosen))


def _joined(batches: Iterable[Batch]) -> dict[str, Any]:
    """Put batches behind each other."""
    found = list(batches)
    return {
        key: _joined(item[key] for item in found) if isinstance(value, Mapping)
        else torch.cat([item[key] for item in found])
        for key, value in found[0].items() if isinstance(value, Mapping | Tensor)
    }  # fmt: skip


def _taken(batch: Batch, rows: Tensor) -> dict[str, Any]:
    return {
        key: _taken(value, rows) if isinstance(value, Mapping) else value[rows] for key, value in batch.items()
    }  # fmt: skip


def _hidden(batch: dict[str, Any], *, keep: int) -> dict[str, Any]:
    """Take the labels away of all samples but the first."""
    mask = batch["mask"].clone()
    mask[keep:] = IGNORE
    return {**batch, "mask": mask}
