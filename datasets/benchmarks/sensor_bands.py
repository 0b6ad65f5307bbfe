"""Bands that several benchmarks deliver alike: Sentinel-1 in decibels, Sentinel-2 as reflectance, 8-bit pictures."""

from ..modality import Band, Modality, Unit

#: The thirteen bands of Sentinel-2 level 1C, in the order of the product.
SENTINEL_2 = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12")


def sentinel_2(*names: str) -> Modality:
    """Return modality ``eo`` of Sentinel-2 numbers that are reflectance times 10000.

    Every set that this is used for was acquired before processing baseline 04.00 or harmonised to it: no offset.
    """
    bands = tuple(Band(name=name, unit=Unit.REFLECTANCE, scale=1e-4, offset=0.0) for name in names)
    return Modality(name="eo", bands=bands)


def sentinel_1_db() -> Modality:
    """Return modality ``sar`` of VV and VH backscatter (sigma nought) in dB."""
    return Modality(name="sar", bands=(Band(name="VV", unit=Unit.DB), Band(name="VH", unit=Unit.DB)))


def numbers(name: str, *bands: str, zero_is_data: bool = False, first_index: int | None = None) -> Modality:
    """Return a modality of numbers as stored: pictures stretched for display, heights, shares.

    Parameters
    ----------
    name, bands
        Names.
    zero_is_data
        Whether zero in every band is an observation; otherwise it is fill, unless the file states a nodata value.
    first_index
        1-based band of the file at which ``bands`` begin, for files that may hold more; None: the file holds these.
    """
    return Modality(
        name=name,
        bands=tuple(
            Band(
                name=band, unit=Unit.DIGITAL_NUMBER, scale=1.0, offset=0.0,
                nodata=float("nan") if zero_is_data else None,
                index=None if first_index is None else first_index + position,
            )
            for position, band in enumerate(bands)
        ),
    )  # fmt: skip
