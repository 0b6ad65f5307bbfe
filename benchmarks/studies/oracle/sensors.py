"""The three sensors of the oracle scene: how each draws an image of a class, and the exact likelihood of that image.

Ground cells are seen as 2 x 2 *native* pixels, each an observation of its own; the common grid repeats a native pixel
over several of its pixels, as it does for any sensor coarser than the grid. All likelihoods leave out terms that are
the same for every class.
"""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from .conditions import Columns

CLASSES = ("water", "forest", "crop", "urban", "bare")
NATIVE = 2
"""Native pixels along the side of a cell."""


class Sensor(Protocol):
    """What the scene needs of a sensor."""

    @property
    def bands(self) -> int:
        """Number of bands."""
        ...

    def draw(self, appearance: Tensor, column: Columns, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Observe cells.

        Parameters
        ----------
        appearance
            int64 (batch, cells_y, cells_x): what each cell looks like to this sensor, a position in :data:`CLASSES`.
        column
            The condition of each sample.
        generator
            Source of randomness.

        Returns
        -------
        tuple of Tensor
            Physical values float32 (batch, band, native_y, native_x) and ``valid``, bool (batch, native_y, native_x).
        """
        ...

    def log_likelihood(self, native: Tensor, valid: Tensor, column: Columns) -> Tensor:
        """Rate what was observed.

        Parameters
        ----------
        native
            Physical values, float64 (batch, band, native_y, native_x).
        valid
            bool (batch, native_y, native_x); pixels that are not valid say nothing.
        column
            The condition of each sample.

        Returns
        -------
        Tensor
            float64 (batch, class, cells_y, cells_x): log p(pixels of the cell | class) up to a constant of the cell.
        """
        ...

    def normalised(self, native: Tensor) -> Tensor:
        """Turn physical values into network input by fixed constants."""
        ...

    def physical(self, normalised: Tensor) -> Tensor:
        """Turn network input back into physical values."""
        ...


@dataclass(frozen=True, kw_only=True)
class Optical:
    """Green, red and near-infrared reflectance, 0 to 1.

    ``x = B (1 + q) + T (mu_class + z) + e``: transmission T and path radiance B of haze and cloud, brightness q and
    ground variation z of the cell, noise e of the native pixel, all normal. Whether a cell lies under cloud is not
    known, so its likelihood is a mixture of both; the mean of the valid pixels is sufficient.
    """

    bands: int = 3
    mean: tuple[tuple[float, ...], ...] = (
        (0.08, 0.06, 0.04),
        (0.14, 0.11, 0.52),
        (0.30, 0.26, 0.72),
        (0.40, 0.44, 0.46),
        (0.52, 0.62, 0.66),
    )
    ground_sd: float = 0.13
    noise: float = 0.002  # variance
    glow_sd: float = 0.15  # of the path radiance, relative
    haze_loss: tuple[float, ...] = (1.0, 0.9, 0.7)  # longer waves lose less
    haze_colour: tuple[float, ...] = (0.5, 0.45, 0.4)
    cloud_colour: float = 0.85
    centre: float = 0.35
    spread: float = 0.27

    def draw(self, appearance: Tensor, column: Columns, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """See :class:`Sensor`."""
        shape = (len(appearance), 1, *appearance.shape[1:])
        cloudy = torch.rand(shape, generator=generator) < column["cloud_cover"]
        transmission, path = self._air(column, cloudy=cloudy.double())
        ground = _means(self.mean, appearance) + self.ground_sd * torch.randn(_banded(shape, 3), generator=generator)
        glow = 1 + self.glow_sd * torch.randn(shape, generator=generator)
        signal = path * glow + transmission * ground
        native = _spread(signal)
        sigma = (self.noise + column["eo_noise"]).sqrt()
        native = native + sigma * torch.randn(native.shape, generator=generator)
        rows = torch.rand((len(native), native.shape[2], 1), generator=generator) >= column["stripe_loss"][:, 0]
        seen = ~(_spread(cloudy) & column["cloud_flagged"].bool())[:, 0]
        return native.float(), seen & rows

    def log_likelihood(self, native: Tensor, valid: Tensor, column: Columns) -> Tensor:
        """See :class:`Sensor`."""
        count, mean = _cell_means(native, valid)
        # A cloud that was flagged has no valid pixel: what is left is known to be clear.
        cover = column["cloud_cover"] * (1 - column["cloud_flagged"])
        parts = []
        for cloudy, probability in ((0.0, 1 - cover), (1.0, cover)):
            density = self._log_density(count, mean, column, cloudy=torch.full_like(cover, cloudy))
            parts.append(density + probability.log())
        return torch.where(count > 0, torch.logsumexp(torch.stack(parts), dim=0), 0.0)

    def normalised(self, native: Tensor) -> Tensor:
        """See :class:`Sensor`."""
        return (native - self.centre) / self.spread

    def physical(self, normalised: Tensor) -> Tensor:
        """See :class:`Sensor`."""
        return normalised * self.spread + self.centre

    def _air(self, column: Columns, *, cloudy: Tensor) -> tuple[Tensor, Tensor]:
        """Return transmission with illumination, and path radiance, float64 (batch, band, ...)."""
        haze = column["haze"] * _bands(self.haze_loss)
        hidden = column["cloud_opacity"] * cloudy
        path = (1 - hidden) * haze * _bands(self.haze_colour) + hidden * self.cloud_colour
        return (1 - hidden) * (1 - haze) * column["illumination"], path

    def _log_density(self, count: Tensor, mean: Tensor, column: Columns, *, cloudy: Tensor) -> Tensor:
        """Log normal density of a cell's mean, covariance ``D + w u u'`` (Sherman and Morrison, 1950)."""
        transmission, path = self._air(column, cloudy=cloudy)
        noise = (self.noise + column["eo_noise"]) / count.clamp(min=1)
        diagonal = (transmission * self.ground_sd).square() + noise
        weight, scaled = self.glow_sd**2, path / diagonal
        growth = 1 + weight * (path * scaled).sum(dim=1)
        log_determinant = diagonal.log().sum(dim=1) + growth.log()
        densities = []
        for level in self.mean:
            rest = mean - path - transmission * _bands(level)
            distance = (rest.square() / diagonal).sum(dim=1) - weight * (rest * scaled).sum(dim=1).square() / growth
            densities.append(-0.5 * (distance + log_determinant))
        return torch.stack(densities, dim=1)


@dataclass(frozen=True, kw_only=True)
class Radar:
    """VV and VH backscatter, linear power; decibels at the network's door.

    Native pixels are gamma with L looks and mean ``sigma_class + interference`` (Goodman, 1976); their sum is
    sufficient.
    """

    bands: int = 2
    mean: tuple[tuple[float, ...], ...] = (
        (-13.1, -19.6),
        (-10.9, -16.3),
        (-11.8, -17.9),
        (-9.8, -16.6),
        (-11.8, -19.1),
    )
    centre: tuple[float, ...] = (-12.0, -18.0)  # decibels
    spread: float = 3.0

    def draw(self, appearance: Tensor, column: Columns, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """See :class:`Sensor`."""
        shape = (len(appearance), 1, *appearance.shape[1:])
        power = _spread(10 ** (_means(self.mean, appearance) / 10)) + column["sar_interference"]
        looks = column["sar_looks"]
        # A gamma of L looks, L whole, is a mean of L exponentials; torch's own gamma takes no generator.
        speckle = torch.zeros(power.shape)
        for look in range(int(looks.max())):
            speckle += torch.empty(power.shape).exponential_(generator=generator) * (look < looks)
        native = power * speckle / looks
        return native.float(), torch.ones((shape[0], *native.shape[2:]), dtype=torch.bool)

    def log_likelihood(self, native: Tensor, valid: Tensor, column: Columns) -> Tensor:
        """See :class:`Sensor`."""
        count, mean = _cell_means(native, valid)
        densities = []
        for level in self.mean:
            power = 10 ** (_bands(level) / 10) + column["sar_interference"]
            densities.append(-(column["sar_looks"] * count * (power.log() + mean / power)).sum(dim=1))
        return torch.stack(densities, dim=1)

    def normalised(self, native: Tensor) -> Tensor:
        """See :class:`Sensor`."""
        return (10 * native.log10() - _bands(self.centre).to(native)) / self.spread

    def physical(self, normalised: Tensor) -> Tensor:
        """See :class:`Sensor`."""
        return 10 ** ((normalised * self.spread + _bands(self.centre).to(normalised)) / 10)


@dataclass(frozen=True, kw_only=True)
class Thermal:
    """Brightness temperature, kelvin: ``x = t0 + contrast (mu_class - t0) + z + e``, z of the cell, e of the pixel."""

    bands: int = 1
    mean: tuple[float, ...] = (286.5, 287.9, 290.1, 294.6, 297.3)
    middle: float = 291.0
    ground_sd: float = 3.0
    noise: float = 1.0  # variance
    spread: float = 6.0

    def draw(self, appearance: Tensor, column: Columns, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """See :class:`Sensor`."""
        shape = (len(appearance), 1, *appearance.shape[1:])
        signal = self._seen(_means([[level] for level in self.mean], appearance), column)
        native = _spread(signal + self.ground_sd * torch.randn(shape, generator=generator))
        sigma = (self.noise + column["ir_noise_k"].square()).sqrt()
        native = native + sigma * torch.randn(native.shape, generator=generator)
        return native.float(), torch.ones((shape[0], *native.shape[2:]), dtype=torch.bool)

    def log_likelihood(self, native: Tensor, valid: Tensor, column: Columns) -> Tensor:
        """See :class:`Sensor`."""
        count, mean = _cell_means(native, valid)
        variance = self.ground_sd**2 + (self.noise + column["ir_noise_k"].square()) / count.clamp(min=1)
        levels = [self._seen(torch.full_like(column["ir_contrast"], level), column) for level in self.mean]
        density = torch.cat([-0.5 * (mean - level).square() / variance for level in levels], dim=1)
        return torch.where(count > 0, density, 0.0)

    def normalised(self, native: Tensor) -> Tensor:
        """See :class:`Sensor`."""
        return (native - self.middle) / self.spread

    def physical(self, normalised: Tensor) -> Tensor:
        """See :class:`Sensor`."""
        return normalised * self.spread + self.middle

    def _seen(self, level: Tensor, column: Columns) -> Tensor:
        return self.middle + column["ir_contrast"] * (level - self.middle)


SENSORS: dict[str, Sensor] = {"optical": Optical(), "radar": Radar(), "thermal": Thermal()}


def _bands(values: tuple[float, ...]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64).reshape(1, -1, 1, 1)


def _banded(shape: tuple[int, ...], bands: int) -> tuple[int, ...]:
    return (shape[0], bands, *shape[2:])


def _means(levels: object, appearance: Tensor) -> Tensor:
    """Return the level of each cell, float64 (batch, band, cells_y, cells_x)."""
    return torch.tensor(levels, dtype=torch.float64)[appearance].permute(0, 3, 1, 2)


def _spread(cells: Tensor) -> Tensor:
    """Repeat each cell over its native pixels."""
    return cells.repeat_interleave(NATIVE, dim=-2).repeat_interleave(NATIVE, dim=-1)


def _cell_means(native: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """Return the number of valid pixels (batch, 1, cells_y, cells_x) and their mean (batch, band, cells_y, cells_x)."""
    seen = valid[:, None].to(native)
    count = F.avg_pool2d(seen, NATIVE) * NATIVE**2
    total = F.avg_pool2d(native.where(seen.bool(), 0.0), NATIVE) * NATIVE**2
    return count, total / count.clamp(min=1)
