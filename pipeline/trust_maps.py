"""Trust maps on disk: flags and sensor quality of a scene, from its reliance map and aligned rasters, row by row."""

import contextlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.io import DatasetReader

from .. import __version__
from ..datasets.modality import Unit
from ..datasets.normalise import Normaliser
from ..datasets.position_confidence import PositionConfidence
from ..datasets.product import quiet_open
from ..datasets.stack import IGNORE, AlignedStack, StackReader
from .checked_map import CheckedMap, checked_map
from .map_files import category_names
from .run_folder import write_text
from .trust import DEFECTS, FLAG_COLOURS, FLAG_NAMES, TileCounts, count_tiles, defects, judge, quality

#: Edge in pixels of the windows that are read, as near as the tile allows: two internal tiles of the aligned rasters.
WINDOW = 512

#: Quality is stored in steps of this; 255 = nothing observed.
QUALITY_STEP = 0.01

#: Units of bands that clouds hide.
CLOUDED_UNITS = frozenset({Unit.REFLECTANCE, Unit.KELVIN})

#: Name of the band that says how good the input of the prediction was, all sensors weighted by their shares.
OVERALL = "prediction"


@dataclass(frozen=True, kw_only=True)
class TrustFiles:
    """The trust layer of one scene.

    Attributes
    ----------
    flags
        COG of :class:`~equipoise.pipeline.trust.Flag` codes at tile resolution.
    quality
        COG at tile resolution: one band a sensor and one for all of them, 0 to 1.
    sidecar
        Flag names for GDAL (PAM).
    """

    flags: Path
    quality: Path
    sidecar: Path

    @property
    def all(self) -> list[Path]:
        """Every file."""
        return [self.flags, self.quality, self.sidecar]


def trust_names(folder: Path, scene: str) -> TrustFiles:
    """Return where the trust layer of a scene is written."""
    return TrustFiles(
        flags=folder / f"{scene}.trust.tif", quality=folder / f"{scene}.quality.tif",
        sidecar=folder / f"{scene}.trust.tif.aux.xml",
    )  # fmt: skip


def write_trust(
    stack: AlignedStack,
    normaliser: Normaliser,
    *,
    classes: Path,
    reliance: Path,
    tile: int,
    doubt: float,
    model: str,
    folder: Path,
    resume: str,
) -> tuple[TrustFiles, dict[str, Any]]:
    """Write the trust layer of a scene and verify it; one that is finished under the same ``resume`` mark is kept.

    Memory is one row of windows, whatever the scene's height.

    Parameters
    ----------
    stack
        The scene, with the modalities of the model.
    normaliser
        Bands and statistics of the model.
    classes, reliance
        The scene's maps, of all of it or of a part.
    tile
        Edge of a pixel of the reliance map, scene px.
    doubt
        A tile is flagged where this share of its prediction rests on input that was not good.
    model
        Hash of the model's files.
    folder, resume
        Where to write; fingerprint of the stage.

    Returns
    -------
    The files, and the summary: ``doubt``; ``mapped_px``; ``shares``: flag name -> share of the mapped pixels, whole
    tiles being flagged, empty where nothing was mapped; ``sensors``: flag name -> sensor -> its part of that share;
    ``quality``: sensor -> mean; ``unknown``: what could not be judged, in words.

    Raises
    ------
    PipelineError
        If a written file does not hold what was written.
    SceneError
        If an aligned raster or a registration layer cannot be read.
    """
    files, mark = trust_names(folder, stack.name), folder / f".{stack.name}.trust.json"
    if mark.is_file() and all(path.is_file() for path in files.all):
        known = json.loads(mark.read_text(encoding="utf-8"))
        if known["resume"] == resume:
            summary: dict[str, Any] = known["summary"]
            return files, summary
    mark.unlink(missing_ok=True)
    names = tuple(item.name for item in normaliser.modalities)
    tally, positions = _Tally(names, doubt=doubt), PositionConfidence.of_stack(stack)
    tags = {"equipoise": __version__, "scene": stack.name, "model": model, "tile_px": str(tile), "doubt": f"{doubt}"}
    with contextlib.ExitStack() as opened:
        source = opened.enter_context(quiet_open(reliance))
        mapped = opened.enter_context(quiet_open(classes))
        grid = GeoBox(source.shape, source.transform, stack.geobox.crs)
        tags["approximate"] = source.tags().get("approximate", "")
        flag_map, quality_map = _writers(opened, files, grid, names=names, tags=tags)
        for top, counts in _counted_rows(stack, mapped, normaliser, tile=tile):
            bottom = top + counts.observed.shape[0]
            shares = source.read(window=((top, bottom), (0, source.width)))
            found = defects(counts, confidence=[positions.over(name, grid[top:bottom, :]) for name in names])
            flags, sensors = judge(shares, found, counts.observed, doubt=doubt)
            flag_map.write(flags[None])
            quality_map.write(_stored(shares, quality(found), counts.observed))
            tally.add(flags, sensors, counts.observed, quality(found))
    write_text(files.sidecar, category_names({int(flag): name for flag, name in FLAG_NAMES.items()}))
    summary = tally.summary(unknown=_unknown(stack, normaliser))
    write_text(mark, json.dumps({"resume": resume, "summary": summary}))
    return files, summary


