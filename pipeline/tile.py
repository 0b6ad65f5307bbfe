"""Stage tile: cut the aligned stacks into patches, give them to splits, and take the training statistics."""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..datasets.modality import Modality
from ..datasets.patches import PatchIndex, footprint
from ..datasets.splits import SPLITS, Region, check_leakage, check_overlap, origins, split_blocks
from ..datasets.stack import IGNORE, AlignedStack, StackReader, StackWindow
from ..datasets.statistics import BandStatistics, RunningStatistics
from .config import ClassOptions, TileOptions
from .errors import PipelineError
from .progress import track

log = logging.getLogger(__name__)

#: Edge of the windows over which a whole scene's statistics are streamed, px.
STATISTICS_WINDOW = 512


@dataclass(frozen=True, kw_only=True)
class TileResult:
    """The patch index, its file, and the statistics that inputs are normalised with."""

    index: PatchIndex
    path: Path
    training: Mapping[str, BandStatistics]
    scenes: Mapping[str, Mapping[str, BandStatistics]] | None


def tile(
    stacks: Sequence[AlignedStack],
    modalities: Sequence[Modality],
    *,
    classes: Sequence[ClassOptions],
    task: str,
    options: TileOptions,
    seed: int,
    folder: Path,
) -> TileResult:
    """Make the patch index of all labelled scenes and the statistics of the training split.

    Raises
    ------
    PipelineError
        If no scene is labelled, or the training split is empty.
    SplitError
        If splits leak or a scene is too small to be split.
    DatasetError
        If no patch passes the filters.
    """
    labelled = [stack for stack in stacks if stack.split != "predict" and _has_labels(stack, task)]
    if not labelled:
        raise PipelineError("found no labelled scene; wanted `labels` or `label_table` for at least one; add them")
    positioned = {stack.geobox.crs is not None for stack in labelled}
    if len(positioned) > 1:
        raise PipelineError(
            "found scenes with a CRS and scenes without one; wanted one kind in a run, since its patches share one "
            "index; make two configurations"
        )
    rng = np.random.default_rng(seed)
    rows: list[dict[str, Any]] = []
    for stack in track(_with_splits(labelled, task=task, options=options, rng=rng), "tile", total=len(labelled)):
        found = list(_patches(stack, classes=classes, task=task, options=options, rng=rng))
        check_leakage(
            [(row["split"], row["row"], row["col"], row["height"], row["width"]) for row in found],
            buffer=options.buffer,
        )
        rows.extend(found)
    index = PatchIndex.from_rows(
        rows,
        modalities=tuple(item.name for item in modalities),
        georeferenced=positioned == {True},
    )
    if positioned == {True}:
        check_overlap(index.table)
    by_split = {split: len(index.of_split(split)) for split in SPLITS}
    if empty := [split for split, count in by_split.items() if count == 0]:
        raise PipelineError(
            f"found no patch for {' and '.join(empty)} (patches: {by_split}); wanted some in each split; use a smaller "
            "`tile.patch_size`, `block_size` or `buffer`, or give scenes a `split`"
        )
    by_name = {stack.name: stack for stack in stacks}
    training = _training_statistics(index, by_name, modalities)
    scenes = None
    if options.normalisation == "scene":
        scenes = {stack.name: scene_statistics(stack, modalities) for stack in stacks}
    path = folder / "patches.parquet"
    index.save(path)
    return TileResult(index=index, path=path, training=training, scenes=scenes)


def scene_statistics(stack: AlignedStack, modalities: Sequence[Modality]) -> dict[str, BandStatistics]:
    """Return the statistics of one scene's present modalities, over all its valid pixels, in network units."""
    reader, rows, cols = StackReader(stack), *stack.geobox.shape
    running = {item.name: RunningStatistics(bands=len(item.bands)) for item in modalities if item.name in stack.present}
    edge = STATISTICS_WINDOW
    for row in range(0, rows, edge):
        for col in range(0, cols, edge):
            size = {"height": min(edge, rows - row), "width": min(edge, cols - col)}
            _update(running, reader.read(row, col, **size), modalities)
    return {name: item.result() for name, item in running.items()}


def _has_labels(stack: AlignedStack, task: str) -> bool:
    return stack.label is not None if task == "classification" else stack.labels is not None


