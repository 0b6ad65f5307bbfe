"""DFC2020: land cover at 10 m for judging what was learned from SEN12MS.

Layout (IEEE DataPort, 2020 Data Fusion Contest; github.com/lukasliebel/dfc2020_baseline, code/datasets.py): folders
``ROIs0000_validation`` (986 chips) and ``ROIs0000_test`` (5128), in each ``s1_0``, ``s2_0``, ``lc_0`` and ``dfc_0``
(or ``s1_validation``, ...), in them ``ROIs0000_test_dfc_0_p609.tif``; 256 x 256 px at 10 m. S1 and S2 are as in
SEN12MS; dfc is the label, 1 to 10 of the simplified IGBP scheme, of which savanna and snow do not occur. The
contest's training data are SEN12MS. torchgeo 0.8 has only CopernicusBench's cut of it, one sensor at a time, so that
there is nothing to take over.
"""

from ..stack import IGNORE
from .delivery import Delivery, there
from .land_cover import SIMPLIFIED_CLASSES
from .public_dataset import Chip, PublicDataset
from .sensor_bands import SENTINEL_2, sentinel_1_db, sentinel_2


def _find(delivery: Delivery, split: str) -> list[Chip]:
    base = f"ROIs0000_{split}"

    def place(kind: str) -> str:
        folder = delivery.folder(f"{base}/{kind}_0", f"{base}/{kind}_{split}", f"{kind}_0", f"{kind}_{split}")
        return str(folder.relative_to(delivery.root))

    labels = delivery.root / place("dfc")
    radar, optical = delivery.root / place("s1"), delivery.root / place("s2")
    chips = []
    for path in sorted(labels.glob(f"{base}_dfc_*_p*.tif"), key=lambda file: (len(file.name), file.name)):
        radar_name, optical_name = (path.name.replace("_dfc_", f"_{kind}_") for kind in ("s1", "s2"))
        chips.append(
            Chip(
                id=path.stem.replace("_dfc_", "_"), split=split, labels=path,
                files=there(eo=optical / optical_name, sar=radar / radar_name),
            )
        )  # fmt: skip
    return chips


DFC2020 = PublicDataset(
    name="dfc2020",
    title="DFC2020: 6114 chips of Sentinel-1, Sentinel-2 and land cover at 10 m",
    licence="see IEEE DataPort (registration)",
    obtain="unpack the validation and test archives of https://ieee-dataport.org/competitions/2020-ieee-grss-data-fusion-contest",
    citation="Yokoya et al., 2020 IEEE GRSS Data Fusion Contest, IEEE GRSM 8(1), 2020",
    modalities=(sentinel_2(*SENTINEL_2), sentinel_1_db()),
    classes=SIMPLIFIED_CLASSES,
    label_values={0: IGNORE, **{item.value: item.value for item in SIMPLIFIED_CLASSES}},
    splits=("validation", "test"),
    find=_find,
)
