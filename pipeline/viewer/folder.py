"""Folder: which scenes a folder holds, and which files of theirs can be shown."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ...datasets.errors import SceneError
from ...datasets.stack import AlignedStack
from ..errors import PipelineError
from .rasters import FORMATS, confined

#: Maps that are shown, in the order in which they are offered; a map's file is ``<scene>.<map>.tif``.
MAPS = ("classes", "confidence", "reliance", "trust", "quality")


@dataclass(frozen=True, kw_only=True)
class SceneFiles:
    """Files of one scene.

    Attributes
    ----------
    name
        What it is called.
    images
        Sensor, or whatever else an image is called -> its raster.
    maps
        One of :data:`MAPS` -> its raster.
    labels
        Label raster, if there is one.
    registration
        Sensor -> its registration layer.
    """

    name: str
    images: Mapping[str, Path] = field(default_factory=dict)
    maps: Mapping[str, Path] = field(default_factory=dict)
    labels: Path | None = None
    registration: Mapping[str, Path] = field(default_factory=dict)

    @property
    def first(self) -> Path | None:
        """A raster of the scene at full size, if there is any; the others lie on its grid."""
        return next(iter([*self.images.values(), *self.maps.values()]), None)


def scenes_of(root: Path) -> list[SceneFiles]:
    """Find what can be shown in a run, in a batch run, or in any folder of GeoTIFFs.

    Raises
    ------
    PipelineError
        If there is nothing, or if files of a scene lie out of the folder.
    """
    if not root.is_dir():
        raise PipelineError(f"{root}: found no folder; wanted that of a run, of a batch run, or one of GeoTIFFs")
    for finder in (_run, _batch, _loose):
        if found := [scene for scene in finder(root) if scene.first is not None]:
            return found
    raise PipelineError(
        f"{root}: found no aligned scene and no GeoTIFF; wanted the folder of a run with stage coregister done, of a "
        "batch run, or one of GeoTIFFs"
    )


def _run(root: Path) -> Iterator[SceneFiles]:
    """Find the scenes of a run, those with maps first."""
    found = []
    for path in sorted((root / "aligned").glob("*/stack.json")):
        try:
            stack = AlignedStack.load(path)
        except (SceneError, OSError, json.JSONDecodeError) as error:
            raise PipelineError(
                f"{path}: found no stack that can be read ({error}); run `equipoise coregister`"
            ) from error
        files = [*stack.present.values(), *stack.registration.values(), *([stack.labels] if stack.labels else [])]
        for file in files:
            confined(file, root)
        found.append(
            SceneFiles(
                name=stack.name, images=dict(stack.present), labels=stack.labels, registration=dict(stack.registration),
                maps=_maps(root / "predictions", stack.name),
            )
        )  # fmt: skip
    yield from sorted(found, key=lambda scene: not scene.maps)


def _batch(root: Path) -> Iterator[SceneFiles]:
    """Find the mosaics of a batch run, or its units where there are none."""
    if not (root / "units").is_dir():
        return
    regions = root / "regions"
    names = sorted({path.name.rsplit(".", 2)[0] for path in regions.glob("*.*.*") if _is_raster(path)})
    for name in names:
        yield SceneFiles(name=name, maps=_maps(regions, name))
    if not names:
        for folder in sorted((root / "units").iterdir()):
            yield SceneFiles(name=folder.name, maps=_maps(folder, folder.name))


def _loose(root: Path) -> Iterator[SceneFiles]:
    """Find maps by scene, and each other GeoTIFF for itself: nothing says that they lie on one grid."""
    rasters = sorted(path for path in root.iterdir() if _is_raster(path) and path.suffix != ".vrt")
    parted = {path: path.stem.rsplit(".", 1) for path in rasters}
    scenes = sorted({parts[0] for parts in parted.values() if len(parts) == 2 and parts[1] in MAPS})
    for name in scenes:
        yield SceneFiles(name=name, maps=_maps(root, name))
    for path, parts in parted.items():
        if parts[0] not in scenes and not path.name.endswith(".registration.tif"):
            yield SceneFiles(name=path.stem, images={path.stem: path})


def _maps(folder: Path, scene: str) -> dict[str, Path]:
    """Return the maps of a scene; a mosaic of its own before one that is made of units."""
    found = {}
    for name in MAPS:
        for suffix in (".vrt", ".tif"):
            if (path := folder / f"{scene}.{name}{suffix}").is_file():
                found[name] = path
    return found


def _is_raster(path: Path) -> bool:
    return path.suffix.lower() in FORMATS and path.is_file() and not path.name.startswith(".")
