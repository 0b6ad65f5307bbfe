"""Aligned stacks: the modalities of one place on one grid; which are present, which are missing, and why."""

import json
import os
import threading
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from pyproj.exceptions import CRSError
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.io import DatasetReader
from rasterio.windows import Window

from .errors import SceneError
from .notebook_view import grid_words, notebook_view
from .quality import Quality

#: Label value that no class may use: not labelled, not counted.
IGNORE = 255

#: Rasters that a process keeps open: well below the 256 files that some systems allow.
OPEN_FILES = 96


@dataclass(frozen=True, kw_only=True)
class StackWindow:
    """Pixels of one window of a stack.

    Attributes
    ----------
    image
        Modality name -> float32 (band, y, x) in working units, NaN where not valid; present modalities only.
    valid
        Modality name -> bool (y, x), True = usable; every modality, all False where it is missing.
    labels
        uint8 (y, x), 255 = not labelled; None where the stack has no labels.
    quality
        Modality name -> uint8 (y, x), `Quality` codes, 255 = not known; modalities with a quality layer only.
    condition
        Which degradation it met, as :class:`~equipoise.datasets.augment.Augmentation` numbers them; 0 = none.
    acquired
        Modality name -> acquisition time, ISO 8601, where it is known.
    """

    image: dict[str, NDArray[np.float32]]
    valid: dict[str, NDArray[np.bool_]]
    labels: NDArray[np.uint8] | None
    quality: dict[str, NDArray[np.uint8]] = field(default_factory=dict)
    condition: int = 0
    acquired: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class AlignedStack:
    """Several scenes on the same grid.

    Attributes
    ----------
    name
        Scene name, unique in a run.
    geobox
        The common grid.
    modalities
        Names in the order of the run's configuration.
    present
        Modality -> its raster on ``geobox``.
    missing
        Modality -> why it is not there.
    labels
        Label raster on ``geobox``, if there is one.
    label
        Class value of the whole scene, for chip classification.
    split
        The split that all of the scene belongs to, or how it is to be found (``auto``, ``by_scene``, ``development``).
    clouds
        Modality -> raster of `Quality` codes on ``geobox``, where the product told of clouds.
    confidence
        Modality -> confidence of its registration, 0 to 1, where it was measured: one number for the whole scene.
    registration
        Modality -> its :class:`~equipoise.datasets.registration_layer.RegistrationLayer`, where it was measured: the
        same place by place.
    acquired
        Modality -> acquisition time, ISO 8601, where the product or the configuration told it; where the latter did,
        also of a missing modality.
    group
        Event or place: scenes of one group are drawn into one split together.
    """

    name: str
    geobox: GeoBox
    modalities: tuple[str, ...]
    present: Mapping[str, Path]
    missing: Mapping[str, str] = field(default_factory=dict)
    labels: Path | None = None
    label: int | None = None
    split: str = "auto"
    clouds: Mapping[str, Path] = field(default_factory=dict)
    confidence: Mapping[str, float] = field(default_factory=dict)
    registration: Mapping[str, Path] = field(default_factory=dict)
    acquired: Mapping[str, str] = field(default_factory=dict)
    group: str | None = None

    def of_modalities(self, names: tuple[str, ...]) -> "AlignedStack":
        """Return the stack as a model that knows ``names`` sees it: others are gone, and what it lacks is missing."""
        return replace(
            self,
            modalities=names,
            present={name: self.present[name] for name in names if name in self.present},
            missing={
                name: self.missing.get(name, "not in this configuration") for name in names if name not in self.present
            },
            clouds={name: self.clouds[name] for name in names if name in self.clouds},
            registration={name: self.registration[name] for name in names if name in self.registration},
        )

    def save(self, path: Path) -> None:
        """Write the stack's description as JSON; rasters are named relative to its folder."""
        crs = self.geobox.crs
        record = {
            "name": self.name, "modalities": list(self.modalities), "missing": dict(self.missing),
            "present": {name: os.path.relpath(file, path.parent) for name, file in self.present.items()},
            "labels": None if self.labels is None else os.path.relpath(self.labels, path.parent),
            "label": self.label, "split": self.split, "group": self.group,
            "clouds": {name: os.path.relpath(file, path.parent) for name, file in self.clouds.items()},
            "registration": {name: os.path.relpath(file, path.parent) for name, file in self.registration.items()},
            "confidence": dict(self.confidence), "acquired": dict(self.acquired),
            "crs": None if crs is None else str(crs),
            "transform": list(self.geobox.affine)[:6], "shape": list(self.geobox.shape),
        }  # fmt: skip
        temporary = path.with_name(f".{path.name}.tmp")
        temporary.write_text(json.dumps(record, indent=2), encoding="utf-8")
        temporary.replace(path)

    @classmethod
    def load(cls, path: Path) -> "AlignedStack":
        """Read what :meth:`save` wrote.

        Raises
        ------
        SceneError
            If the description is missing or damaged.
        """
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            geobox = GeoBox(tuple(record["shape"]), rasterio.Affine(*record["transform"]), record["crs"])
            return cls(
                name=record["name"], geobox=geobox, modalities=tuple(record["modalities"]),
                present={name: path.parent / file for name, file in record["present"].items()},
                missing=record["missing"], label=record["label"], split=record["split"],
                labels=None if record["labels"] is None else path.parent / record["labels"],
                clouds={name: path.parent / file for name, file in record["clouds"].items()},
                # Not there in descriptions of before layers were written.
                registration={name: path.parent / file for name, file in record.get("registration", {}).items()},
                confidence=record["confidence"], acquired=record["acquired"], group=record["group"],
            )  # fmt: skip
        except (OSError, AttributeError, KeyError, OverflowError, TypeError, ValueError, CRSError) as error:
            raise SceneError(
                f"{path}: found no readable stack description ({error}); wanted the output of `equipoise coregister`; "
                "run that stage again"
            ) from error

    def _repr_html_(self) -> str:
        """Return grid and modalities, for notebooks."""
        files = {name: path.name for name, path in self.present.items()}
        absent = {name: f"missing: {reason}" for name, reason in self.missing.items()}
        return notebook_view("Aligned stack", self.name, {"grid": grid_words(self.geobox), **files, **absent})