def _writers(
    opened: contextlib.ExitStack, files: TrustFiles, grid: GeoBox, *, names: tuple[str, ...], tags: Mapping[str, str]
) -> tuple[CheckedMap, CheckedMap]:
    flags = opened.enter_context(
        checked_map(
            files.flags, grid, dtype="uint8", nodata=IGNORE, overview_resampling="mode", descriptions=("trust",),
            colours=FLAG_COLOURS, tags={**tags, **{f"class_{int(flag)}": name for flag, name in FLAG_NAMES.items()}},
        )
    )  # fmt: skip
    qualities = opened.enter_context(
        checked_map(
            files.quality, grid, dtype="uint8", nodata=IGNORE, overview_resampling="average",
            descriptions=(*names, OVERALL), tags=tags, scale=QUALITY_STEP,
        )
    )  # fmt: skip
    return flags, qualities


def _counted_rows(
    stack: AlignedStack, classes: DatasetReader, normaliser: Normaliser, *, tile: int
) -> Iterator[tuple[int, TileCounts]]:
    """Yield rows of tiles with the row that they begin at, from windows that fit the rasters' internal tiles."""
    reader = StackReader(replace(stack, labels=None))
    edge = tile * max(1, WINDOW // tile)
    tile_rows, tile_cols = -(-classes.height // tile), -(-classes.width // tile)
    left, top = (round(place) for place in ~stack.geobox.affine * (classes.transform.c, classes.transform.f))
    for row in range(0, classes.height, edge):
        parts = []
        for col in range(0, classes.width, edge):
            mapped = np.zeros((edge, edge), dtype=bool)
            height, width = min(edge, classes.height - row), min(edge, classes.width - col)
            mapped[:height, :width] = classes.read(1, window=((row, row + height), (col, col + width))) != IGNORE
            window = reader.read(top + row, left + col, height=edge, width=edge)
            parts.append(count_tiles(window, mapped, normaliser, scene=stack.name, tile=tile))
        height = min(edge // tile, tile_rows - row // tile)
        joined = {
            name: np.concatenate([getattr(part, name) for part in parts], axis=-1)[..., :height, :tile_cols]
            for name in ("observed", "clouded", "missing", "out_of_range")
        }
        yield row // tile, TileCounts(**joined)


def _stored(shares: NDArray[np.float32], good: NDArray[np.float32], observed: NDArray[np.int32]) -> NDArray[np.uint8]:
    """Return the bands of the quality map: each sensor, and all of them weighted by their shares."""
    known = np.isfinite(shares).all(axis=0)
    overall = np.where(known, (np.where(known, shares, 0) * good).sum(axis=0), np.nan)
    layers = np.concatenate([good, overall[None]])
    seen = (observed > 0) & np.isfinite(layers)
    return np.where(seen, np.round(np.where(seen, layers, 0) / QUALITY_STEP), IGNORE).astype(np.uint8)


class _Tally:
    """Sums over tiles: what is written, and how much of the mapped area it stands for."""

    def __init__(self, names: tuple[str, ...], *, doubt: float) -> None:
        self.names = names
        self.doubt = doubt
        self._pixels = np.zeros((256, len(names) + 1), dtype=np.int64)  # the last column: no sensor to blame
        self._quality = np.zeros(len(names))

    def add(
        self,
        flags: NDArray[np.uint8],
        sensors: NDArray[np.int64],
        observed: NDArray[np.int32],
        good: NDArray[np.float32],
    ) -> None:
        np.add.at(self._pixels, (flags.ravel(), sensors.ravel()), observed.ravel())
        self._quality += (good * observed).sum(axis=(1, 2), dtype=np.float64)

    def summary(self, *, unknown: list[str]) -> dict[str, Any]:
        mapped = int(self._pixels.sum())
        record: dict[str, Any] = {
            "doubt": self.doubt, "mapped_px": mapped, "shares": {}, "sensors": {}, "quality": {}, "unknown": unknown,
        }  # fmt: skip
        if not mapped:
            return record
        record["shares"] = {
            name: float(self._pixels[flag].sum() / mapped) for flag, name in FLAG_NAMES.items()
        }  # fmt: skip
        record["quality"] = {
            name: float(value / mapped) for name, value in zip(self.names, self._quality, strict=True)
        }  # fmt: skip
        for flag in DEFECTS:
            blamed = zip(self.names, self._pixels[flag], strict=False)
            by_sensor = {name: float(pixels / mapped) for name, pixels in blamed if pixels}
            if by_sensor:
                record["sensors"][FLAG_NAMES[flag]] = by_sensor
        return record


def _unknown(stack: AlignedStack, normaliser: Normaliser) -> list[str]:
    """Say what the products do not tell, so that silence is not taken for good news."""
    present = [item for item in normaliser.modalities if item.name in stack.present]
    sees_clouds = [item.name for item in present if any(band.unit in CLOUDED_UNITS for band in item.bands)]
    unclouded = [name for name in sees_clouds if name not in stack.clouds]
    unplaced = [item.name for item in present if not {item.name} & {*stack.confidence, *stack.registration}]
    words = [f"clouds in {', '.join(unclouded)} (no cloud layer)"] if unclouded else []
    return words + ([f"the position of {', '.join(unplaced)} (not measured)"] if unplaced else [])
