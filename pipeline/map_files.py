"""Map files: bands of predictions become verified COGs with palette, class names, nodata and tags."""

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from .. import __version__
from ..datasets.product import quiet_open
from ..datasets.raster import cog_writer
from ..datasets.stack import IGNORE, AlignedStack
from .errors import PipelineError
from .mosaic import WindowGrid
from .run_folder import write_text
from .scene_options import ClassOptions


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
    """

    classes: NDArray[np.uint8]
    confidence: NDArray[np.float32]
    reliance: NDArray[np.float32]


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
    """

    classes: Path
    confidence: Path
    reliance: Path | None
    sidecar: Path

    @property
    def all(self) -> list[Path]:
        """Every file."""
        return [path for path in (self.classes, self.confidence, self.reliance, self.sidecar) if path is not None]


def map_names(folder: Path, scene: str, *, with_reliance: bool) -> MapFiles:
    """Return where the maps of a scene are written."""
    return MapFiles(
        classes=folder / f"{scene}.classes.tif",
        confidence=folder / f"{scene}.confidence.tif",
        reliance=folder / f"{scene}.reliance.tif" if with_reliance else None,
        sidecar=folder / f"{scene}.classes.tif.aux.xml",
    )


def write_maps(
    stack: AlignedStack,
    bands: Iterable[Band],
    *,
    grid: WindowGrid,
    reliance_grid: GeoBox,
    modalities: Sequence[str],
    classes: Sequence[ClassOptions],
    tags: Mapping[str, str],
    files: MapFiles,
) -> MapFiles:
    """Write the maps of a scene from its bands, in order, and verify them.

    Raises
    ------
    PipelineError
        If a written file does not reopen with the grid it was given.
    """
    common = {"equipoise": __version__, "scene": stack.name, "model": tags["model"]}
    names = {f"class_{item.value}": item.name for item in classes}
    with contextlib.ExitStack() as opened:
        class_map = opened.enter_context(
            cog_writer(
                files.classes, stack.geobox, count=1, dtype="uint8", nodata=IGNORE, overview_resampling="mode",
                descriptions=("class",), tags={**common, **names}, colours={item.value: item.rgb for item in classes},
            )
        )  # fmt: skip
        confidence = opened.enter_context(
            cog_writer(
                files.confidence, stack.geobox, count=1, dtype="float32", nodata=float("nan"),
                overview_resampling="average", descriptions=("confidence",), tags=common,
            )
        )  # fmt: skip
        reliance = None
        if files.reliance is not None:
            reliance = opened.enter_context(
                cog_writer(
                    files.reliance, reliance_grid, count=len(modalities), dtype="float32", nodata=float("nan"),
                    overview_resampling="average", descriptions=modalities, tags={**common, **tags},
                )
            )  # fmt: skip
        tile_row = 0
        for row, band in enumerate(bands):
            top, last = grid.finished_rows(row)
            class_map.write(band.classes, 1, window=((top, last), (0, grid.cols)))
            confidence.write(band.confidence, 1, window=((top, last), (0, grid.cols)))
            if reliance is not None:
                height, width = band.reliance.shape[1:]
                reliance.write(band.reliance, window=((tile_row, tile_row + height), (0, width)))
                tile_row += height
    write_text(files.sidecar, category_names({item.value: item.name for item in classes}))
    verify_map(files.classes, stack.geobox)
    verify_map(files.confidence, stack.geobox)
    if files.reliance is not None:
        verify_map(files.reliance, reliance_grid, descriptions=modalities)
    return files


def verify_map(
    path: Path,
    grid: GeoBox,
    *,
    descriptions: Sequence[str] | None = None,
    histogram: NDArray[np.int64] | None = None,
) -> None:
    """Reopen a written map and compare it with what was written.

    Parameters
    ----------
    path, grid
        The map, and the grid that it was given.
    descriptions
        Names of its bands.
    histogram
        int64 (256,): how often each value of a map of one uint8 band was written.

    Raises
    ------
    PipelineError
        If they differ.
    """
    with quiet_open(path) as source:
        found = GeoBox(source.shape, source.transform, source.crs)
        names = source.descriptions
    if found.shape != grid.shape or not found.affine.almost_equals(grid.affine, 1e-6):
        raise PipelineError(f"{path}: found grid {found}; wanted {grid}; the map was not written right, run again")
    if (found.crs is None) != (grid.crs is None) or (found.crs is not None and found.crs != grid.crs):
        raise PipelineError(f"{path}: found CRS {found.crs}; wanted {grid.crs}; it was not written right, run again")
    if histogram is not None:
        _compare(path, histogram)
    if descriptions is not None and tuple(names) != tuple(descriptions):
        raise PipelineError(f"{path}: found bands {names}; wanted {tuple(descriptions)}; run again")


def _compare(path: Path, histogram: NDArray[np.int64]) -> None:
    found = np.zeros(256, dtype=np.int64)
    with quiet_open(path) as source:
        for _, window in source.block_windows(1):
            found += np.bincount(source.read(1, window=window).ravel(), minlength=256)
    if (differ := np.flatnonzero(found != histogram)).size:
        value = int(differ[0])
        raise PipelineError(
            f"{path}: found {found[value]} pixels of value {value}; wanted {histogram[value]}, which were written; "
            "check the disk and run again"
        )


def category_names(names: Mapping[int, str]) -> str:
    """Return GDAL's sidecar (PAM) that names the values of a map of one band; values between have no name."""
    rows = "".join(f"      <Category>{escape(names.get(value, ''))}</Category>\n" for value in range(max(names) + 1))
    return (
        "<PAMDataset>\n  <PAMRasterBand band=\"1\">\n    <CategoryNames>\n"
        f"{rows}    </CategoryNames>\n  </PAMRasterBand>\n</PAMDataset>\n"
    )  # fmt: skip
