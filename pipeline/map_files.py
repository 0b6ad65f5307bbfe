"""Map files: bands of predictions become verified COGs with palette, class names, nodata and tags."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from .. import __version__
from ..datasets.stack import IGNORE, AlignedStack
from .checked_map import CheckedMap, checked_map
from .run_folder import write_text
from .scene_options import ClassOptions

#: Probabilities of all classes are stored in steps of this.
PROBABILITY_STEP = 0.004


@dataclass(frozen=True, kw_only=True)
class Band:
    """Finished rows of a map.

    Attributes
    ----------
    classes
        uint8 (rows, x): class values, 255 = nothing was observed.
    confidence
        float32 (rows, x): probability of the class, NaN = nothing was observed.
    reliance
        float32 (modality, tile rows, tile columns): shares, NaN = indeterminate or nothing observed.
    probability
        uint8 (class, rows, x): probability of each class in steps of :data:`PROBABILITY_STEP`, 255 = nothing observed;
        None where it was not asked for.
    contribution
        float32 (modality + 1, tile rows, tile columns): means of the signed contributions and of the synergy, NaN =
        nothing observed; None where it was not asked for.
    """

    classes: NDArray[np.uint8]
    confidence: NDArray[np.float32]
    reliance: NDArray[np.float32]
    probability: NDArray[np.uint8] | None = None
    contribution: NDArray[np.float32] | None = None


@dataclass(frozen=True, kw_only=True)
class MapFiles:
    """The maps of one scene.

    Attributes
    ----------
    classes, confidence
        COGs on the scene's grid.
    reliance
        COG with one band a modality at tile resolution, or None where it was not asked for.
    sidecar
        Class names for GDAL (PAM).
    probability
        COG with one band a class on the scene's grid, or None where it was not asked for.
    contribution
        COG with one band a modality and one of their synergy at tile resolution, or None where it was not asked for.
    """

    classes: Path
    confidence: Path
    reliance: Path | None
    sidecar: Path
    probability: Path | None = None
    contribution: Path | None = None

    @property
    def all(self) -> list[Path]:
        """Every file."""
        files = (self.classes, self.confidence, self.reliance, self.contribution, self.probability, self.sidecar)
        return [path for path in files if path is not None]


def map_names(
    folder: Path, scene: str, *, with_reliance: bool, with_probability: bool = False, with_contribution: bool = False
) -> MapFiles:
    """Return where the maps of a scene are written."""
    return MapFiles(
        classes=folder / f"{scene}.classes.tif",
        confidence=folder / f"{scene}.confidence.tif",
        reliance=folder / f"{scene}.reliance.tif" if with_reliance else None,
        probability=folder / f"{scene}.probability.tif" if with_probability else None,
        contribution=folder / f"{scene}.contribution.tif" if with_contribution else None,
        sidecar=folder / f"{scene}.classes.tif.aux.xml",
    )


class MapWriter:
    """Rows of all maps of a scene on their way to the files; made by :func:`written_maps`."""

    def __init__(self, maps: Mapping[str, CheckedMap]) -> None:
        self._maps = maps

    def write(self, band: Band) -> None:
        """Write the next rows."""
        for name, writer in self._maps.items():
            values = getattr(band, name)
            if values.shape[-2]:
                writer.write(values[None] if values.ndim == 2 else values)


@contextlib.contextmanager
def written_maps(
    stack: AlignedStack,
    *,
    reliance_grid: GeoBox,
    modalities: Sequence[str],
    classes: Sequence[ClassOptions],
    tags: Mapping[str, str],
    files: MapFiles,
) -> Iterator[MapWriter]:
    """Write the maps of a scene; on a clean exit they are complete and verified, on an error there are none.

    Raises
    ------
    PipelineError
        If a written file does not hold what was written.
    """
    common = {"equipoise": __version__, "scene": stack.name, "model": tags["model"]}
    with contextlib.ExitStack() as opened:
        class_map = opened.enter_context(
            checked_map(
                files.classes, stack.geobox, dtype="uint8", nodata=IGNORE, overview_resampling="mode",
                descriptions=("class",), colours={item.value: item.rgb for item in classes},
                tags={**common, **{f"class_{item.value}": item.name for item in classes}},
            )
        )  # fmt: skip
        confidence = opened.enter_context(
            checked_map(
                files.confidence, stack.geobox, dtype="float32", nodata=float("nan"), overview_resampling="average",
                descriptions=("confidence",), tags=common,
            )
        )  # fmt: skip
        more = _further_maps(
            opened, files, stack.geobox, reliance_grid, modalities=modalities, classes=classes, common=common, tags=tags
        )
        yield MapWriter({"classes": class_map, "confidence": confidence, **more})
    write_text(files.sidecar, category_names({item.value: item.name for item in classes}))


def _further_maps(
    opened: contextlib.ExitStack,
    files: MapFiles,
    grid: GeoBox,
    reliance_grid: GeoBox,
    *,
    modalities: Sequence[str],
    classes: Sequence[ClassOptions],
    common: Mapping[str, str],
    tags: Mapping[str, str],
) -> dict[str, CheckedMap]:
    """Open the maps that were asked for; each is named as the field of :class:`Band` that it takes."""
    more = {}
    by_tile = {"reliance": (files.reliance, modalities), "contribution": (files.contribution, (*modalities, "synergy"))}
    for name, (path, descriptions) in by_tile.items():
        if path is not None:
            more[name] = opened.enter_context(
                checked_map(
                    path, reliance_grid, dtype="float32", nodata=float("nan"), overview_resampling="average",
                    descriptions=descriptions,
                    tags={**common, **tags} | ({"metric": "shapley_value"} if name == "contribution" else {}),
                )
            )  # fmt: skip
    if files.probability is not None:
        more["probability"] = opened.enter_context(
            checked_map(
                files.probability, grid, dtype="uint8", nodata=IGNORE, overview_resampling="average",
                descriptions=[item.name for item in classes], tags=common, scale=PROBABILITY_STEP,
            )
        )  # fmt: skip
    return more


def quantised(probability: NDArray[np.float32], seen: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Return probabilities (class, rows, x) in steps of :data:`PROBABILITY_STEP`, uint8; 255 where not ``seen``."""
    steps = np.round(np.where(seen, probability, 0) / PROBABILITY_STEP)
    return np.where(seen, steps, IGNORE).astype(np.uint8)


def category_names(names: Mapping[int, str]) -> str:
    """Return GDAL's sidecar (PAM) that names the values of a map of one band; values between have no name."""
    rows = "".join(f"      <Category>{escape(names.get(value, ''))}</Category>\n" for value in range(max(names) + 1))
    return (
        "<PAMDataset>\n  <PAMRasterBand band=\"1\">\n    <CategoryNames>\n"
        f"{rows}    </CategoryNames>\n  </PAMRasterBand>\n</PAMDataset>\n"
    )  # fmt: skip
