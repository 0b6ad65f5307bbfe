"""The imaging geometry of a side-looking radar: a circular orbit above the turning ellipsoid.

A pixel is where the zero-Doppler plane of its line, the sphere of its slant range and the ellipsoid meet.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from pyproj import Geod, Transformer
from scipy.spatial.transform import Rotation

Array = NDArray[np.float64]

LIGHT = 299_792_458.0
GRAVITY, EARTH_TURN = 3.986004418e14, 7.2921159e-5
ORBIT_RADIUS, INCLINATION = 7_071_000.0, np.radians(98.18)

_TO_ECEF = Transformer.from_crs("EPSG:4979", "EPSG:4978", always_xy=True)
_TO_GEODETIC = Transformer.from_crs("EPSG:4978", "EPSG:4979", always_xy=True)


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """Where the pixels of a ground-range image lie.

    ``rows`` and ``columns`` count pixel centres from 0; ``latitude`` and ``longitude`` are roughly those below the
    satellite at the first line; ``near`` is the slant range of column 0 in metres.
    """

    shape: tuple[int, int] = (400, 500)
    spacing: float = 10.0
    latitude: float = 44.0
    longitude: float = 6.0
    near: float = 800_000.0
    ascending: bool = True

    @property
    def line_time(self) -> float:
        """Seconds from line to line: the ground track runs at about 6.8 km/s."""
        return self.spacing / 6_800.0

    def satellite(self, seconds: Array) -> tuple[Array, Array]:
        """Position and velocity (n, 3), metres and metres a second, Earth-fixed, ``seconds`` after the first line."""
        seconds = np.atleast_1d(seconds)
        rate = np.sqrt(GRAVITY / ORBIT_RADIUS**3)
        climb = np.arcsin(np.sin(np.radians(self.latitude)) / np.sin(INCLINATION))
        first = climb if self.ascending else np.pi - climb
        phase = first + rate * seconds
        track = np.arctan2(np.cos(INCLINATION) * np.sin(first), np.cos(first))
        angle = np.radians(self.longitude) - track - EARTH_TURN * seconds
        turn = Rotation.from_euler("z", angle[:, None])
        inertial = np.stack(
            [np.cos(phase), np.sin(phase) * np.cos(INCLINATION), np.sin(phase) * np.sin(INCLINATION)], axis=1
        )
        along = np.stack(
            [-np.sin(phase), np.cos(phase) * np.cos(INCLINATION), np.cos(phase) * np.sin(INCLINATION)], axis=1
        )
        position = turn.apply(ORBIT_RADIUS * inertial)
        velocity = turn.apply(ORBIT_RADIUS * rate * along) - np.cross([0.0, 0.0, EARTH_TURN], position)
        return position, velocity

    def _cross(self, seconds: Array, slant: Array, height: float | Array = 0.0) -> Array:
        """Earth-fixed points (n, 3) at ``height`` above the ellipsoid, right of the track."""
        position, velocity = self.satellite(seconds)
        forward = velocity / np.linalg.norm(velocity, axis=1, keepdims=True)
        down = -position / np.linalg.norm(position, axis=1, keepdims=True)
        right = np.cross(down, forward)
        right /= np.linalg.norm(right, axis=1, keepdims=True)
        below = np.cross(forward, right)  # right, below and forward are orthogonal
        angle = np.full(slant.shape, np.radians(33.0))
        for _ in range(8):
            point = position + slant[:, None] * (np.cos(angle)[:, None] * below + np.sin(angle)[:, None] * right)
            found = np.asarray(_TO_GEODETIC.transform(*point.T)[2])
            slope = slant * np.sin(angle)  # d(height) / d(angle), nearly
            angle = angle - (found - height) / slope
        return point

    @cached_property
    def ground_ranges(self) -> tuple[Array, Array]:
        """Polynomials slant(ground) and ground(slant - near), lowest power first, of the middle line."""
        width = self.spacing * self.shape[1]
        slant = self.near + np.linspace(-0.2, 1.2, 200) * width
        middle = np.full(slant.shape, self.shape[0] / 2 * self.line_time)
        lon, lat, _ = _TO_GEODETIC.transform(*self._cross(middle, slant).T)
        start = _TO_GEODETIC.transform(*self._cross(middle[:1], np.array([self.near])).T)
        _azimuth, _, distance = Geod(ellps="WGS84").inv(np.full(200, start[0]), np.full(200, start[1]), lon, lat)
        ground = np.where(slant < self.near, -1.0, 1.0) * distance
        fit = np.polynomial.Polynomial.fit
        return fit(ground, slant, 7).convert().coef, fit(slant - self.near, ground, 7).convert().coef

    def ground(self, rows: Array, columns: Array, *, height: float | Array = 0.0) -> tuple[Array, Array]:
        """Longitude and latitude in degrees of pixel centres; any common shape."""
        slant = np.polynomial.polynomial.polyval(np.ravel(columns) * self.spacing, self.ground_ranges[0])
        lon, lat, _ = _TO_GEODETIC.transform(*self._cross(np.ravel(rows) * self.line_time, slant, np.ravel(height)).T)
        return np.reshape(lon, np.shape(columns)), np.reshape(lat, np.shape(columns))

    def slant_time(self, columns: Array) -> Array:
        """Two-way time in seconds."""
        return 2 / LIGHT * np.polynomial.polynomial.polyval(columns * self.spacing, self.ground_ranges[0])