def _patches(
    stack: AlignedStack, *, classes: Sequence[ClassOptions], task: str, options: TileOptions, rng: np.random.Generator
) -> Iterator[dict[str, Any]]:
    reader, size = StackReader(stack), options.patch_size
    for split, row, col in _windows(stack, task=task, options=options, rng=rng):
        window = reader.read(row, col, height=size, width=size)
        record = _describe(stack, window, row=row, col=col, classes=classes, task=task)
        usable = max(record[f"valid_{name}"] for name in stack.modalities)
        labelled = sum(record[f"class_{item.value}"] for item in classes)
        if usable >= options.min_valid and (task == "classification" or labelled >= options.min_labelled * size**2):
            yield {**record, "split": split}


def _windows(
    stack: AlignedStack, *, task: str, options: TileOptions, rng: np.random.Generator
) -> Iterator[tuple[str, int, int]]:
    """Yield split, first row and first column of every candidate patch."""
    rows, cols = stack.geobox.shape
    if task == "classification":
        # A chip is one sample: its middle, padded where it is smaller than a patch.
        yield stack.split, (rows - options.patch_size) // 2, (cols - options.patch_size) // 2
        return
    regions: Iterable[Region] = [Region(split=stack.split, top=0, left=0, bottom=rows, right=cols)]
    if stack.split == "auto":
        regions = split_blocks(
            (rows, cols),
            block_size=options.block_size,
            buffer=options.buffer,
            validation=options.validation,
            test=options.test,
            rng=rng,
        ).regions()
    for region in regions:
        for row, col in origins(region, size=options.patch_size, overlap=options.overlap, shape=(rows, cols)):
            yield region.split, row, col


def _with_splits(
    stacks: Sequence[AlignedStack], *, task: str, options: TileOptions, rng: np.random.Generator
) -> list[AlignedStack]:
    """Draw the splits of the scenes that go to one split as a whole."""
    drawn = {stack.name: stack.split for stack in stacks}
    three = [s.name for s in stacks if s.split == "by_scene" or (s.split == "auto" and task == "classification")]
    two = [s.name for s in stacks if s.split == "development"]
    for names, test in ((three, options.test), (two, 0.0)):
        order = rng.permutation(names).tolist()
        held = [round(test * len(names)), round(options.validation * len(names))]
        held = [
            max(1, count) if share > 0 else 0 for count, share in zip(held, (test, options.validation), strict=True)
        ]
        for position, name in enumerate(order):
            drawn[name] = "test" if position < held[0] else "validation" if position < sum(held) else "train"
    return [replace(stack, split=drawn[stack.name]) for stack in stacks]


def _describe(
    stack: AlignedStack, window: StackWindow, *, row: int, col: int, classes: Sequence[ClassOptions], task: str
) -> dict[str, Any]:
    height, width = next(iter(window.valid.values())).shape
    rows, cols = stack.geobox.shape
    inside = stack.geobox[max(row, 0) : min(row + height, rows), max(col, 0) : min(col + width, cols)]
    labels = np.full((height, width), IGNORE, np.uint8) if window.labels is None else window.labels
    record: dict[str, Any] = {
        "scene": stack.name, "row": row, "col": col, "height": height, "width": width,
        "label": IGNORE if stack.label is None else stack.label, "geometry": footprint(inside),
    }  # fmt: skip
    record |= {f"valid_{name}": float(window.valid[name].mean()) for name in stack.modalities}
    if task == "classification":
        record |= {f"class_{item.value}": int(item.value == stack.label) for item in classes}
    else:
        record |= {f"class_{item.value}": int((labels == item.value).sum()) for item in classes}
    return record


def _training_statistics(
    index: PatchIndex, stacks: Mapping[str, AlignedStack], modalities: Sequence[Modality]
) -> dict[str, BandStatistics]:
    running = {item.name: RunningStatistics(bands=len(item.bands)) for item in modalities}
    table = index.of_split("train").table
    readers = {name: StackReader(stacks[name]) for name in table["scene"].unique()}
    for item in table.itertuples():
        window = readers[item.scene].read(item.row, item.col, height=item.height, width=item.width)
        _update(running, window, modalities)
    return {name: item.result() for name, item in running.items()}


def _update(running: Mapping[str, RunningStatistics], window: StackWindow, modalities: Sequence[Modality]) -> None:
    for modality in modalities:
        if modality.name in window.image:
            values = modality.to_network(window.image[modality.name])
            running[modality.name].update(values, window.valid[modality.name])
