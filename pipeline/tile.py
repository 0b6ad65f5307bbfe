"""Stage tile: cut the aligned stacks into patches, give them to splits, and take the training statistics."""

import logging
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from affine import Affine
from odc.geo.geobox import GeoBox

from ..datasets.block_plan import BlockPlan, plan_blocks
from ..datasets.leakage import PatchWindow, check_scenes
from ..datasets.modality import Modality
from ..datasets.patch_store import write_store
from ..datasets.patches import PatchIndex, footprint
from ..datasets.position_confidence import PositionConfidence
from ..datasets.quality import Quality
from ..datasets.split_scenes import draw_scenes
from ..datasets.splits import SPLITS, Region, origins
from ..datasets.stack import IGNORE, AlignedStack, StackReader, StackWindow
from ..datasets.statistics import BandStatistics
from ..datasets.training_statistics import scene_statistics, training_statistics
from .chip_export import write_chips
from .errors import PipelineError
from .progress import track
from .run_folder import fingerprint
from .scene_options import ClassOptions
from .split_balance import lopsided
from .stage_options import TileOptions
from .unlabelled import UNLABELLED, apart

log = logging.getLogger(__name__)

#: Folders beside the index: patches for training, and for other tools.
STORE, CHIPS = "patches", "chips"


@dataclass(frozen=True, kw_only=True)
class TileResult:
    """What the stage made.

    Attributes
    ----------
    index, path
        The patch index and its file.
    training
        Statistics that inputs are normalised with.
    scenes
        Scene -> its own statistics, where scenes are normalised one by one.
    outputs
        All files that were written and that later stages count on, the index first.
    uneven
        What the splits cannot say of each other's classes, a line each.
    """

    index: PatchIndex
    path: Path
    training: Mapping[str, BandStatistics]
    scenes: Mapping[str, Mapping[str, BandStatistics]] | None
    outputs: tuple[Path, ...]
    uneven: tuple[str, ...] = ()


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
    rows: dict[str, list[dict[str, Any]]] = {}
    bare = _bare(stacks, task, georeferenced=positioned == {True}) if options.unlabelled else []
    layout = chain(
        _layout(labelled, task=task, options=options, rng=np.random.default_rng(seed)),
        ((stack, list(_windows(replace(stack, split="train"), None, task=task, options=options))) for stack in bare),
    )
    for stack, windows in track(layout, "tile", total=len(labelled) + len(bare)):
        rows[stack.name] = list(_patches(stack, windows, classes=classes, task=task, options=options))
    grids = {stack.name: stack.geobox for stack in (*labelled, *bare)}
    groups = {stack.name: stack.group for stack in (*labelled, *bare)}
    kept = apart(rows, grids, groups=groups, buffer=options.buffer) if options.unlabelled else rows
    check_scenes(
        {name: [_window(row) for row in found] for name, found in kept.items()}, grids, buffer=options.buffer
    )  # fmt: skip
    index = PatchIndex.from_rows(
        [row for found in kept.values() for row in found],
        modalities=tuple(item.name for item in modalities),
        georeferenced=positioned == {True},
    )
    _require_every_split(index)
    uneven = tuple(lopsided(index, classes))
    for line in uneven:
        log.warning("%s", line)
    by_name = {stack.name: stack for stack in stacks}
    training = training_statistics(index, by_name, modalities)
    scenes = None
    if options.normalisation == "scene":
        scenes = {stack.name: scene_statistics(stack, modalities) for stack in stacks}
    path = folder / "patches.parquet"
    index.save(path)
    extra = _copies(index, by_name, options=options, folder=folder)
    return TileResult(
        index=index, path=path, training=training, scenes=scenes, outputs=(path, *extra), uneven=uneven
    )  # fmt: skip


def _window(row: Mapping[str, Any]) -> PatchWindow:
    split = "train" if row["split"] == UNLABELLED else row["split"]
    return split, row["row"], row["col"], row["height"], row["width"]


def _require_every_split(index: PatchIndex) -> None:
    by_split = {split: len(index.of_split(split)) for split in SPLITS}
    if empty := [split for split, count in by_split.items() if count == 0]:
        raise PipelineError(
            f"found no patch for {' and '.join(empty)} (patches: {by_split}); wanted some in each split; use a smaller "
            "`tile.patch_size`, `block_size` or `buffer`, or give scenes a `split`"
        )


