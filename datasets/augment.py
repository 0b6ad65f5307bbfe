"""Augmentation of a window: one geometry for all that is in it, then what is wrong with each sensor on its own."""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from scipy import ndimage

from .clipping_guard import AugmentationError, refuse_clipping, refuse_moving
from .degradation import Degradation, FloatImage
from .modality import Modality
from .shared_geometry import SharedGeometry as SharedGeometry
from .shared_geometry import SmallAffine, albumentations
from .stack import StackWindow

Geometry = Literal["none", "d4", "affine"]

#: Limits of the small rotation, change of scale and shift, either way.
ROTATION_DEG, SCALE, SHIFT = 10.0, 0.1, 0.05

#: Metres along one degree of latitude.
_DEGREE_M = 111_320.0


class Augmentation:
    """Geometry, then photometry, then degradations of a window, drawn from a seed.

    Geometry comes first, so that speckle and noise are not smoothed by interpolation. Each degradation is drawn with
    its own probability, from randomness that depends on the seed, the modality's name and the degradation's place in
    its list. A degradation that would leave the window without a single usable pixel in any modality is not applied:
    an outage may take any sensor but the last.

    What a window met is its ``condition``: 0 for nothing; ``1 + i`` for the degradation of number ``i``, counted over
    all that are configured, in the order of the modalities and then of their lists; and for several at once the
    number after all those, whichever they were. A degradation of probability 1 tells no window from another, so it
    counts where no other one occurred; one that found nothing left to degrade does not count.

    Parameters
    ----------
    modalities
        Declared modalities; those of the windows must be among them.
    geometry
        ``none``; ``d4``: one of the eight symmetries of a square window (of another rectangle the four that keep its
        shape); ``affine``: a symmetry, then a rotation of up to 10 degrees, a scale of 0.9 to 1.1 and a shift of up to
        5 % of the edge, by the resampling rule of each band (radar in linear power; labels and quality by nearest
        neighbour).
    degradations
        Modality name -> what may be wrong with it, in order.
    photometry
        Modality name -> an albumentations transform of pixel values (a pipeline is one too), run on working values.

    Raises
    ------
    DatasetError
        If a name is not declared, a degradation does not fit the modality's units, or a transform moves pixels or
        clips physical values.
    """

    def __init__(
        self,
        modalities: tuple[Modality, ...],
        *,
        geometry: Geometry = "d4",
        degradations: Mapping[str, Sequence[Degradation]] | None = None,
        photometry: Mapping[str, Any] | None = None,
    ) -> None:
        if geometry not in get_args(Geometry):
            raise AugmentationError(f"found geometry '{geometry}'; wanted one of {get_args(Geometry)}; choose one")
        self._modalities = {modality.name: modality for modality in modalities}
        self._degradations = {name: tuple(items) for name, items in (degradations or {}).items()}
        self._photometry: dict[str, Any] = {}
        for name, items in self._degradations.items():
            modality = self._declared(name)
            for item in items:
                item.refuse_misfit(modality)
        for name, transform in (photometry or {}).items():
            refuse_moving(transform)
            refuse_clipping(transform, bands=len(self._declared(name).bands))
            self._photometry[name] = albumentations().Compose([transform])
        self._symmetry = None if geometry == "none" else SharedGeometry()
        small = SmallAffine(rotation_deg=ROTATION_DEG, scale=SCALE, shift=SHIFT) if geometry == "affine" else None
        self._small = small

    def __call__(self, window: StackWindow, *, seed: int, pixel_m: float | None = None) -> StackWindow:
        """Return the augmented window.

        Parameters
        ----------
        window
            As :class:`~equipoise.datasets.stack.StackReader` reads it: working units, NaN where not valid.
        seed
            0 to 2**32 - 1; the same seed gives the same result, whatever came before.
        pixel_m
            Edge of a pixel on the ground, metres (:func:`pixel_size_m`); needed by degradations given in metres.

        Returns
        -------
        StackWindow of the same shape. ``valid`` follows the pixels, ``labels`` and ``quality`` the geometry only:
        an invented cloud is one that the delivered mask does not know. Arrays that nothing changed are the window's.
        ``condition`` says which degradation it met.

        Raises
        ------
        AugmentationError
            If a degradation is in metres and ``pixel_m`` is None, a modality is not declared, or a transform of pixel
            values changes the shape.
        """
        for name in window.image:
            self._declared(name)
        if self._symmetry is not None:
            window = _turned(window, self._symmetry, seed=seed)
        if self._small is not None:
            # Another seed: with the same one, each symmetry would always meet the same range of angles.
            window = self._moved(window, self._small, seed=int(np.random.default_rng([seed, 2]).integers(2**32)))
        image = dict(window.image)
        for name in image:
            if name in self._photometry:
                image[name] = _photometry(self._photometry[name], image[name], seed=seed)
        met = self._degrade(image, seed=seed, pixel_m=pixel_m)
        valid = {name: mask & window.valid[name] for name, mask in _finite(image).items()}
        return replace(window, image=image, valid=window.valid | valid, condition=self._condition(met))

    def _declared(self, name: str) -> Modality:
        if name not in self._modalities:
            raise AugmentationError(
                f"found modality '{name}'; wanted one of {list(self._modalities)}; correct the name or declare it"
            )
        return self._modalities[name]

    def _moved(self, window: StackWindow, small: SmallAffine, *, seed: int) -> StackWindow:
        image = {}
        for name, array in window.image.items():
            bands = self._modalities[name].bands
            usable = np.where(window.valid[name], array, np.float32(np.nan))
            moved = small.image(usable, rules=[band.resampling for band in bands], seed=seed)
            for layer, band in zip(moved, bands, strict=True):
                if band.is_backscatter:
                    np.maximum(layer, 0, out=layer)  # cubic weights are negative in places; power is not
            image[name] = moved
        quality = {name: small.codes(codes[None], seed=seed)[0] for name, codes in window.quality.items()}
        labels = None if window.labels is None else small.codes(window.labels[None], seed=seed)[0]
        return replace(window, image=image, valid=window.valid | _finite(image), quality=quality, labels=labels)

    def _degrade(self, image: dict[str, FloatImage], *, seed: int, pixel_m: float | None) -> list[tuple[str, int]]:
        """Degrade the arrays of ``image`` in place of the dict; return modality and place of what took effect."""
        met = []
        # In a drawn order, so that the sensor which an outage may not take is not always the same one.
        for name in np.random.default_rng([seed, 0]).permutation(sorted(image)).tolist():
            for place, item in enumerate(self._degradations.get(name, ())):
                rng = np.random.default_rng([seed, 1, zlib.crc32(name.encode()), place])
                if rng.random() >= item.probability:
                    continue
                worse = item(image[name], pixel_m=_metres(item, pixel_m), rng=rng)
                others = (array for other, array in image.items() if other != name)
                if _usable(worse) or any(_usable(array) for array in others):
                    if _usable(image[name]):
                        met.append((name, place))
                    image[name] = worse
        return met

    def _condition(self, met: Sequence[tuple[str, int]]) -> int:
        """Return the number of what a window met, as the class says."""
        order = [(name, place) for name in self._modalities for place in range(len(self._degradations.get(name, ())))]
        telling = [(name, place) for name, place in met if self._degradations[name][place].probability < 1] or met
        if len(telling) > 1:
            return 1 + len(order)
        return 1 + order.index(telling[0]) if telling else 0


