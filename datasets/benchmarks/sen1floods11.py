"""Sen1Floods11: surface water of eleven floods, labelled by hand, in Sentinel-1 and Sentinel-2.

Layout (github.com/cloudtostreet/Sen1Floods11, docs/README.md, version 1.1): ``data/flood_events/HandLabeled`` with
the folders ``S1Hand`` (VV, VH in dB, float32), ``S2Hand`` (13 bands of level 1C, reflectance * 10000, int16) and
``LabelHand`` (-1 not labelled, 0 no water, 1 water, int16), 512 x 512 px at 10 m in EPSG:4326, and the lists of
splits in ``splits/flood_handlabeled/flood_{train,valid,test,bolivia}_data.csv`` (S1 file, label file; no header).
Split ``sample`` is the sample in that repository, and in copies of it: folders ``S1``, ``S2``, ``Labels`` without
lists. torchgeo 0.8 has no reader of it (its CopernicusBench holds another cut of the data, without Sentinel-2).
"""

from pathlib import Path

from ..stack import IGNORE
from .delivery import Delivery, there
from .public_dataset import Chip, LabelClass, PublicDataset
from .sensor_bands import SENTINEL_2, sentinel_1_db, sentinel_2

_LISTS = {"train": "train", "validation": "valid", "test": "test", "bolivia": "bolivia"}


def _find(delivery: Delivery, split: str) -> list[Chip]:
    if split == "sample":
        folder = delivery.folder("Labels").parent
        names = sorted(path.name.removesuffix("_LabelHand.tif") for path in (folder / "Labels").glob("*_LabelHand.tif"))
        return [_chip(name, split, folder / "S2", folder / "S1", folder / "Labels") for name in names]
    base = delivery.folder("data/flood_events/HandLabeled", "v1.1/data/flood_events/HandLabeled", "HandLabeled")
    listed = f"splits/flood_handlabeled/flood_{_LISTS[split]}_data.csv"
    chips = []
    for line in delivery.lines(listed, f"v1.1/{listed}", Path(listed).name):
        name = delivery.name_of(line.split(",")[0]).removesuffix("_S1Hand.tif")
        delivery.required(base / "LabelHand" / f"{name}_LabelHand.tif")
        chips.append(_chip(name, split, base / "S2Hand", base / "S1Hand", base / "LabelHand"))
    return chips


def _chip(name: str, split: str, optical: Path, radar: Path, labels: Path) -> Chip:
    return Chip(
        id=name, split=split, group=name.split("_")[0], labels=labels / f"{name}_LabelHand.tif",
        files=there(eo=optical / f"{name}_S2Hand.tif", sar=radar / f"{name}_S1Hand.tif"),
    )  # fmt: skip


SEN1FLOODS11 = PublicDataset(
    name="sen1floods11",
    title="Sen1Floods11: surface water of eleven floods, 446 chips labelled by hand",
    licence="not stated for the labels; imagery: Copernicus Sentinel, free, full and open",
    obtain="copy gs://sen1floods11/v1.1 (folders data/flood_events/HandLabeled and splits) to one place",
    citation="Bonafilia et al., Sen1Floods11, CVPR Workshops 2020",
    modalities=(sentinel_2(*SENTINEL_2), sentinel_1_db()),
    classes=(
        LabelClass(value=0, name="no water", colour=(214, 205, 173)),
        LabelClass(value=1, name="water", colour=(31, 120, 180)),
    ),
    label_values={-1: IGNORE, 0: 0, 1: 1},
    splits=("train", "validation", "test", "bolivia", "sample"),
    find=_find,
    georeferenced=True,
)
