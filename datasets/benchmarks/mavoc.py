"""MAVOC: vehicle types in small optical and radar chips (NTIRE/PBVS challenge, from AFRL's UNICORN 2008 flights).

Layout (as the teams of 2022 to 2025 describe it, since the challenge publishes none): ``EO_Train`` and ``SAR_Train``,
in each a folder a class (``sedan``, ``box_truck``, ..., or the number 0 to 9 of 2021), in them PNG of about 31 x 31
px (EO) and 55 x 55 px (SAR), 8 bits, grey. Both chips of a vehicle have the same name, or names that differ by ``EO``
and ``SAR`` only. Neither has a position; that they show the same square of ground is not stated, so that they are
stretched to one size only where ``common_size`` asks for it. The chips for testing have no labels and are not read.
torchgeo has no reader of it.
"""

import re
from pathlib import Path

from .delivery import Delivery
from .public_dataset import Chip, ChipGrid, LabelClass, PublicDataset, Task
from .sensor_bands import numbers

_CLASSES = (
    ("sedan", (31, 119, 180)), ("SUV", (255, 127, 14)), ("pickup_truck", (44, 160, 44)), ("van", (214, 39, 40)),
    ("box_truck", (148, 103, 189)), ("motorcycle", (140, 86, 75)), ("flatbed_truck", (227, 119, 194)),
    ("bus", (127, 127, 127)), ("pickup_truck_w_trailer", (188, 189, 34)), ("semi_w_trailer", (23, 190, 207)),
)  # fmt: skip

#: Names of one class that differ between the years.
_ALSO = {"pickup_truck_w_semi": 8, "flatbed_truck_w_trailer": 9, "semi_truck_w_trailer": 9}


def _find(delivery: Delivery, split: str) -> list[Chip]:
    places = ("", f"{split}/", "Unicorn_Dataset/", f"Unicorn_Dataset/{split}/")
    optical = delivery.folder(*(f"{place}EO_Train" for place in places))
    radar = delivery.folder(*(f"{place}SAR_Train" for place in places))
    chips: list[Chip] = []
    names = {path.name for folder in (optical, radar) for path in folder.iterdir() if path.is_dir()}
    for name in sorted(names):
        pairs: dict[str, dict[str, Path]] = {}
        for modality, folder in (("eo", optical), ("sar", radar)):
            for path in sorted((folder / name).glob("*.png")):
                pairs.setdefault(re.sub(r"^(EO|SAR)_?", "", path.stem), {})[modality] = path
        value = _class(delivery, name)
        chips.extend(
            Chip(id=f"{name}/{number}", split=split, files=files, label=value) for number, files in pairs.items()
        )
    return chips


def _class(delivery: Delivery, folder: str) -> int:
    known = {name.lower(): value for value, (name, _) in enumerate(_CLASSES)} | _ALSO
    known |= {str(value): value for value in range(len(_CLASSES))}
    if folder.lower() not in known:
        raise delivery.lacks(f"class of the name '{folder}' (classes are {', '.join(name for name, _ in _CLASSES)})")
    return known[folder.lower()]


MAVOC = PublicDataset(
    name="mavoc",
    title="MAVOC: ten vehicle types in pairs of small optical and radar chips",
    licence="not stated (challenge participants only; UNICORN 2008 itself is a release of the US Air Force)",
    obtain=(
        "register for the PBVS challenge on multi-modal aerial view object classification, and unpack EO_Train and "
        "SAR_Train"
    ),
    citation="Low et al., Multi-modal Aerial View Object Classification Challenge, CVPR Workshops 2022",
    modalities=(
        numbers("eo", "grey", zero_is_data=True, first_index=1),
        numbers("sar", "amplitude", zero_is_data=True, first_index=1),
    ),
    classes=tuple(LabelClass(value=value, name=name, colour=colour) for value, (name, colour) in enumerate(_CLASSES)),
    task=Task.CLASSIFICATION,
    splits=("train",),
    find=_find,
    grid=ChipGrid.OWN,
)