def pixel_size_m(geobox: GeoBox) -> float | None:
    """Return the edge of a pixel on the ground in metres: the root of its area; None without a CRS.

    On a geographic grid the pixel in the middle counts, on a sphere.
    """
    if geobox.crs is None:
        return None
    edge = float(np.sqrt(abs(geobox.affine.determinant)))
    if geobox.crs.geographic:
        latitude = np.deg2rad(geobox.extent.centroid.coords[0][1])
        return float(edge * _DEGREE_M * np.sqrt(np.cos(latitude)))
    return edge * float(geobox.crs.proj.axis_info[0].unit_conversion_factor)


def _turned(window: StackWindow, symmetry: SharedGeometry, *, seed: int) -> StackWindow:
    arrays: dict[str, FloatImage] = {f"image {name}": array for name, array in window.image.items()}
    arrays |= {f"valid {name}": mask[None].astype(np.float32) for name, mask in window.valid.items()}
    arrays |= {f"quality {name}": codes[None].astype(np.float32) for name, codes in window.quality.items()}
    if window.labels is not None:
        arrays["labels"] = window.labels[None].astype(np.float32)
    if not arrays:
        return window
    turned = symmetry(arrays, seed=seed)
    return replace(
        window,
        image={name: turned[f"image {name}"] for name in window.image},
        valid={name: turned[f"valid {name}"][0] > 0 for name in window.valid},
        quality={name: turned[f"quality {name}"][0].astype(np.uint8) for name in window.quality},
        labels=None if window.labels is None else turned["labels"][0].astype(np.uint8),
    )


def _metres(item: Degradation, pixel_m: float | None) -> float:
    if pixel_m is None and item.needs_pixel_size:
        raise AugmentationError(
            f"found no pixel size for {type(item).__name__}, which is given in metres; wanted one; give `pixel_m`, or "
            "leave this degradation out for chips without a position"
        )
    return 1.0 if pixel_m is None else pixel_m


def _usable(array: FloatImage) -> bool:
    return bool(np.isfinite(array).all(axis=0).any())


def _finite(image: Mapping[str, FloatImage]) -> dict[str, NDArray[np.bool_]]:
    return {name: np.asarray(np.isfinite(array).all(axis=0)) for name, array in image.items()}


def _photometry(transform: Any, image: FloatImage, *, seed: int) -> FloatImage:
    """Run a transform of pixel values; what is not valid is filled from its neighbours before, and NaN again after."""
    lost = ~np.isfinite(image).all(axis=0)
    if lost.all():
        return image
    rows, columns = ndimage.distance_transform_edt(lost, return_distances=False, return_indices=True)
    transform.set_random_seed(seed)
    filled = np.ascontiguousarray(image[:, rows, columns].transpose(1, 2, 0))
    out = np.asarray(np.atleast_3d(transform(image=filled)["image"]).transpose(2, 0, 1), dtype=np.float32)
    if out.shape != image.shape:
        raise AugmentationError(
            f"found a transform that turns shape {image.shape} into {out.shape}; wanted the same bands and pixels; "
            "take it out of `photometry`"
        )
    return np.where(lost, np.float32(np.nan), out)
