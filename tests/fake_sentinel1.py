"""Writes small Sentinel-1 GRD products in the real folder layout, from a real imaging geometry and a known ground.

The geometry is that of fake_orbit.py, so tie points, orbit and slant-to-ground polynomials of the annotation agree with
each other, as in a product, and the ground position of each pixel is known.
"""

import hashlib
import shutil
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import rasterio
from fake_orbit import LIGHT, Array, Geometry
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from pyproj import Transformer
from rasterio.control import GroundControlPoint
from rasterio.errors import NotGeoreferencedWarning

START = datetime(2021, 4, 1, 5, 26, 23, 794457, tzinfo=UTC)


def waves(easting: Array, northing: Array) -> Array:
    """A smooth sigma0 with known structure of 500 to 700 m, 0.02 to 0.18, linear power."""
    return 0.1 + 0.05 * np.sin(2 * np.pi * easting / 700) + 0.03 * np.cos(2 * np.pi * northing / 500)


@dataclass(frozen=True, kw_only=True)
class FakeGrd:
    """What is written, and what is true of it.

    ``truth`` is the sigma0 of the first polarisation as a function of UTM easting and northing; the second has a
    fifth of it. ``terrain`` gives heights above the ellipsoid at UTM positions; the tie points stay at height 0, as if
    they all lay in valleys. ``border`` dark columns are written at near range: half zeros, half the ghost of a signal.
    """

    geometry: Geometry = field(default_factory=Geometry)
    polarisations: tuple[str, ...] = ("VV", "VH")
    mode: str = "IW"
    crs: str = "EPSG:32632"
    truth: Callable[[Array, Array], Array] = waves
    terrain: Callable[[Array, Array], Array] | None = None
    ipf: str = "003.31"
    border: int = 0
    looks: float | None = None
    edit: Mapping[str, Callable[[str], str]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Folder name."""
        return f"S1A_{self.mode}_GRDH_1SDV_20210401T052623_20210401T052648_037269_032297_ECC8.SAFE"

    def stem(self, polarisation: str) -> str:
        """File name of a polarisation, without extension."""
        number = self.polarisations.index(polarisation) + 1
        return (
            f"s1a-{self.mode.lower()}-grd-{polarisation.lower()}-20210401t052623-20210401t052648-037269-032297-"
            f"{number:03d}"
        )

    def expected(self, easting: Array, northing: Array, polarisation: str) -> Array:
        """True sigma0 at UTM positions."""
        return self.truth(easting, northing) * (1.0 if polarisation == self.polarisations[0] else 0.2)

    def pixels(self) -> tuple[Array, Array]:
        """UTM easting and northing of the pixel centres (y, x)."""
        to_map = Transformer.from_crs("EPSG:4326", self.crs, always_xy=True)
        rows, columns = np.indices(self.geometry.shape, dtype=np.float64)
        easting, northing = to_map.transform(*self.geometry.ground(rows, columns))
        for _ in range(0 if self.terrain is None else 8):  # converges where slopes are gentler than the line of sight
            height = self.terrain(easting, northing)
            easting, northing = to_map.transform(*self.geometry.ground(rows, columns, height=height))
        return easting, northing

    def write(self, folder: Path, *, rng: np.random.Generator | None = None, zipped: bool = False) -> Path:
        """Write the product below ``folder``; return the SAFE folder or the zip."""
        rng = rng or np.random.default_rng(0)
        safe = folder / self.name
        for part in ("annotation/calibration", "measurement"):
            (safe / part).mkdir(parents=True)
        easting, northing = self.pixels()
        rows, columns = np.indices(self.geometry.shape, dtype=np.float64)
        for polarisation in self.polarisations:
            sigma = self.expected(easting, northing, polarisation)
            if self.looks is not None:
                sigma = sigma * rng.gamma(self.looks, 1 / self.looks, sigma.shape)
            power = sigma * gain(rows, columns) ** 2 + self.noise(rows, columns)
            numbers = np.clip(np.round(np.sqrt(power)), 1, 65535).astype(np.uint16)
            numbers[:, : self.border] = rng.integers(1, 4, (numbers.shape[0], self.border))
            numbers[:, : self.border // 2] = 0
            stem = self.stem(polarisation)
            self._write_tiff(safe / f"measurement/{stem}.tiff", numbers)
            self._put(safe / f"annotation/{stem}.xml", _annotation(self, polarisation))
            self._put(safe / f"annotation/calibration/calibration-{stem}.xml", _calibration(self))
            self._put(safe / f"annotation/calibration/noise-{stem}.xml", _noise(self))
        self._put(safe / "manifest.safe", _manifest(self, safe))
        if not zipped:
            return safe
        packed = shutil.make_archive(str(folder / self.name.removesuffix(".SAFE")), "zip", folder, self.name)
        shutil.rmtree(safe)
        return Path(packed)

    def noise(self, rows: Array, columns: Array) -> Array:
        """True thermal noise power in squared digital numbers."""
        height, width = self.geometry.shape
        power = 900.0 + 300.0 * columns / width
        if self.ipf < "002.90":
            return power
        return power * np.where(columns < width // 2, 1.2 - 0.4 * rows / height, 0.8 + 0.4 * rows / height)

    def _put(self, path: Path, text: str) -> None:
        for part, change in self.edit.items():
            if path.name.startswith(part):
                text = change(text)
        path.write_text(text, encoding="utf-8")

    def _write_tiff(self, path: Path, numbers: NDArray[np.uint16]) -> None:
        points = [
            GroundControlPoint(row=row, col=col, x=lon, y=lat, z=0.0)
            for row, col, lon, lat in tie_points(self.geometry)
        ]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)  # a GRD has tie points instead of a transform
            with rasterio.open(
                path, "w", driver="GTiff", count=1, dtype="uint16", height=numbers.shape[0], width=numbers.shape[1],
                gcps=points, crs="EPSG:4326",
            ) as file:  # fmt: skip
                file.write(numbers, 1)


def gain(rows: Array, columns: Array) -> Array:
    """True sigma-nought gain A: bilinear, so that the tables hold it exactly."""
    return 400.0 + 0.2 * columns - 0.1 * rows


def tie_points(geometry: Geometry, *, lines: int = 6, samples: int = 7) -> list[tuple[int, int, float, float]]:
    """Tie points as (row, column, longitude, latitude)."""
    rows = np.linspace(0, geometry.shape[0] - 1, lines).astype(int)
    columns = np.linspace(0, geometry.shape[1] - 1, samples).astype(int)
    row, column = (axis.ravel() for axis in np.meshgrid(rows, columns, indexing="ij"))
    lon, lat = geometry.ground(row.astype(float), column.astype(float))
    return [(int(r), int(c), float(x), float(y)) for r, c, x, y in zip(row, column, lon, lat, strict=True)]


def centres(geobox: GeoBox) -> tuple[Array, Array]:
    """Map coordinates of the pixel centres of a north-up grid, (y, x) each."""
    affine, (height, width) = geobox.affine, geobox.shape
    return np.meshgrid(affine.c + affine.a * (np.arange(width) + 0.5), affine.f + affine.e * (np.arange(height) + 0.5))


def displacement(layer: NDArray[np.float32], truth: Array, pixel: float) -> Array:
    """Shift (east, north) in metres that best explains the difference, to first order."""
    down, along = np.gradient(truth)
    seen = np.isfinite(layer)
    slopes = np.stack([along[seen], -down[seen]], axis=1) / pixel
    return np.linalg.lstsq(slopes, truth[seen] - layer[seen], rcond=None)[0]


def _time(fake: FakeGrd, row: float) -> str:
    return (START + timedelta(seconds=row * fake.geometry.line_time)).strftime("%Y-%m-%dT%H:%M:%S.%f")


def _listed(values: Array, form: str = "{:.6e}") -> str:
    return " ".join(form.format(value) for value in np.atleast_1d(values))


def _knots(fake: FakeGrd) -> tuple[list[int], Array]:
    height, width = fake.geometry.shape
    return [-40, 0, height // 3, 2 * height // 3, height + 30], np.unique(np.append(np.arange(0, width, 40), width - 1))


def _calibration(fake: FakeGrd) -> str:
    lines, pixels = _knots(fake)
    vectors = []
    for line in lines:
        sigma = gain(np.full(pixels.shape, line), pixels)
        vectors.append(
            f"<calibrationVector><azimuthTime>{_time(fake, line)}</azimuthTime><line>{line}</line>"
            f'<pixel count="{pixels.size}">{_listed(pixels, "{:d}")}</pixel>'
            f'<sigmaNought count="{pixels.size}">{_listed(sigma)}</sigmaNought>'
            f'<betaNought count="{pixels.size}">{_listed(sigma * 0 + 474.0)}</betaNought>'
            f'<gamma count="{pixels.size}">{_listed(sigma * 0.9)}</gamma>'
            f'<dn count="{pixels.size}">{_listed(sigma * 0 + 474.0)}</dn></calibrationVector>'
        )
    return (
        "<?xml version='1.0' encoding='UTF-8'?>\n<calibration><calibrationInformation><absoluteCalibrationConstant>1.0"
        "</absoluteCalibrationConstant></calibrationInformation>"
        f'<calibrationVectorList count="{len(lines)}">{"".join(vectors)}</calibrationVectorList></calibration>\n'
    )


def _noise(fake: FakeGrd) -> str:
    lines, pixels = _knots(fake)
    height, width = fake.geometry.shape
    old = fake.ipf < "002.90"
    vector, lut = ("noiseVector", "noiseLut") if old else ("noiseRangeVector", "noiseRangeLut")
    values = _listed(900.0 + 300.0 * pixels / width)
    ranges = "".join(
        f"<{vector}><azimuthTime>{_time(fake, line)}</azimuthTime><line>{line}</line>"
        f'<pixel count="{pixels.size}">{_listed(pixels, "{:d}")}</pixel>'
        f'<{lut} count="{pixels.size}">{values}</{lut}></{vector}>'
        for line in lines
    )
    text = (
        f"<?xml version='1.0' encoding='UTF-8'?>\n<noise><{vector}List count=\"{len(lines)}\">{ranges}</{vector}List>"
    )
    if old:
        return text + "</noise>\n"
    knots = np.linspace(0, height, 5).astype(int)
    blocks = []
    for swath, first, last in (("IW1", 0, width // 2 - 1), ("IW2", width // 2, width - 1)):
        factor = 1.2 - 0.4 * knots / height if first == 0 else 0.8 + 0.4 * knots / height
        blocks.append(
            f"<noiseAzimuthVector><swath>{swath}</swath><firstAzimuthLine>0</firstAzimuthLine>"
            f"<firstRangeSample>{first}</firstRangeSample><lastAzimuthLine>{height - 1}</lastAzimuthLine>"
            f"<lastRangeSample>{last}</lastRangeSample>"
            f'<line count="5">{_listed(knots, "{:d}")}</line>'
            f'<noiseAzimuthLut count="5">{_listed(factor)}</noiseAzimuthLut></noiseAzimuthVector>'
        )
    return text + f'<noiseAzimuthVectorList count="2">{"".join(blocks)}</noiseAzimuthVectorList></noise>\n'


def _annotation(fake: FakeGrd, polarisation: str) -> str:
    geometry = fake.geometry
    height, width = geometry.shape
    seconds = np.arange(-80.0, 90.0, 10.0)
    orbits = []
    for second, position, velocity in zip(seconds, *geometry.satellite(seconds), strict=True):
        moments = [
            f"<{axis}>{value:.6f}</{axis}>"
            for vector in (position, velocity)
            for axis, value in zip("xyz", vector, strict=True)
        ]
        orbits.append(
            f"<orbit><time>{_time(fake, second / geometry.line_time)}</time><frame>Earth Fixed</frame>"
            f"<position>{''.join(moments[:3])}</position><velocity>{''.join(moments[3:])}</velocity></orbit>"
        )
    points = [
        f"<geolocationGridPoint><azimuthTime>{_time(fake, row)}</azimuthTime><slantRangeTime>"
        f"{geometry.slant_time(np.float64(column)):.15e}</slantRangeTime><line>{row}</line><pixel>{column}</pixel>"
        f"<latitude>{lat:.15e}</latitude><longitude>{lon:.15e}</longitude><height>0.0</height>"
        "<incidenceAngle>3.3e+01</incidenceAngle><elevationAngle>2.9e+01</elevationAngle></geolocationGridPoint>"
        for row, column, lon, lat in tie_points(geometry)
    ]
    slant, ground = geometry.ground_ranges
    conversions = [
        f"<coordinateConversion><azimuthTime>{_time(fake, row)}</azimuthTime><slantRangeTime>"
        f"{2 * geometry.near / LIGHT:.15e}</slantRangeTime><sr0>{geometry.near}</sr0>"
        f'<srgrCoefficients count="{ground.size}">{_listed(ground, "{:.15e}")}</srgrCoefficients><gr0>0.0</gr0>'
        f'<grsrCoefficients count="{slant.size}">{_listed(slant, "{:.15e}")}</grsrCoefficients></coordinateConversion>'
        for row in (-height, 0, height // 2, height, 2 * height)
    ]
    return f"""<?xml version="1.0" encoding="UTF-8"?>
<product><adsHeader><missionId>S1A</missionId><productType>GRD</productType><polarisation>{polarisation}</polarisation>
<mode>{fake.mode}</mode><swath>{fake.mode}</swath><startTime>{_time(fake, 0)}</startTime>
<stopTime>{_time(fake, height - 1)}</stopTime><absoluteOrbitNumber>37269</absoluteOrbitNumber>
<missionDataTakeId>205463</missionDataTakeId><imageNumber>001</imageNumber></adsHeader>
<generalAnnotation><productInformation><pass>{"Ascending" if geometry.ascending else "Descending"}</pass>
<platformHeading>-1.2e+01</platformHeading><projection>Ground Range</projection>
<rangeSamplingRate>6.434523812571428e+07</rangeSamplingRate><radarFrequency>5.405000454334350e+09</radarFrequency>
<azimuthSteeringRate>1.590368784e+00</azimuthSteeringRate></productInformation>
<orbitList count="{len(orbits)}">{"".join(orbits)}</orbitList></generalAnnotation>
<imageAnnotation><imageInformation><productFirstLineUtcTime>{_time(fake, 0)}</productFirstLineUtcTime>
<productLastLineUtcTime>{_time(fake, height - 1)}</productLastLineUtcTime>
<ascendingNodeTime>2021-04-01T05:00:00.000000</ascendingNodeTime>
<slantRangeTime>{2 * geometry.near / LIGHT:.15e}</slantRangeTime><pixelValue>Detected</pixelValue>
<outputPixels>16 bit Unsigned Integer</outputPixels><rangePixelSpacing>{geometry.spacing:.6e}</rangePixelSpacing>
<azimuthPixelSpacing>{geometry.spacing:.6e}</azimuthPixelSpacing>
<azimuthTimeInterval>{geometry.line_time:.15e}</azimuthTimeInterval>
<azimuthFrequency>1.5e+03</azimuthFrequency><numberOfSamples>{width}</numberOfSamples>
<numberOfLines>{height}</numberOfLines><incidenceAngleMidSwath>3.3e+01</incidenceAngleMidSwath></imageInformation>
</imageAnnotation>
<swathTiming><linesPerBurst>0</linesPerBurst><samplesPerBurst>0</samplesPerBurst><burstList count="0"/></swathTiming>
<coordinateConversion><coordinateConversionList count="5">{"".join(conversions)}</coordinateConversionList>
</coordinateConversion>
<geolocationGrid><geolocationGridPointList count="{len(points)}">{"".join(points)}</geolocationGridPointList>
</geolocationGrid></product>
"""


def _manifest(fake: FakeGrd, safe: Path) -> str:
    objects = []
    for polarisation in fake.polarisations:
        stem = fake.stem(polarisation)
        for kind, place in (
            ("s1Level1ProductSchema", f"./annotation/{stem}.xml"),
            ("s1Level1NoiseSchema", f"./annotation/calibration/noise-{stem}.xml"),
            ("s1Level1CalibrationSchema", f"./annotation/calibration/calibration-{stem}.xml"),
            ("s1Level1MeasurementSchema", f"./measurement/{stem}.tiff"),
        ):
            content = (safe / place).read_bytes()
            objects.append(
                f'<dataObject ID="{len(objects)}" repID="{kind}"><byteStream size="{len(content)}">'
                f'<fileLocation locatorType="URL" href="{place}"/><checksum checksumName="MD5">'
                f"{hashlib.md5(content, usedforsecurity=False).hexdigest()}</checksum></byteStream></dataObject>"
            )
    sent = "".join(
        f"<s1sarl1:transmitterReceiverPolarisation>{name}</s1sarl1:transmitterReceiverPolarisation>"
        for name in fake.polarisations
    )
    way = "ASCENDING" if fake.geometry.ascending else "DESCENDING"
    return f"""<?xml version="1.0" encoding="UTF-8"?>
<xfdu:XFDU xmlns:xfdu="urn:ccsds:schema:xfdu:1" xmlns:safe="http://www.esa.int/safe/sentinel-1.0"
 xmlns:s1="http://www.esa.int/safe/sentinel-1.0/sentinel-1"
 xmlns:s1sarl1="http://www.esa.int/safe/sentinel-1.0/sentinel-1/sar/level-1" xmlns:gml="http://www.opengis.net/gml">
<metadataSection><metadataObject ID="processing"><safe:processing name="GRD Post Processing"><safe:facility name="F">
<safe:software name="Sentinel-1 IPF" version="{fake.ipf}"/></safe:facility></safe:processing></metadataObject>
<metadataObject ID="platform"><safe:platform><safe:nssdcIdentifier>2014-016A</safe:nssdcIdentifier>
<safe:familyName>SENTINEL-1</safe:familyName><safe:number>A</safe:number><safe:instrument>
<s1sarl1:instrumentMode><s1sarl1:mode>{fake.mode}</s1sarl1:mode><s1sarl1:swath>{fake.mode}</s1sarl1:swath>
</s1sarl1:instrumentMode></safe:instrument></safe:platform></metadataObject>
<metadataObject ID="orbit"><safe:orbitReference><safe:orbitNumber type="start">37269</safe:orbitNumber>
<safe:orbitNumber type="stop">37269</safe:orbitNumber>
<safe:relativeOrbitNumber type="start">117</safe:relativeOrbitNumber>
<safe:relativeOrbitNumber type="stop">117</safe:relativeOrbitNumber><s1:pass>{way}</s1:pass>
<s1:ascendingNodeTime>2021-04-01T05:00:00.000000</s1:ascendingNodeTime></safe:orbitReference></metadataObject>
<metadataObject ID="period"><safe:acquisitionPeriod><safe:startTime>{_time(fake, 0)}</safe:startTime>
<safe:stopTime>{_time(fake, fake.geometry.shape[0] - 1)}</safe:stopTime></safe:acquisitionPeriod></metadataObject>
<metadataObject ID="general"><s1sarl1:standAloneProductInformation>
<s1sarl1:missionDataTakeID>205463</s1sarl1:missionDataTakeID>{sent}<s1sarl1:productType>GRD</s1sarl1:productType>
</s1sarl1:standAloneProductInformation></metadataObject></metadataSection>
<dataObjectSection>{"".join(objects)}</dataObjectSection></xfdu:XFDU>
"""
