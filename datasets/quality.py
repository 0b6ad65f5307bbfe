"""Quality layers: cloud, shadow and fill as the products code them, brought to one small code."""

from enum import IntEnum, StrEnum

import numpy as np
from numpy.typing import NDArray


class Quality(IntEnum):
    """What a quality layer says of a pixel."""

    CLEAR = 0
    CLOUD = 1
    SHADOW = 2
    UNUSABLE = 3
    UNKNOWN = 255


class QualityScheme(StrEnum):
    """How the numbers of a quality raster are to be read."""

    SCL = "scl"
    QA_PIXEL = "qa_pixel"
    BQA = "bqa"
    QA60 = "qa60"
    MASK = "mask"
    CODES = "codes"


#: Sentinel-2 L2A scene classification (Sen2Cor ATBD, table of classes): class -> code; all others are clear.
_SCL = {
    0: Quality.UNUSABLE,  # no data
    1: Quality.UNUSABLE,  # saturated or defective
    3: Quality.SHADOW,
    8: Quality.CLOUD,  # medium probability
    9: Quality.CLOUD,  # high probability
    10: Quality.CLOUD,  # thin cirrus
}

#: Confidence "high" in the two-bit fields of Landsat's quality band before Collection 2.
_HIGH = 3


def decode_quality(values: NDArray[np.generic], scheme: QualityScheme) -> NDArray[np.uint8]:
    """Return `Quality` codes for the numbers of a product's quality raster.

    Parameters
    ----------
    values
        Integers of any shape, as stored.
    scheme
        ``scl``: Sentinel-2 scene classification; ``qa_pixel``: Landsat Collection 2 (bits 0 fill, 1 dilated cloud,
        2 cirrus, 3 cloud, 4 cloud shadow; USGS LSDS-1619, table 6-3); ``bqa``: Landsat 8 before collections (bit 0
        fill, 1 dropped frame, bits 12-13 cirrus and 14-15 cloud confidence); ``qa60``: Sentinel-2 bits 10 opaque cloud
        and 11 cirrus; ``mask``: nonzero is cloud; ``codes``: `Quality` codes, as Equipoise itself writes them.

    Returns
    -------
    uint8, same shape. Fill wins over cloud, cloud over shadow.
    """
    if scheme is QualityScheme.CODES:
        return values.astype(np.uint8)
    codes = np.zeros(values.shape, dtype=np.uint8)
    if scheme is QualityScheme.SCL:
        for number, code in _SCL.items():
            codes[values == number] = code
        return codes
    if scheme is QualityScheme.MASK:
        codes[values != 0] = Quality.CLOUD
        return codes
    bits = values.astype(np.uint32)
    if scheme is QualityScheme.QA60:
        codes[_any_bit(bits, 10, 11)] = Quality.CLOUD
        return codes
    if scheme is QualityScheme.QA_PIXEL:
        codes[_any_bit(bits, 4)] = Quality.SHADOW
        codes[_any_bit(bits, 1, 2, 3)] = Quality.CLOUD
        codes[_any_bit(bits, 0)] = Quality.UNUSABLE
        return codes
    codes[((bits >> 12) & 3 == _HIGH) | ((bits >> 14) & 3 == _HIGH)] = Quality.CLOUD
    codes[_any_bit(bits, 0, 1)] = Quality.UNUSABLE
    return codes


def _any_bit(bits: NDArray[np.uint32], *positions: int) -> NDArray[np.bool_]:
    return np.asarray(bits & np.uint32(sum(1 << position for position in positions)) != 0)