def _copies(
    index: PatchIndex, stacks: Mapping[str, AlignedStack], *, options: TileOptions, folder: Path
) -> list[Path]:  # fmt: skip
    """Write the patches themselves where that is wanted; remove what an earlier run left where it is not."""
    used = [stacks[name] for name in index.table["scene"].unique()]
    rasters = sorted({path for stack in used for path in (*stack.present.values(), *stack.clouds.values())})
    rasters += [stack.labels for stack in used if stack.labels is not None]
    # Each file below is one that this stage was given: its state stands for its content.
    mark = fingerprint(
        patches=index.table.drop(columns="geometry").to_json(),
        rasters=[(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in rasters],
    )
    written: list[Path] = []
    if options.store == "npy":
        store = write_store(
            folder / STORE, index, stacks, fingerprint=mark,
            watch=lambda positions: track(positions, "store", total=len(positions)),
        )  # fmt: skip
        written += sorted(path for path in store.folder.iterdir() if path.is_file())
    if options.chips:
        written += write_chips(folder / CHIPS, index, stacks, fingerprint=mark)
    for name, is_wanted in ((STORE, options.store != "none"), (CHIPS, options.chips)):
        if not is_wanted:
            shutil.rmtree(folder / name, ignore_errors=True)
    return written


def _has_labels(stack: AlignedStack, task: str) -> bool:
    return stack.label is not None if task == "classification" else stack.labels is not None


def _bare(stacks: Sequence[AlignedStack], task: str, *, georeferenced: bool) -> list[AlignedStack]:
    """Return the scenes without labels that are not only to be mapped, and have a CRS as the labelled ones do."""
    return [
        stack for stack in stacks
        if stack.split in ("auto", "train") and not _has_labels(stack, task)
        and (stack.geobox.crs is not None) == georeferenced
    ]  # fmt: skip


def _layout(
    stacks: Sequence[AlignedStack], *, task: str, options: TileOptions, rng: np.random.Generator
) -> Iterator[tuple[AlignedStack, list[tuple[str, int, int]]]]:
    """Yield every scene with split, first row and first column of its candidate patches."""
    buffer, validation, test = options.buffer, options.validation, options.test
    drawn = draw_scenes(
        stacks, buffer=buffer, validation=validation, test=test, rng=rng, chips=task == "classification"
    )  # fmt: skip
    auto = [stack for stack in drawn if stack.split == "auto"]
    settled = [stack for stack in drawn if stack.split != "auto"]
    plans = plan_blocks(
        auto, settled, block_size=options.block_size, buffer=buffer, validation=validation, test=test, rng=rng
    )  # fmt: skip
    for stack in drawn:
        yield stack, list(_windows(stack, plans.get(stack.name), task=task, options=options))


def _windows(
    stack: AlignedStack, plan: BlockPlan | None, *, task: str, options: TileOptions
) -> Iterator[tuple[str, int, int]]:
    rows, cols = stack.geobox.shape
    size, overlap = options.patch_size, options.overlap
    if task == "classification":
        # A chip is one sample: its middle, padded where it is smaller than a patch.
        yield stack.split, (rows - size) // 2, (cols - size) // 2
    elif plan is not None:
        yield from plan.windows(stack.geobox, size=size, overlap=overlap)
    else:
        region = Region(split=stack.split, top=0, left=0, bottom=rows, right=cols)
        for row, col in origins(region, size=size, overlap=overlap, shape=(rows, cols)):
            yield region.split, row, col


def _patches(
    stack: AlignedStack,
    windows: Sequence[tuple[str, int, int]],
    *,
    classes: Sequence[ClassOptions],
    task: str,
    options: TileOptions,
) -> Iterator[dict[str, Any]]:
    reader, positions, size = StackReader(stack), PositionConfidence.of_stack(stack), options.patch_size
    for split, row, col in windows:
        window = reader.read(row, col, height=size, width=size)
        record = _describe(stack, window, positions, row=row, col=col, classes=classes, task=task)
        usable = max(record[f"valid_{name}"] for name in stack.modalities)
        labelled = sum(record[f"class_{item.value}"] for item in classes)
        if usable < options.min_valid or not _is_clear(record, stack.modalities, options):
            continue
        known = labelled > 0 if task == "classification" else labelled >= options.min_labelled * size**2
        if known and _has_labels(stack, task):
            yield {**record, "split": split}
        elif options.unlabelled and split == "train":
            yield {**record, "split": UNLABELLED}


def _is_clear(record: Mapping[str, Any], modalities: Sequence[str], options: TileOptions) -> bool:
    """Whether no modality is known to be cloudier, or placed less surely, than is allowed; what is not known passes."""
    most, least = options.max_cloud, options.min_registration
    cloudy = any(most is not None and record[f"cloud_{name}"] > most for name in modalities)
    astray = any(least is not None and record[f"registration_{name}"] < least for name in modalities)
    return not cloudy and not astray


def _describe(
    stack: AlignedStack,
    window: StackWindow,
    positions: PositionConfidence,
    *,
    row: int,
    col: int,
    classes: Sequence[ClassOptions],
    task: str,
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
    record |= {f"cloud_{name}": _cloud_share(window, name) for name in stack.modalities}
    record |= {f"registration_{name}": _placed(positions, name, inside) for name in stack.modalities}
    if task == "classification":
        record |= {f"class_{item.value}": int(item.value == stack.label) for item in classes}
    else:
        record |= {f"class_{item.value}": int((labels == item.value).sum()) for item in classes}
    return record


def _placed(positions: PositionConfidence, name: str, patch: GeoBox) -> float:
    """Return the mean confidence of a modality's position over the part of a patch that is on the grid, or NaN."""
    rows, cols = patch.shape
    found = positions.over(name, GeoBox((1, 1), patch.affine * Affine.scale(cols, rows), patch.crs))
    if found is None:
        return float("nan")
    # Float32 has 0.7 below 0.7: a limit of that number must let it pass, as it does for the number of a scene.
    return round(found.item(), 6) if isinstance(found, np.ndarray) else float(found)


def _cloud_share(window: StackWindow, name: str) -> float:
    """Share of cloud and shadow among the pixels that a sensor observed; NaN where that is not known."""
    codes = window.quality.get(name)
    if codes is None:
        return float("nan")
    clouded = np.isin(codes, (Quality.CLOUD, Quality.SHADOW)).sum()
    observed = clouded + (codes == Quality.CLEAR).sum()
    return float(clouded / observed) if observed else float("nan")
