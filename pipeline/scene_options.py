"""Options of what was observed: sensor types, classes, places."""

import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from ..datasets.modality import BACKSCATTER, Band, Modality, Unit
from ..datasets.opening import Handling
from ..datasets.quality import QualityScheme
from ..datasets.source import Source
from ..datasets.speckle import SpeckleFilter
from ..datasets.value_table import series_band, spans
from .options import Options


class BandOptions(Options):
    """One band, where its name alone does not say enough."""

    name: str = Field(description="Band name in the field's usage, for example red, VV, B10.")
    index: int | None = Field(None, ge=1, description="1-based position in the file; null: by order.")
    unit: Unit | None = Field(None, description="Unit, where it is not the modality's.")
    scale: float | None = Field(None, description="Scale, where it is not the modality's.")
    offset: float | None = Field(None, description="Offset, where it is not the modality's.")


class SpeckleFilterOptions(Options):
    """Speckle filter, applied in linear power before anything is resampled."""

    kind: Literal["lee", "refined_lee", "gamma_map"] = Field("refined_lee", description="Filter.")
    size: int = Field(7, ge=3, description="Edge of the window, px, odd (refined_lee: always 7).")
    looks: float = Field(4.4, gt=0, description="Equivalent number of looks of the product; Sentinel-1 IW GRDH: 4.4.")

    @model_validator(mode="after")
    def _consistent(self) -> "SpeckleFilterOptions":
        if self.size % 2 == 0:
            raise ValueError(f"size is {self.size}; wanted an odd number, so that the window has a middle")
        return self


class TableOptions(Options):
    """A CSV in the place of a raster: values that hold for the whole scene."""

    days: int | None = Field(
        None, ge=1, description="Days before the reference's time whose values are read, by the column `date`; null: "
        "the table has one row, or one for each `id`, and no dates."
    )  # fmt: skip
    every: int = Field(10, ge=1, description="Days that make one average; each is a band of its own.")

    @model_validator(mode="after")
    def _consistent(self) -> "TableOptions":
        if self.days is not None and self.days % self.every:
            raise ValueError(f"days is {self.days} and every {self.every}; wanted days to be a multiple of every")
        return self


class ModalityOptions(Options):
    """One sensor type: what the numbers in its files mean."""

    same_as: str | None = Field(
        None,
        description="Another modality whose settings are those of this one, too, where nothing else is said: another "
        "date of the same sensor.",
    )
    sensor: str | None = Field(
        None,
        description="Sensor that it is of: tables also show what its dates are worth together; null: that of same_as.",
    )
    prior: bool = Field(
        False, description="An earlier image: a scene in which it is later than the reference is refused."
    )
    unit: Unit = Field(
        description="Unit of scale * DN + offset: reflectance, linear_power, amplitude, db, kelvin, metre (heights) or "
        "digital_number."
    )
    bands: list[str | BandOptions] = Field(
        min_length=1,
        description="Bands by name (as in the product or the file's band descriptions), in file order, or with index.",
    )
    scale: float | None = Field(None, description="From digital number to unit; null: as the product says, else 1.")
    offset: float | None = Field(None, description="From digital number to unit; null: as the product says, else 0.")
    planck: tuple[float, float] | None = Field(
        None, description="K1, K2 of a thermal band stored as radiance: kelvin = K2 / ln(K1 / radiance + 1)."
    )
    nodata: float | None = Field(
        None, description="Digital number of no observation; null: the file's own, or zero in all bands."
    )
    resampling: Literal["nearest", "bilinear", "cubic"] = Field(
        "bilinear", description="Rule at about the same pixel size; larger target pixels are averages."
    )
    clouds: Literal["mask", "keep"] = Field(
        "mask",
        description="Where clouds are known (Sentinel-2 SCL, Landsat QA, a quality file): mask: cloud and shadow are "
        "not valid; keep: they stay, and their share is recorded.",
    )
    quality: QualityScheme = Field(
        QualityScheme.MASK,
        description="How quality files named under scenes are coded: scl, qa_pixel, bqa, qa60, mask (nonzero: cloud), "
        "codes (as Equipoise writes them: 0 clear, 1 cloud, 2 shadow, 3 unusable, 255 not known).",
    )
    calibration: Literal["sigma0", "gamma0", "beta0"] = Field(
        "sigma0", description="Backscatter that Sentinel-1 GRD products are calibrated to."
    )
    dem: Path | None = Field(
        None, description="Heights (m) for the terrain correction of Sentinel-1 GRD; null: placed by tie points alone."
    )
    geoid_height: float = Field(0.0, description="Height of the geoid over the ellipsoid, m, added to the DEM's.")
    speckle: SpeckleFilterOptions | None = Field(None, description="Speckle filter; null: none.")
    table: TableOptions | None = Field(
        None, description="Files are CSV tables of values that hold for a whole scene, such as weather or an angle; "
        "`bands` are columns."
    )  # fmt: skip

    @model_validator(mode="after")
    def _consistent(self) -> "ModalityOptions":
        if self.table is not None and (self.speckle is not None or self.dem is not None):
            raise ValueError("speckle or dem is set for a table; wanted them for rasters only")
        if self.speckle is not None and self.unit not in BACKSCATTER:
            raise ValueError(f"speckle is set for unit {self.unit}; wanted it for backscatter only")
        if self.planck is not None and self.unit is not Unit.KELVIN:
            raise ValueError(f"planck is set for unit {self.unit}; wanted it for kelvin only")
        return self

    def modality(self, name: str, *, offset: float | None = None) -> Modality:
        """Return the domain type; ``offset`` replaces the declared one (a scene's own processing baseline)."""
        bands = []
        for item in self.bands:
            band = item if isinstance(item, BandOptions) else BandOptions(name=item, index=None)
            own = band.offset if band.offset is not None else self.offset
            bands.append(
                Band(
                    name=band.name,
                    unit=band.unit or self.unit,
                    index=band.index,
                    nodata=self.nodata,
                    scale=self.scale if band.scale is None else band.scale,
                    resampling=self.resampling,
                    offset=own if offset is None else offset,
                    planck=self.planck,
                )
            )
        if self.table is not None and self.table.days is not None:
            every = spans(self.table.days, self.table.every)
            bands = [replace(band, name=series_band(band.name, span)) for span in every for band in bands]
        return Modality(name=name, bands=tuple(bands))

    @property
    def columns(self) -> list[str]:
        """Names of the bands as declared: of a table, those of its columns."""
        return [item if isinstance(item, str) else item.name for item in self.bands]

    def handling(self) -> Handling:
        """Return what is done to scenes of this modality when they are opened."""
        speckle = None if self.speckle is None else SpeckleFilter(**self.speckle.model_dump())
        return Handling(
            clouds=self.clouds, quality=self.quality, speckle=speckle, calibration=self.calibration,
            dem=self.dem, geoid_height=self.geoid_height,
        )  # fmt: skip


