"""OpenEarthMap-SAR: land cover below a metre from Umbra radar and aerial images.

Layout (Zenodo 14622048, as unpacked for track 1 of the 2025 Data Fusion Contest;
github.com/cliffbb/DFC2025-OEM-SAR-Baseline, source/dataset.py): ``train`` with ``rgb_images``, ``sar_images`` and
``labels``, in each ``TrainArea_003.tif``; ``val`` and ``test`` with ``sar_images``, and ``labels`` where the label
archives that were published later are unpacked there. 1024 x 1024 px at 0.15 to 0.5 m, 8 bits; radar is the amplitude
of one polarisation (VV or HH, the files do not say which), stretched for display. Labels are 1 to 8, 0 is not
labelled; those for training were predicted from the optical images, and bare land in them is hardly ever right (Xia
et al. 2025, table III). torchgeo has no reader of it.
"""

from ..stack import IGNORE
from .delivery import Delivery, there
from .public_dataset import Chip, LabelClass, PublicDataset
from .sensor_bands import numbers

_FOLDERS = {"train": "train", "validation": "val", "test": "test"}
_CLASSES = (
    ("bareland", (128, 0, 0)), ("rangeland", (0, 255, 36)), ("developed space", (148, 148, 148)),
    ("road", (255, 255, 255)), ("tree", (34, 97, 38)), ("water", (0, 69, 255)), ("agriculture land", (75, 181, 73)),
    ("building", (222, 31, 7)),
)  # fmt: skip


def _find(delivery: Delivery, split: str) -> list[Chip]:
    part = _FOLDERS[split]
    base = delivery.folder(part, f"dfc25_track1_trainval/{part}", f"dfc25_track1_{part}")
    chips = []
    for radar in sorted((base / "sar_images").glob("*.tif")):
        labels = base / "labels" / radar.name
        if split == "train":
            delivery.required(labels)
        chips.append(
            Chip(
                id=radar.stem, split=split, files=there(eo=base / "rgb_images" / radar.name, sar=radar),
                labels=labels if labels.is_file() else None,
            )
        )  # fmt: skip
    return chips


OPENEARTHMAP_SAR = PublicDataset(
    name="openearthmap-sar",
    title="OpenEarthMap-SAR: land cover of 35 regions, 5033 images of radar and aerial optical",
    licence="see the Zenodo record; imagery under the terms of Umbra, GSI, IGN and NAIP",
    obtain="unpack dfc25_track1_trainval.zip of https://zenodo.org/records/14622048",
    citation="Xia et al., OpenEarthMap-SAR, arXiv:2501.10891, 2025",
    modalities=(numbers("eo", "red", "green", "blue"), numbers("sar", "amplitude", first_index=1)),
    classes=tuple(
        LabelClass(value=value, name=name, colour=colour) for value, (name, colour) in enumerate(_CLASSES, start=1)
    ),
    label_values={0: IGNORE, **{value: value for value in range(1, 9)}},
    splits=("train", "validation", "test"),
    find=_find,
)
