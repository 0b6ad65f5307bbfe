"""Scene tables: modalities whose file is a CSV, opened once the grid and the day that is mapped are known."""

import logging
from collections.abc import Mapping

import numpy as np
from odc.geo.geobox import GeoBox

from ..datasets.errors import SceneError
from ..datasets.normalise import Normaliser
from ..datasets.scene import Scene
from ..datasets.value_table import read_series, read_values, table_scene
from .scene_options import ModalityOptions
from .scenes import SceneFiles

log = logging.getLogger(__name__)


def images_of(files: SceneFiles, modalities: Mapping[str, ModalityOptions]) -> list[str]:
    """Return the modalities of a scene that are images."""
    return [name for name in files.files if modalities[name].table is None]


def with_tables(
    files: SceneFiles,
    images: Mapping[str, Scene],
    grid: GeoBox,
    modalities: Mapping[str, ModalityOptions],
    *,
    reference: str,
) -> dict[str, Scene]:
    """Return a scene's images and tables, in the order of its files.

    Parameters
    ----------
    files
        Of the scene.
    images
        Those that are opened; the reference's time is that of the map.
    grid
        Grid of the stack: tables are put on it.
    modalities, reference
        As the configuration has them.

    Raises
    ------
    SceneError
        If a table cannot be used, or reads days before a time that is not known.
    """
    tables = [name for name in files.files if modalities[name].table is not None]
    known = files.acquired.get(reference)
    mapped = images[reference].acquired if reference in images and images[reference].acquired else known
    opened = dict(images)
    for name in tables:
        opened[name] = _opened(files, name, modalities[name], grid, mapped=mapped, reference=reference)
    return {name: opened[name] for name in files.files if name in opened}


def say_alike(normaliser: Normaliser, modalities: Mapping[str, ModalityOptions]) -> None:
    """Say which tables tell the same of all training scenes: there is nothing to learn of them."""
    for name, statistics in normaliser.training.items():
        if modalities[name].table is None or statistics.percentiles is None or statistics.resolution is None:
            continue
        low, high = (np.array([band[place] for band in statistics.percentiles]) for place in (0, -1))
        if (high - low <= np.array(statistics.resolution)).all():
            log.warning(
                "'%s' holds the same values for all training scenes: the network cannot learn what others mean; add "
                "scenes that differ in them, or do not trust it there", name,
            )  # fmt: skip


def _opened(
    files: SceneFiles, name: str, options: ModalityOptions, grid: GeoBox, *, mapped: str | None, reference: str
) -> Scene:
    source, table = files.files[name], options.table
    if source.path is None or source.quality is not None or table is None:
        raise SceneError(
            f"scene '{files.name}': found several files of '{name}', which is a table; wanted one CSV; name it alone"
        )
    if table.days is None:
        values = read_values(source.path, options.columns, scene=files.identifier)
    elif mapped is None:
        raise SceneError(
            f"scene '{files.name}': found no time of '{reference}', before which '{name}' reads {table.days} days; "
            f"wanted one; declare `acquired: {{{reference}: 2024-07-12}}` of the scene"
        )
    else:
        values = read_series(
            source.path, options.columns, scene=files.identifier, until=mapped, days=table.days, every=table.every
        )
    modality = options.modality(name, offset=files.offset.get(name))
    return table_scene(source.path, modality, grid, values=values, acquired=files.acquired.get(name) or mapped)
