"""Variants of the oracle scene: which modalities there are, and what of a cell's hidden state each one shows."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Variant:
    """A way in which information is divided over modalities.

    The state of a cell is uniform over ``range(len(class_of))``. Modalities are independent given the state, apart from
    copies.

    Attributes
    ----------
    classes
        Class names.
    class_of
        Class of each state.
    modalities
        Name -> kind of sensor, in the order of the columns of ``available``.
    shows
        Name -> per state the appearance (a position in ``sensors.CLASSES``) that the modality shows.
    copies
        Name -> name of the modality of which it delivers the same pixels.
    """

    classes: tuple[str, ...]
    class_of: tuple[int, ...]
    modalities: Mapping[str, str]
    shows: Mapping[str, tuple[int, ...]]
    copies: Mapping[str, str]


_LAND = ("water", "forest", "crop", "urban", "bare")
_SAME = (0, 1, 2, 3, 4)

VARIANTS: dict[str, Variant] = {
    "standard": Variant(
        classes=_LAND,
        class_of=_SAME,
        modalities={"eo": "optical", "sar": "radar", "ir": "thermal"},
        shows={"eo": _SAME, "sar": _SAME, "ir": _SAME},
        copies={},
    ),
    "twin": Variant(
        classes=_LAND,
        class_of=_SAME,
        modalities={"eo": "optical", "eo_twin": "optical", "sar": "radar"},
        shows={"eo": _SAME, "eo_twin": _SAME, "sar": _SAME},
        copies={"eo_twin": "eo"},
    ),
    # State = 2 a + b; EO shows a as water or bare soil, SAR shows b as water or town; the class is a XOR b.
    "xor": Variant(
        classes=("alike", "different"),
        class_of=(0, 1, 1, 0),
        modalities={"eo": "optical", "sar": "radar"},
        shows={"eo": (0, 0, 4, 4), "sar": (0, 3, 0, 3)},
        copies={},
    ),
    # State = 2 class + a; IR shows only a, as cold or hot: plain to see, and of no use.
    "irrelevant_ir": Variant(
        classes=_LAND,
        class_of=(0, 0, 1, 1, 2, 2, 3, 3, 4, 4),
        modalities={"eo": "optical", "sar": "radar", "ir": "thermal"},
        shows={"eo": (0, 0, 1, 1, 2, 2, 3, 3, 4, 4), "sar": (0, 0, 1, 1, 2, 2, 3, 3, 4, 4), "ir": (0, 4) * 5},
        copies={},
    ),
}
