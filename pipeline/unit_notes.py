"""Unit notes: what in a configuration is allowed, and yet looks like a slip in what its numbers are declared to be."""

from collections.abc import Iterator, Mapping

import numpy as np

from ..datasets.modality import Unit
from ..datasets.opening import family_of
from ..datasets.scene import Scene
from .config import Config
from .init_units import looks_of, middle_of
from .scenes import SceneFiles

#: Median of calibrated backscatter that no natural scene has, linear power (20 dB).
_MOST_POWER = 100.0


def unit_notes(files: SceneFiles, opened: Mapping[str, Scene], config: Config) -> Iterator[tuple[str, str]]:
    """Yield modality and note where values do not look like what they are declared to be, though they might be.

    Parameters
    ----------
    files
        Of one scene.
    opened
        Modality -> its file, opened as declared; the middle of plain rasters is read.
    config
        Declares the units.
    """
    for name, scene in opened.items():
        options = config.modalities[name]
        if scene.uniform or family_of(files.files[name].inputs[0])[0] != "raster":
            continue
        if options.unit is Unit.DIGITAL_NUMBER and options.scale is None:
            note = _undeclared(scene, name)
        else:
            note = _too_bright(scene) if options.unit is Unit.LINEAR_POWER else None
        if note is not None:
            yield name, note


def _undeclared(scene: Scene, name: str) -> str | None:
    looks = looks_of(scene, name)
    if looks.unit is None:
        return None
    scale = "" if looks.scale is None else f" and `scale: {looks.scale:g}`"
    return (
        f"is declared as digital_number; {looks.range} may be {looks.unit}: if so, set "
        f"`modalities.{name}.unit: {looks.unit}`{scale}"
    )


def _too_bright(scene: Scene) -> str | None:
    values = middle_of(scene)
    middle = float(np.nanmedian(values)) if np.isfinite(values).any() else 0.0
    if middle <= _MOST_POWER:
        return None
    return (
        f"is declared as linear_power; its median of {middle:.4g} is no calibrated backscatter, which is mostly below "
        "1: declare a scale or digital_number, or see whether the files of two sensors were exchanged"
    )