class ClassOptions(Options):
    """One class of the map."""

    value: int = Field(
        ge=0, le=254, description="Value in the map, and in the label rasters unless label_value is set."
    )
    label_value: int | None = Field(None, ge=0, description="Value in the label rasters, where it is another one.")
    name: str = Field(min_length=1, description="Name in legends.")
    color: str = Field(pattern=r"^#[0-9a-fA-F]{6}$", description="Colour on the map, #rrggbb.")

    @property
    def rgb(self) -> tuple[int, int, int]:
        """Red, green, blue, 0-255."""
        return int(self.color[1:3], 16), int(self.color[3:5], 16), int(self.color[5:7], 16)

    @property
    def source(self) -> int:
        """Value in the label rasters."""
        return self.value if self.label_value is None else self.label_value


class FilesOptions(Options):
    """The files of one modality of a scene, where they are more than one raster or product."""

    path: Path | None = Field(None, description="Raster or product.")
    bands: dict[str, Path] = Field({}, description="Band -> raster, for one file a band.")
    quality: Path | None = Field(None, description="Raster of clouds, coded as the modality's `quality` says.")

    @model_validator(mode="after")
    def _consistent(self) -> "FilesOptions":
        if (self.path is None) == (not self.bands):
            raise ValueError("found neither or both of path and bands; wanted one of them")
        return self

    @property
    def named(self) -> dict[str, Path]:
        """Every path under a key of its own."""
        own = {f"bands.{name}": path for name, path in self.bands.items()}
        own |= {} if self.path is None else {"path": self.path}
        return own | ({} if self.quality is None else {"quality": self.quality})

    def source(self, paths: Mapping[str, Path]) -> Source:
        """Return the domain type, with ``paths`` in the place of those of the same keys as in :attr:`named`."""
        return Source(
            path=paths.get("path"),
            bands={name: paths[f"bands.{name}"] for name in self.bands},
            quality=paths.get("quality"),
        )


def _time(value: Any) -> Any:
    """Take what YAML reads as a date for its text."""
    return value.isoformat() if isinstance(value, date) else value


class SceneOptions(Options):
    """One place, or with {id} in its file names, one place for each id found on disk."""

    name: str = Field(description="Scene name; with {id} in file names also {id} here.")
    files: dict[str, Path | FilesOptions] = Field(
        description="Modality -> raster, SAFE folder or .zip, or Landsat folder, relative to this file; or {bands: "
        "{B02: file, ...}, quality: file} for one file a band; may lack modalities."
    )
    labels: Path | None = Field(None, description="Label raster (segmentation); nodata and 255 are not counted.")
    label_table: Path | None = Field(
        None,
        description="CSV with id and some of label (classification), split, group, and acquired.<modality> (its time).",
    )
    split: Literal["auto", "by_scene", "development", "train", "validation", "test", "predict"] = Field(
        "auto",
        description="auto: spatial blocks (chips with one label: by_scene); by_scene: whole scenes drawn for the three "
        "splits; development: whole scenes drawn for training and validation only; predict: maps only.",
    )
    offset: dict[str, float] = Field({}, description="Modality -> offset of this scene, replacing the modality's.")
    acquired: dict[str, Annotated[str, BeforeValidator(_time)]] = Field(
        {}, description="Modality -> acquisition time, ISO 8601, where its files do not say it."
    )
    group: str | None = Field(
        None,
        description="Event or place whose scenes go to one split together: a name, or a regular expression with (...) "
        "around the part of the scene's name that tells it.",
    )
    informative: Path | None = Field(
        None, description="Raster with the index of the modality that carries the class (invented scenes only)."
    )
    georeferenced: bool = Field(True, description="false: chips without a position that share a pixel grid.")

    @model_validator(mode="after")
    def _consistent(self) -> "SceneOptions":
        try:
            re.compile(self.group or "")
        except re.error as error:
            raise ValueError(f"group is no regular expression ({error}); wanted a name or an expression") from error
        return self

    def all_files(self) -> dict[str, FilesOptions]:
        """Return modality -> files, single paths included."""
        return {
            name: files if isinstance(files, FilesOptions) else FilesOptions(path=files, quality=None)
            for name, files in self.files.items()
        }

    def group_of(self, name: str) -> str | None:
        """Return the event or place of the scene that is called ``name``."""
        if self.group is None or "(" not in self.group:
            return self.group
        match = re.search(self.group, name)
        return match[1] if match else None
