"""Aligned styles: QGIS styles beside what co-registration writes."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from rasterio.io import DatasetReader

from ..datasets.product import quiet_open
from ..datasets.quality import Quality
from .figures import stretch_limits
from .qgis_style import write_picture, write_ramp, write_style
from .raster_kind import RasterKind, raster_kind
from .registration_views import rgb_of
from .scene_options import ClassOptions

#: Largest edge in pixels of what a stretch is chosen by: read from overviews.
LOOK = 512

#: Colours of quality codes, told apart by people with any colour vision (Okabe and Ito 2008).
QUALITY_COLOURS: Mapping[int, tuple[int, int, int]] = {
    Quality.CLEAR: (0, 158, 115),
    Quality.CLOUD: (86, 180, 233),
    Quality.SHADOW: (0, 0, 0),
    Quality.UNUSABLE: (213, 94, 0),
}


def write_aligned_styles(rasters: Iterable[Path], *, classes: Sequence[ClassOptions] = ()) -> list[Path]:
    """Write a style beside rasters of a scene.

    Sensors are shown as pictures, red, green and blue where they have these, registration layers by their confidence,
    quality codes and labels by name.

    Parameters
    ----------
    rasters
        What co-registration wrote; those that are not there are passed over.
    classes
        Classes of the labels.

    Returns
    -------
    The style files.
    """
    found = (_style(path, classes) for path in rasters if path.is_file())
    return [path for path in found if path is not None]


def _style(path: Path, classes: Sequence[ClassOptions]) -> Path | None:
    with quiet_open(path) as source:
        names = [name or "" for name in source.descriptions]
        kind = raster_kind(source.tags(), names, source.dtypes[0])
        if kind is RasterKind.ALIGNED:
            return _picture(path, source, names)
    if kind is RasterKind.REGISTRATION:
        return write_ramp(path)
    if kind is RasterKind.LABELS and classes:
        return write_style(
            path, {item.value: item.name for item in classes}, colours={item.value: item.rgb for item in classes}
        )  # fmt: skip
    if names == ["quality"]:
        return write_style(
            path, {code: Quality(code).name.lower() for code in QUALITY_COLOURS}, colours=QUALITY_COLOURS
        )
    return None


def _picture(path: Path, source: DatasetReader, names: Sequence[str]) -> Path:
    bands = [position + 1 for position in rgb_of(names) or (0,)]
    step = max(1, -(-max(source.shape) // LOOK))
    shape = (len(bands), -(-source.height // step), -(-source.width // step))
    values = source.read(bands, out_shape=shape, masked=True).astype(np.float32).filled(np.nan)
    return write_picture(path, bands=bands, limits=[stretch_limits(layer) for layer in values])
