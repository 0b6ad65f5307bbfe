"""When and from where a Sentinel-1 GRD image was taken: line times, satellite positions, slant to ground range.

Source: ESA, *Sentinel-1 Product Specification* (S1-RS-MDA-52-7441): orbitList, coordinateConversionList.
"""

from dataclasses import dataclass
from xml.etree.ElementTree import Element

import numpy as np
from numpy.typing import NDArray

from .errors import SceneError
from .grd import number_at, text_at
from .moment import utc_text

#: State vectors without which no fifth-order orbit can be fitted.
_LEAST_VECTORS = 6


@dataclass(frozen=True, kw_only=True, eq=False)
class RadarTiming:
    """Imaging geometry of an image; all times are seconds after its first line, UTC.

    Attributes
    ----------
    first_line
        Time of the centre of the first line.
    line_interval
        Seconds from line to line.
    range_spacing
        Metres from column to column on the ground.
    orbit_times
        float64 (n,), of the state vectors.
    positions
        float64 (n, 3), metres, Earth-fixed (EPSG:4978).
    conversion_times
        float64 (k,), increasing, of the slant-to-ground polynomials.
    slant_origins
        float64 (k,), metres, subtracted from a slant range before a polynomial is applied.
    coefficients
        float64 (k, degree + 1), lowest power first: ground range in metres from column 0.
    """

    first_line: np.datetime64
    line_interval: float
    range_spacing: float
    orbit_times: NDArray[np.float64]
    positions: NDArray[np.float64]
    conversion_times: NDArray[np.float64]
    slant_origins: NDArray[np.float64]
    coefficients: NDArray[np.float64]

    def image_position(
        self, seconds: NDArray[np.float64], slant: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Row and column (0 = centre of the first) of zero-Doppler times in seconds and slant ranges in metres.

        Polynomials are interpolated linearly in time, coefficient by coefficient. Shapes and NaN are kept.
        """
        offset = slant - np.interp(seconds, self.conversion_times, self.slant_origins)
        ground = np.zeros_like(slant)
        for coefficient in self.coefficients.T[::-1]:  # Horner's scheme
            ground = ground * offset + np.interp(seconds, self.conversion_times, coefficient)
        return seconds / self.line_interval, ground / self.range_spacing


def read_timing(root: Element, *, where: str) -> RadarTiming:
    """Read the imaging geometry from an annotation.

    Parameters
    ----------
    root
        Root of ``annotation/*.xml``.
    where
        Name of the file, for messages.

    Raises
    ------
    SceneError
        If orbit, timing or slant-to-ground polynomials are missing.
    """
    place = "imageAnnotation/imageInformation"
    first = _moment(text_at(root, f"{place}/productFirstLineUtcTime", where), where)
    orbits = root.findall("generalAnnotation/orbitList/orbit")
    conversions = root.findall("coordinateConversion/coordinateConversionList/coordinateConversion")
    if len(orbits) < _LEAST_VECTORS or not conversions:
        raise SceneError(
            f"{where}: found {len(orbits)} state vectors and {len(conversions)} slant-to-ground polynomials; wanted "
            f"{_LEAST_VECTORS} and 1 or more; download the product again"
        )

    def seconds(entries: list[Element], name: str) -> NDArray[np.float64]:
        moments = np.array([_moment(text_at(entry, name, where), where) for entry in entries])
        return (moments - first) / np.timedelta64(1, "ns") * 1e-9

    positions = [[number_at(orbit, f"position/{axis}", where) for axis in "xyz"] for orbit in orbits]
    times = seconds(conversions, "azimuthTime")
    order = np.argsort(times)
    texts = [text_at(conversion, "srgrCoefficients", where).split() for conversion in conversions]
    try:
        coefficients = np.array(texts, dtype=np.float64)
    except ValueError as error:
        raise SceneError(
            f"{where}: found slant-to-ground polynomials that differ in length or are no numbers; wanted equal ones; "
            "download the product again"
        ) from error
    return RadarTiming(
        first_line=first, line_interval=number_at(root, f"{place}/azimuthTimeInterval", where),
        range_spacing=number_at(root, f"{place}/rangePixelSpacing", where),
        orbit_times=seconds(orbits, "time"), positions=np.array(positions), conversion_times=times[order],
        slant_origins=np.array([number_at(conversion, "sr0", where) for conversion in conversions])[order],
        coefficients=coefficients[order],
    )  # fmt: skip


def _moment(text: str, where: str) -> np.datetime64:
    return np.datetime64(utc_text(text, where=where).removesuffix("Z"), "ns")
