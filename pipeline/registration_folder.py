"""Registration folders: what co-registration saved of a scene, read back for pictures and pages."""

import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from pyproj import CRS
from pyproj.exceptions import CRSError
from rasterio.errors import RasterioError

from ..datasets.errors import SceneError
from ..datasets.product import quiet_open
from ..datasets.registration_layer import RegistrationLayer
from ..datasets.scene import Scene, first_line
from .errors import RunFolderError
from .placement import Registration
from .registered import Blocks

#: File of the numbers; those of pictures.
RECORD, PICTURES = "coregistration.json", "quicklooks.npz"


@dataclass(frozen=True, kw_only=True, eq=False)
class SavedScene:
    """What is in one scene's folder.

    Attributes
    ----------
    folder
        The folder; ``<name>.tif`` are the aligned rasters in it.
    affine, shape
        Of the scene's grid: pixels to units of the CRS (m); rows and columns.
    crs
        What the grid's CRS is called.
    bands
        Names of the reference's bands.
    registrations
        Numbers by name, the reference's first.
    blocks
        What single blocks say, where a position was measured.
    layers
        Confidence and correction by place, where measured or refused.
    pictures
        float32 (band, y, x) in network units over the whole grid, by name and moment ("sar before").
    opened
        The reference, where its raster is not in the folder.
    """

    folder: Path
    affine: Affine
    shape: tuple[int, int]
    crs: str
    bands: tuple[str, ...]
    registrations: Mapping[str, Registration]
    blocks: Mapping[str, Blocks]
    layers: Mapping[str, RegistrationLayer]
    pictures: Mapping[str, NDArray[np.float32]]

    opened: Scene | None = None

    @classmethod
    def load(cls, folder: Path, *, record: Path | None = None, reference: Scene | None = None) -> "SavedScene":
        """Read a scene's folder.

        Parameters
        ----------
        folder
            The folder.
        record
            File of the numbers, where it has another name than at the end.
        reference
            The reference, opened, where its raster is not in the folder since it lies on the grid as it is.

        Raises
        ------
        RunFolderError
            If something in it is missing or damaged.
        """
        try:
            numbers = json.loads((record or folder / RECORD).read_text(encoding="utf-8"))
            found = {name: Registration(**item) for name, item in numbers["registrations"].items()}
            blocks = {name: _blocks(columns) for name, columns in numbers.get("blocks", {}).items()}
            # Opened here: numpy leaves a file open that turns out to be no archive.
            with (folder / PICTURES).open("rb") as stored, np.load(stored, allow_pickle=False) as looks:
                pictures = {key: looks[key] for key in looks.files}
            anchor = next(name for name, item in found.items() if item.kind == "reference")
            affine, shape, crs, bands = _grid(folder / f"{anchor}.tif", reference)
            paths = {name: folder / f"{name}.registration.tif" for name in found}
            layers = {name: RegistrationLayer.load(path) for name, path in paths.items() if path.is_file()}
        except (
            OSError, ValueError, KeyError, TypeError, AttributeError, StopIteration, zipfile.BadZipFile, RasterioError,
            SceneError, CRSError,
        ) as error:  # fmt: skip
            raise RunFolderError(
                f"{folder}: found no whole registration ({type(error).__name__}: {first_line(error)}); wanted "
                f"{RECORD}, {PICTURES} and the aligned rasters as `equipoise coregister` writes them; run it again"
            ) from error
        order = sorted(found, key=lambda name: name != anchor)
        return cls(
            folder=folder, affine=affine, shape=shape, crs=crs, bands=bands, blocks=blocks, layers=layers,
            pictures=pictures, registrations={name: found[name] for name in order}, opened=reference,
        )  # fmt: skip

    @property
    def reference(self) -> str:
        """Name of the scene whose position is right by definition."""
        return next(iter(self.registrations))

    @property
    def pixel(self) -> float:
        """Edge of the grid's pixels, in units of the CRS."""
        return float(np.hypot(self.affine.a, self.affine.d))

    def picture(self, name: str, moment: str) -> NDArray[np.float32]:
        """Return the small picture of a moment; where nothing was moved, before is as after."""
        found = self.pictures.get(f"{name} {moment}")
        return self.pictures[f"{name} after"] if found is None else found

    def places(self, shape: tuple[int, int]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return x and y (row, col) in units of the CRS of the pixel centres of a picture over the whole grid."""
        rows = (np.arange(shape[0])[:, None] + 0.5) * self.shape[0] / shape[0]
        cols = (np.arange(shape[1])[None] + 0.5) * self.shape[1] / shape[1]
        return self.on_ground(cols, rows)

    def on_ground(
        self, cols: NDArray[np.float64], rows: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return x and y, in units of the CRS, of places on the grid, px from its first corner."""
        a, b, left, d, e, top = tuple(self.affine)[:6]
        return a * cols + b * rows + left, d * cols + e * rows + top

    def on_grid(
        self, x: NDArray[np.float64], y: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return columns and rows, px from the grid's first corner, of places in units of the CRS."""
        a, b, left, d, e, top = tuple(~self.affine)[:6]
        return a * x + b * y + left, d * x + e * y + top


def _grid(path: Path, reference: Scene | None) -> tuple[Affine, tuple[int, int], str, tuple[str, ...]]:
    """Return transform, shape, name of the CRS and bands of the reference's raster, or of the reference as it is."""
    if not path.is_file() and reference is not None:
        grid = reference.geobox
        crs = None if grid.crs is None else grid.crs.proj
        affine, shape, bands = grid.affine, (grid.shape.y, grid.shape.x), reference.modality.band_names
    else:
        with quiet_open(path) as source:
            crs = None if source.crs is None else CRS.from_user_input(source.crs)
            affine, shape, bands = source.transform, source.shape, tuple(name or "" for name in source.descriptions)
    return affine, shape, "no position" if crs is None else str(crs.name), bands


def _blocks(columns: Mapping[str, Any]) -> Blocks:
    values = {name: np.asarray(column, dtype=np.float64) for name, column in columns.items()}
    if len({column.shape for column in values.values()}) != 1 or values["x"].ndim != 1:
        raise ValueError("blocks whose columns differ in length")
    return Blocks(
        x=values["x"], y=values["y"], radius90=values["radius90"], weight=values["weight"],
        before=np.stack([values["before_east"], values["before_north"]], axis=1),
        after=np.stack([values["after_east"], values["after_north"]], axis=1),
    )  # fmt: skip
