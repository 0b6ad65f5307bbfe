"""How each real sample opens: its bands, units, dates and masks, as one would declare them in a configuration."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from .modality import Band, Modality, Unit
from .opening import Handling, open_scene
from .quality import QualityScheme
from .scene import Scene
from .source import Source

#: Sentinel-2 bands of level 2A in the order in which they are stacked: band 10 (cirrus) is not delivered.
S2_BANDS = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B11", "B12")

#: WorldCereal stores backscatter as DN = 10 ** ((dB + 83) / 20): DN * 10 ** (-83 / 20) is the amplitude.
_WORLDCEREAL_AMPLITUDE = 10 ** (-83 / 20)

#: Collection 2 level 2 (USGS LSDS-1619): surface reflectance and surface temperature from digital numbers.
_SURFACE_REFLECTANCE = {"scale": 2.75e-5, "offset": -0.2}
_SURFACE_TEMPERATURE = {"scale": 0.00341802, "offset": 149.0}


@dataclass(frozen=True, kw_only=True)
class SampleScene:
    """One acquisition of a sample.

    Attributes
    ----------
    name
        Place and date, unique within sample and modality.
    modality, source, handling, georeferenced
        As :func:`~equipoise.datasets.opening.open_scene` takes them.
    acquired
        Acquisition time where the files themselves do not say it; None where they do, or where nothing does.
    """

    name: str
    modality: Modality
    source: Source
    handling: Handling = field(default_factory=Handling)
    georeferenced: bool = True
    acquired: str | None = None

    def open(self) -> Scene:
        """Open the scene.

        Raises
        ------
        SceneError
            If it cannot be used as declared.
        """
        scene = open_scene(
            self.source, self.modality, georeferenced=self.georeferenced, handling=self.handling
        )  # fmt: skip
        return scene if self.acquired is None else replace(scene, acquired=self.acquired)


def sample_scenes(name: str, folder: Path) -> list[SampleScene]:
    """Return every acquisition of a sample.

    Parameters
    ----------
    name
        One of `equipoise.datasets.samples.sample_names`.
    folder
        What `equipoise.datasets.samples.fetch` returned.
    """
    return list(_SCENES[name](folder))


def _modality(name: str, unit: Unit, *bands: str, **settings: float) -> Modality:
    return Modality(name=name, bands=tuple(Band(name=band, unit=unit, **settings) for band in bands))  # type: ignore[arg-type]


def _terramesh(folder: Path) -> Iterator[SampleScene]:
    # Optical and elevation files carry no date; these are from the data set's own table.
    dates = {"282D_485L_3_3": "2021-07-23", "38D_378R_2_3": "2023-06-10", "433D_629L_3_1": "2020-04-08"}
    kinds = {
        "S2L2A": _modality("eo", Unit.REFLECTANCE, *S2_BANDS, scale=1e-4),
        "S1RTC": _modality("sar", Unit.DB, "VV", "VH"),
        "DEM": _modality("dem", Unit.METRE, "height"),
    }
    for kind, modality in kinds.items():
        for path in sorted((folder / "examples" / kind).glob("*.tif")):
            acquired = dates[path.stem] if kind == "S2L2A" else None
            yield SampleScene(name=path.stem, modality=modality, source=Source(path=path), acquired=acquired)


#: MultiEarth names: sensor, band, longitude, latitude, date.
_MULTIEARTH = re.compile(
    r"(Sentinel1|Sentinel2|Landsat5|Landsat8)_(.+?)_(-?\d+\.\d+_-?\d+\.\d+)_(\d{4}_\d\d_\d\d)\.tiff"
)


def _multiearth(folder: Path) -> Iterator[SampleScene]:
    found: dict[tuple[str, str, str], dict[str, Path]] = {}
    for path in sorted(folder.rglob("*.tiff")):
        if match := _MULTIEARTH.fullmatch(path.name):
            found.setdefault((match[1], match[3], match[4].replace("_", "-")), {})[match[2]] = path
    for (sensor, place, date), files in sorted(found.items()):
        for modality, scheme in _multiearth_modalities(sensor):
            layer = {"SCL": None, "QA60": files.get("QA60"), "QA_PIXEL": files.get("QA_PIXEL")}.get(scheme)
            yield SampleScene(
                name=f"{place} {date}", modality=modality, georeferenced=False, acquired=date,
                source=Source(bands={band: files[band] for band in modality.band_names}, quality=layer),
                handling=Handling(quality=QualityScheme(scheme.lower())),
            )  # fmt: skip


def _multiearth_modalities(sensor: str) -> Iterator[tuple[Modality, str]]:
    if sensor == "Sentinel1":
        yield _modality("sar", Unit.DB, "VV", "VH"), "MASK"
    elif sensor == "Sentinel2":
        yield _modality("eo", Unit.REFLECTANCE, "B1", "B2", "B3", "B4", scale=1e-4), "QA60"
    else:
        bands, thermal = ((1, 2, 3, 4, 5, 7), "ST_B6") if sensor == "Landsat5" else (range(1, 8), "ST_B10")
        yield (
            _modality(
                f"eo {sensor}", Unit.REFLECTANCE, *(f"SR_B{band}" for band in bands), **_SURFACE_REFLECTANCE, nodata=0
            ),
            "QA_PIXEL",
        )
        yield _modality(f"ir {sensor}", Unit.KELVIN, thermal, **_SURFACE_TEMPERATURE, nodata=0), "QA_PIXEL"


def _majortom(folder: Path) -> Iterator[SampleScene]:
    for first in sorted(folder.rglob("B04.tif")):
        files = {band: first.parent / f"{band}.tif" for band in S2_BANDS}
        yield SampleScene(
            name="199U_1099R", modality=_modality("eo", Unit.REFLECTANCE, *S2_BANDS, scale=1e-4, nodata=0),
            source=Source(bands=files, quality=first.parent / "cloud_mask.tif"),
        )  # fmt: skip


def _landsat8(folder: Path) -> Iterator[SampleScene]:
    for table in sorted(folder.rglob("*_MTL.txt")):
        source = Source(path=table.parent)
        bands = ("B1", "B2", "B3", "B4", "B5", "B6", "B7", "B9")
        yield SampleScene(name="020039", modality=_modality("eo", Unit.REFLECTANCE, *bands), source=source)
        yield SampleScene(name="020039", modality=_modality("eo pan", Unit.REFLECTANCE, "B8"), source=source)
        yield SampleScene(name="020039", modality=_modality("ir", Unit.KELVIN, "B10", "B11"), source=source)


def _worldcereal(folder: Path) -> Iterator[SampleScene]:
    bands = ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B11", "B12")
    months = [f"2020-{month:02d}-01" for month in (11, 12)] + [f"2021-{month:02d}-01" for month in range(1, 11)]
    for path in sorted(folder.rglob("*.nc")):
        for date in months:
            eo = [f"S2-L2A-{band}@{date}" for band in bands]
            sar = [f"S1-SIGMA0-{band}@{date}" for band in ("VV", "VH")]
            for modality in (
                _modality("eo", Unit.REFLECTANCE, *eo, scale=1e-4, nodata=65535),
                _modality("sar", Unit.AMPLITUDE, *sar, scale=_WORLDCEREAL_AMPLITUDE, nodata=65535),
                _modality("dem", Unit.METRE, f"elevation@{date}", nodata=65535),
            ):
                if modality.name != "dem" or date == months[0]:  # the ground stays the same
                    yield SampleScene(name=date, modality=modality, source=Source(path=path))


def _ombria(folder: Path) -> Iterator[SampleScene]:
    for sensor, modality in (
        ("S1", _modality("sar", Unit.DIGITAL_NUMBER, "VV")),
        ("S2", _modality("eo", Unit.DIGITAL_NUMBER, "B11", "B08", "B03")),
    ):
        for moment in ("BEFORE", "AFTER"):
            for path in sorted((folder / f"Ombria{sensor}").glob(f"*/{moment}/*.png")):
                yield SampleScene(
                    name=f"{path.parts[-3]} {path.stem}", modality=modality, source=Source(path=path),
                    georeferenced=False,
                )  # fmt: skip


def _los_angeles(folder: Path) -> Iterator[SampleScene]:
    eo, sar = (
        _modality("eo", Unit.DIGITAL_NUMBER, "B4 red", "B3 green", "B2 blue"),
        _modality("sar", Unit.DIGITAL_NUMBER, "VH"),
    )
    yield SampleScene(name="los_angeles", modality=eo, source=Source(path=folder / "los_angeles_S2RGB.tif"))
    yield SampleScene(name="los_angeles", modality=sar, source=Source(path=folder / "los_angeles_S1VH.tif"))


def _sen1floods11(folder: Path) -> Iterator[SampleScene]:
    # The chips carry no date; the data set's table of events gives that of each event's radar image.
    dates = {"India": "2016-08-12", "USA": "2019-05-22"}
    modality = _modality("sar", Unit.DB, "VV", "VH")
    for path in sorted(folder.rglob("*_S1Hand.tif")):
        name = path.stem.removesuffix("_S1Hand")
        acquired = dates.get(name.split("_")[0])
        yield SampleScene(name=name, modality=modality, source=Source(path=path), acquired=acquired)


_SCENES: Mapping[str, Callable[[Path], Iterator[SampleScene]]] = {
    "terramesh": _terramesh,
    "multiearth": _multiearth,
    "majortom": _majortom,
    "landsat8": _landsat8,
    "worldcereal": _worldcereal,
    "ombria": _ombria,
    "los_angeles": _los_angeles,
    "sen1floods11": _sen1floods11,
}