#: Warning filters belong to the process: threads that change them at the same time leave them changed.
_OPENING = threading.Lock()


def _opened(path: Path) -> DatasetReader:
    """Return an open handle of this thread; a replaced file is opened anew."""
    status = path.stat()
    return _handle(os.getpid(), threading.get_ident(), path, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=OPEN_FILES)
def _handle(process: int, thread: int, path: Path, modified: int, size: int) -> DatasetReader:
    # A handle shared over a fork or by two threads returns wrong bytes: both are part of the key, and so is the
    # file's state.
    del process, thread, modified, size
    with _OPENING, warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)  # chips have no position, by declaration
        return rasterio.open(path)


class StackReader:
    """Windows of a stack; files are opened on first use, separately in each process and thread."""

    def __init__(self, stack: AlignedStack) -> None:
        self.stack = stack

    def read(self, row: int, col: int, *, height: int, width: int) -> StackWindow:
        """Read a window that may reach beyond the grid; what lies outside is not valid.

        Parameters
        ----------
        row, col
            Upper left pixel on the stack's grid, may be negative.
        height, width
            Size in pixels.

        Raises
        ------
        SceneError
            If an aligned raster cannot be read.
        """
        rows, cols = self.stack.geobox.shape
        top, left = min(max(row, 0), rows), min(max(col, 0), cols)
        bottom, right = max(top, min(row + height, rows)), max(left, min(col + width, cols))
        window = Window(left, top, right - left, bottom - top)
        is_empty = bottom == top or right == left
        inside = (slice(top - row, bottom - row), slice(left - col, right - col))
        image: dict[str, NDArray[np.float32]] = {}
        valid = {name: np.zeros((height, width), dtype=bool) for name in self.stack.modalities}
        quality: dict[str, NDArray[np.uint8]] = {}
        labels = None
        try:
            for name, path in self.stack.present.items():
                source = self._on_grid(path)
                values = np.empty((source.count, height, width), dtype=np.float32)
                if window.width < width or window.height < height:
                    values.fill(np.nan)
                if not is_empty:
                    source.read(window=window, out=values[:, *inside])
                image[name], valid[name] = values, _finite(values)
            for name, path in self.stack.clouds.items():
                quality[name] = np.full((height, width), Quality.UNKNOWN, dtype=np.uint8)
                if not is_empty:
                    quality[name][inside] = self._on_grid(path).read(1, window=window)
            if self.stack.labels is not None:
                labels = np.full((height, width), IGNORE, dtype=np.uint8)
                if not is_empty:
                    labels[inside] = self._on_grid(self.stack.labels).read(1, window=window)
        except (RasterioError, OSError) as error:
            raise SceneError(
                f"scene '{self.stack.name}': found aligned rasters that cannot be read ({error}); wanted the output "
                "of `equipoise coregister`; run that stage again with --force"
            ) from error
        return StackWindow(
            image=image, valid=valid, labels=labels, quality=quality, acquired=self.stack.acquired
        )  # fmt: skip

    def _on_grid(self, path: Path) -> DatasetReader:
        source, wanted = _opened(path), self.stack.geobox.shape
        if source.shape != tuple(wanted):
            raise SceneError(
                f"{path}: found {source.width} x {source.height} px; wanted the {wanted.x} x {wanted.y} of scene "
                f"'{self.stack.name}'; run `equipoise coregister` again with --force"
            )
        return source


def _finite(values: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return where all bands (band, y, x) are numbers, (y, x); band by band, which needs no mask of all."""
    found = np.isfinite(values[0])
    for band in values[1:]:
        found &= np.isfinite(band)
    return found
