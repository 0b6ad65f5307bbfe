"""The flood chips in memory, at 20 m."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray

Image = NDArray[np.float32]

MODALITIES = ("eo", "sar")
#: SWIR, NIR and green, then VV; each after the flood, then before it.
BANDS = {"eo": 6, "sar": 2}
PIXEL_M = 20.0

#: Each chip's radar is stretched to its own lowest and highest value, by a factor that its compiler did not keep. The
#: values are spread as decibels are; 30 dB from 0 to 1 is our assumption wherever linear power is needed.
SPAN_DB = 30.0
_LEAST_POWER = 1e-3


@dataclass(frozen=True, kw_only=True)
class Chips:
    """Chips of one size, in the order of their numbers.

    Attributes
    ----------
    number
        int (chip,), the compiler's.
    test
        bool (chip,), the compiler's test split.
    image
        Per modality float32 (chip, band, y, x), 0 to 1 from 8-bit display values.
    flooded
        bool (chip, y, x).
    edges
        float32 (chip, side, band, pixel): top, bottom, left and right border of the optical image before the flood, as
        delivered.
    """

    number: NDArray[np.int64]
    test: NDArray[np.bool_]
    image: dict[str, Image]
    flooded: NDArray[np.bool_]
    edges: Image


def read_chips(folder: Path) -> Chips:
    """Read all chips.

    Optical bands and radar, as linear power, are means of 2 x 2 pixels; a pixel is flooded where more than half is.

    Parameters
    ----------
    folder
        With ``OmbriaS1`` and ``OmbriaS2``.

    Returns
    -------
    Chips
        256 px of 10 m become 128 px of 20 m.

    Raises
    ------
    FileNotFoundError
        The folder holds no masks.
    """
    found = {
        int(mask.stem.rsplit("_", 1)[1]): (split, mask)
        for split in ("train", "test")
        for mask in (folder / "OmbriaS1" / split / "MASK").glob("*.png")
    }
    if not found:
        raise FileNotFoundError(f"found no mask below {folder}; wanted OmbriaS1/train/MASK/*.png; set EQUIPOISE_DATA")
    numbers = sorted(found)
    eo, sar, flooded, edges = [], [], [], []
    for number in numbers:
        split, mask = found[number]
        optical, radar = (
            np.concatenate([
                _read(folder / f"Ombria{kind}" / split / date / f"{kind}_{date.lower()}_{number:04d}.png")
                for date in ("AFTER", "BEFORE")
            ]) / np.float32(255)
            for kind in ("S2", "S1")
        )  # fmt: skip
        eo.append(halved(optical))
        sar.append(decibels(halved(power(radar))))
        flooded.append(halved((_read(mask) > 127).astype(np.float32))[0] > 0.5)
        before = optical[3:]
        edges.append(np.stack([before[:, 0], before[:, -1], before[:, :, 0], before[:, :, -1]]))
    return Chips(
        number=np.array(numbers), test=np.array([found[number][0] == "test" for number in numbers]),
        image={"eo": np.stack(eo), "sar": np.stack(sar)}, flooded=np.stack(flooded), edges=np.stack(edges),
    )  # fmt: skip


def halved(image: Image) -> Image:
    """Return means of 2 x 2 pixels of (band, y, x)."""
    bands, rows, columns = image.shape
    return np.asarray(image.reshape(bands, rows // 2, 2, columns // 2, 2).mean(axis=(2, 4)), dtype=np.float32)


def power(shown: Image) -> Image:
    """Return linear power, up to a factor, of radar values on the display range."""
    return np.asarray(np.power(np.float32(10), np.float32(SPAN_DB / 10) * shown), dtype=np.float32)


def decibels(linear: Image) -> Image:
    """Undo :func:`power`; what is darker than 30 dB below the range is cut off there."""
    return np.asarray(np.log10(np.maximum(linear, _LEAST_POWER)) / (SPAN_DB / 10), dtype=np.float32)


def _read(path: Path) -> NDArray[np.uint8]:
    with rasterio.open(path) as source:
        values: NDArray[np.uint8] = source.read()
    return values
