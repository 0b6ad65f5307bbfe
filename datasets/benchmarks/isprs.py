"""ISPRS Vaihingen and Potsdam: land cover of two towns in aerial images and heights.

Layout (isprs.org, 2D Semantic Labeling Contest). Vaihingen: ``top/top_mosaic_09cm_area1.tif`` (near infrared, red,
green, 8 bits), ``dsm/dsm_09cm_matching_area1.tif`` (height in m, float32), labels in ``gts_for_participants`` or,
from the complete ground truth, beside ``top``; about 2500 x 2000 px at 0.09 m. Potsdam:
``4_Ortho_RGBIR/top_potsdam_2_10_RGBIR.tif`` (red, green, blue, near infrared, 8 bits),
``1_DSM/dsm_potsdam_02_10.tif`` (height in m, float32), labels ``top_potsdam_2_10_label.tif`` in ``5_Labels_all`` or
beside; 6000 x 6000 px at 0.05 m. Labels are colours; black (files ``..._noBoundary``) is not labelled. Files may lack
a CRS, and some heights lack a column (Potsdam 03_13: 5999 px): all share the upper left corner, so that the rest is
not valid. Training and test areas are those of the contest.

torchgeo's Vaihingen2D and Potsdam2D know no heights, name Vaihingen's near infrared red, and drop the position; the
tests compare their lists, images and masks with ours on generated files.
"""

from pathlib import Path

from .delivery import Delivery, there
from .public_dataset import Chip, ChipGrid, LabelClass, LabelKind, PublicDataset
from .sensor_bands import numbers

#: Areas of the contest's training and test sets.
VAIHINGEN_AREAS = {
    "train": (1, 3, 5, 7, 11, 13, 15, 17, 21, 23, 26, 28, 30, 32, 34, 37),
    "test": (2, 4, 6, 8, 10, 12, 14, 16, 20, 22, 24, 27, 29, 31, 33, 35, 38),
}
#: The same of Potsdam.
POTSDAM_AREAS = {
    "train": (
        "2_10", "2_11", "2_12", "3_10", "3_11", "3_12", "4_10", "4_11", "4_12", "5_10", "5_11", "5_12", "6_7", "6_8",
        "6_9", "6_10", "6_11", "6_12", "7_7", "7_8", "7_9", "7_10", "7_11", "7_12",
    ),
    "test": (
        "2_13", "2_14", "3_13", "3_14", "4_13", "4_14", "4_15", "5_13", "5_14", "5_15", "6_13", "6_14", "6_15", "7_13",
    ),
}  # fmt: skip


def _find_vaihingen(delivery: Delivery, split: str) -> list[Chip]:
    images = delivery.folder("top", "ISPRS_semantic_labeling_Vaihingen/top")
    base = images.parent
    chips = []
    for area in VAIHINGEN_AREAS[split]:
        name = f"top_mosaic_09cm_area{area}"
        if not (images / f"{name}.tif").is_file():
            continue  # areas are delivered with the contest's two archives: what is not unpacked is left out
        files = there(eo=images / f"{name}.tif", dem=base / "dsm" / f"dsm_09cm_matching_area{area}.tif")
        folders = ("gts_for_participants", "gts", "gts_eroded_for_participants", ".")
        labels = [base / folder / f"{name}{end}.tif" for folder in folders for end in ("", "_noBoundary")]
        chips.append(_chip(delivery, split, str(area), files, labels))
    return chips


def _find_potsdam(delivery: Delivery, split: str) -> list[Chip]:
    images = delivery.folder("4_Ortho_RGBIR", "Potsdam/4_Ortho_RGBIR")
    base = images.parent
    chips = []
    for area in POTSDAM_AREAS[split]:
        name = f"top_potsdam_{area}"
        if not (images / f"{name}_RGBIR.tif").is_file():
            continue
        padded = "_".join(f"{int(part):02d}" for part in area.split("_"))
        files = there(eo=images / f"{name}_RGBIR.tif", dem=base / "1_DSM" / f"dsm_potsdam_{padded}.tif")
        folders = ("5_Labels_all", "5_Labels_for_participants", "5_Labels_all_noBoundary", ".")
        labels = [base / folder / f"{name}_label{end}.tif" for folder in folders for end in ("", "_noBoundary")]
        chips.append(_chip(delivery, split, area, files, labels))
    return chips


def _chip(delivery: Delivery, split: str, area: str, files: dict[str, Path], candidates: list[Path]) -> Chip:
    labels = next((path for path in candidates if path.is_file()), None)
    if labels is None:
        raise delivery.lacks(f"labels of area {area} ({candidates[0].name})")
    return Chip(id=area, split=split, group=area, files=files, labels=labels)


_CLASSES = (
    LabelClass(value=0, name="clutter/background", colour=(255, 0, 0)),
    LabelClass(value=1, name="impervious surfaces", colour=(255, 255, 255)),
    LabelClass(value=2, name="building", colour=(0, 0, 255)),
    LabelClass(value=3, name="low vegetation", colour=(0, 255, 255)),
    LabelClass(value=4, name="tree", colour=(0, 255, 0)),
    LabelClass(value=5, name="car", colour=(255, 255, 0)),
)

VAIHINGEN = PublicDataset(
    name="isprs-vaihingen",
    title="ISPRS Vaihingen: land cover in aerial images and heights, 33 areas at 0.09 m",
    licence="not stated as a licence: free for research on registration, with acknowledgement of the DGPF",
    obtain=(
        "unpack ISPRS_semantic_labeling_Vaihingen.zip and its ground truth, from "
        "https://www.isprs.org/education/benchmarks/UrbanSemLab (on registration)"
    ),
    citation="Rottensteiner et al., ISPRS Annals I-3, 2012",
    modalities=(numbers("eo", "nir", "red", "green", first_index=1), numbers("dem", "height", first_index=1)),
    classes=_CLASSES,
    label_kind=LabelKind.COLOURS,
    splits=("train", "test"),
    find=_find_vaihingen,
    grid=ChipGrid.CORNER,
)

POTSDAM = PublicDataset(
    name="isprs-potsdam",
    title="ISPRS Potsdam: land cover in aerial images and heights, 38 areas at 0.05 m",
    licence="not stated as a licence: free for research on registration, with acknowledgement of BSF Swissphoto",
    obtain=(
        "unpack 1_DSM.zip, 4_Ortho_RGBIR.zip and 5_Labels_all.zip, from "
        "https://www.isprs.org/education/benchmarks/UrbanSemLab (on registration)"
    ),
    citation="Rottensteiner et al., ISPRS Annals I-3, 2012",
    modalities=(numbers("eo", "red", "green", "blue", "nir", first_index=1), numbers("dem", "height", first_index=1)),
    classes=_CLASSES,
    label_kind=LabelKind.COLOURS,
    splits=("train", "test"),
    find=_find_potsdam,
    grid=ChipGrid.CORNER,
)
