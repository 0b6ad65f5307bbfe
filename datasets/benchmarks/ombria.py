"""OMBRIA: flood extent from Sentinel-1 and Sentinel-2 before and after the flood.

Layout (github.com/geodrak/OMBRIA, README.md): ``OmbriaS1`` and ``OmbriaS2``, each with ``train`` and ``test``, each
with ``BEFORE``, ``AFTER`` and ``MASK``; ``S1_after_0013.png`` and so on, 256 x 256 px, 8 bits, without a position,
nominally at 10 m. Radar is VV, optical B11, B8, B3. The masks of both sensors are the same. Each radar picture was
stretched on its own from its least to its greatest value: radiometry between chips is lost, and zero is the darkest
pixel rather than fill. The split is the compiler's and random: it shares events, which the files do not name.
torchgeo has no reader of it.
"""

from .delivery import Delivery, there
from .public_dataset import Chip, LabelClass, PublicDataset
from .sensor_bands import numbers

_OPTICAL, _RADAR = ("B11", "B8", "B3"), ("VV",)


def _find(delivery: Delivery, split: str) -> list[Chip]:
    radar = delivery.folder(f"OmbriaS1/{split}")
    optical = delivery.root / "OmbriaS2" / split
    masks = delivery.folder(f"OmbriaS1/{split}/MASK", f"OmbriaS2/{split}/MASK")
    chips = []
    for mask in sorted(masks.glob("S?_mask_*.png")):
        number = mask.stem.rsplit("_", 1)[1]
        files = there(
            eo=optical / "AFTER" / f"S2_after_{number}.png", sar=radar / "AFTER" / f"S1_after_{number}.png",
            eo_before=optical / "BEFORE" / f"S2_before_{number}.png",
            sar_before=radar / "BEFORE" / f"S1_before_{number}.png",
        )  # fmt: skip
        chips.append(Chip(id=number, split=split, files=files, labels=mask))
    return chips


OMBRIA = PublicDataset(
    name="ombria",
    title="OMBRIA: flood extent before and after, 844 chips",
    licence="not stated by the compiler; imagery and masks: Copernicus, free, full and open",
    obtain="clone github.com/geodrak/OMBRIA and unpack OmbriaS1 and OmbriaS2",
    citation="Drakonakis et al., OmbriaNet, IEEE JSTARS 2022",
    modalities=(
        numbers("eo", *_OPTICAL), numbers("sar", *_RADAR, zero_is_data=True), numbers("eo_before", *_OPTICAL),
        numbers("sar_before", *_RADAR, zero_is_data=True),
    ),
    classes=(
        LabelClass(value=0, name="not flooded", colour=(214, 205, 173)),
        LabelClass(value=1, name="flooded", colour=(31, 120, 180)),
    ),
    label_values={0: 0, 255: 1},
    splits=("train", "test"),
    find=_find,
)  # fmt: skip
