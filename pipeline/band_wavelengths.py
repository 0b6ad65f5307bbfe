"""Wavelengths of the bands, for encoders that tell bands apart by them."""

from collections.abc import Sequence

from ..datasets.modality import Modality
from ..models.foundation import BY_WAVELENGTH, FOUNDATION
from .errors import PipelineError
from .stage_options import TrainOptions

#: How a network's description writes the polarisation of a radar band.
POLARISATIONS = {"VV": -1.0, "VH": -2.0, "HH": -3.0, "HV": -4.0}


def band_wavelengths(modalities: Sequence[Modality], options: TrainOptions) -> tuple[float, ...]:
    """Return what :class:`~equipoise.models.spec.NetworkSpec` keeps of them.

    Parameters
    ----------
    modalities
        In the network's order.
    options
        Encoders, and centres of bands in nm.

    Returns
    -------
    tuple of float
        One number a band, modality after modality: nm, or a negative one for a polarisation; 0 where no encoder asks
        for it. Empty where none does.

    Raises
    ------
    PipelineError
        An encoder needs wavelengths that are not given, or there are more or fewer of them than bands.
    """
    found: list[float] = []
    for item in modalities:
        name = options.encoder if isinstance(options.encoder, str) else options.encoder[item.name]
        asked = name in FOUNDATION and FOUNDATION[name].family in BY_WAVELENGTH
        found += _of(item, options.wavelengths_nm.get(item.name), encoder=name) if asked else [0.0] * len(item.bands)
    return tuple(found) if any(found) else ()


def _of(item: Modality, given: Sequence[float] | None, *, encoder: str) -> list[float]:
    if given is None:
        given = [POLARISATIONS.get(band.name.upper(), 0.0) if band.is_backscatter else 0.0 for band in item.bands]
        known = all(given)
    else:
        known = len(given) == len(item.bands) and all(value > 0 for value in given)
    if not known:
        raise PipelineError(
            f"found no wavelength, or not one a band, of modality '{item.name}' ({', '.join(item.band_names)}) for "
            f"encoder {encoder}; wanted nm above 0, in the order of the bands, or radar bands named VV, VH, HH or HV; "
            f"give train.wavelengths_nm.{item.name}"
        )
    return list(given)
