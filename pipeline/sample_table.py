"""The table of the real samples: how each opens through the product, read from its pixels."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..datasets.errors import SceneError
from ..datasets.modality import Unit
from ..datasets.quality import Quality
from ..datasets.sample_scenes import SampleScene, sample_scenes
from ..datasets.samples import SAMPLES, fetch
from ..datasets.scene import Scene, check_scene
from .progress import track

_HEAD = (
    "sample", "modality", "bands", "unit", "scenes", "pixels", "pixel size", "CRS", "acquired", "valid",
    "cloud, shadow", "median of each band",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Opened:
    """What one scene was found to be."""

    scene: Scene
    valid: float
    clouded: float | None
    median: NDArray[np.float32]


def sample_table(names: Sequence[str]) -> str:
    """Open every scene of the samples and return a Markdown table, one row a sample and modality.

    Values are read from the pixels and given in the unit that the network sees (dB for radar). Scenes without one valid
    pixel are counted apart.

    Raises
    ------
    SampleError, SceneError
        If a sample is incomplete, or opens otherwise than declared.
    """
    rows = []
    for name in names:
        groups: dict[str, list[SampleScene]] = {}
        for item in sample_scenes(name, fetch(name)):
            groups.setdefault(item.modality.name, []).append(item)
        for modality, items in track(groups.items(), name, total=len(groups)):
            rows.append(_row(SAMPLES[name].title.split(":")[0], modality, items))
    lines = [_HEAD, ("---",) * len(_HEAD), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _row(title: str, modality: str, items: Sequence[SampleScene]) -> tuple[str, ...]:
    found = [opened for opened in (_open(item) for item in items) if opened is not None]
    empty = len(items) - len(found)
    scenes, bands = [opened.scene for opened in found], found[0].scene.modality.bands
    median = np.nanmedian(np.stack([opened.median for opened in found]), axis=0)
    clouded = [opened.clouded for opened in found if opened.clouded is not None]
    digits = 3 if bands[0].network_unit == "reflectance" else 0 if bands[0].unit == "digital_number" else 1
    return (
        title,
        modality,
        ", ".join(dict.fromkeys(band.name.split("@")[0] for band in bands)),
        ", ".join(dict.fromkeys(_unit_name(band.network_unit) for band in bands)),
        f"{len(found)}" + (f" (and {empty} without a valid pixel)" if empty else ""),
        ", ".join(_distinct(f"{scene.geobox.shape.x} x {scene.geobox.shape.y}" for scene in scenes)),
        ", ".join(_distinct(_pixel(scene) for scene in scenes)),
        ", ".join(_distinct("none" if scene.geobox.crs is None else _epsg(scene) for scene in scenes)),
        _period([scene.acquired for scene in scenes]),
        f"{100 * np.mean([opened.valid for opened in found]):.1f} %",
        f"{100 * np.mean(clouded):.1f} %" if clouded else "not told",
        ", ".join(f"{value:.{digits}f}" for value in median),
    )


def _open(item: SampleScene) -> Opened | None:
    scene = item.open()
    try:
        check_scene(scene)
    except SceneError as error:
        if "no valid pixel" in str(error):
            return None
        raise
    values, codes = scene.read(), scene.read_quality()
    seen = scene.modality.to_network(values)
    clouded = np.isin(codes, (Quality.CLOUD, Quality.SHADOW))
    return Opened(
        scene=scene,
        valid=float(np.isfinite(values).all(axis=0).mean()),
        clouded=None if scene.quality is None else float(clouded.mean()),
        median=np.nanmedian(seen, axis=(1, 2)),
    )


def _distinct(texts: Iterable[str]) -> list[str]:
    return sorted(set(texts))


def _unit_name(unit: Unit) -> str:
    return "dB" if unit is Unit.DB else unit.replace("_", " ")


def _epsg(scene: Scene) -> str:
    code = None if scene.geobox.crs is None else scene.geobox.crs.to_epsg()
    return "own" if code is None else f"EPSG:{code}"


def _pixel(scene: Scene) -> str:
    crs, size = scene.geobox.crs, abs(scene.geobox.affine.a)
    if crs is None:
        return "not told"
    return f"{size:g} m" if crs.projected else f"{size:.3g} degrees"


def _period(times: Sequence[str | None]) -> str:
    days = sorted({time[:10] for time in times if time is not None})
    if not days:
        return "not told"
    return days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"
