"""BRIGHT: building damage from an optical image before and a radar image after a disaster.

Layout (github.com/ChenHongruixuan/BRIGHT, README.md): ``pre-event``, ``post-event``, ``target`` with
``bata-explosion_00000000_pre_disaster.tif``, ``..._post_disaster.tif``, ``..._building_damage.tif``, 1024 x 1024 px
at 0.3 to 1 m, 8 bits: three optical bands (Maxar, NAIP, NOAA, PNOA), one radar amplitude band (Capella, Umbra),
damage 0 to 3. The lists ``train_set.txt``, ``val_set.txt``, ``test_set.txt`` of that repository's
``bda_benchmark/dataset/splitname/standard_ML`` lie beside the folders. The 2025 Data Fusion Contest's packing
(``dfc25_track2_trainval`` with ``train`` and ``val`` folders and ``train_setlevel.txt``, ``holdout_setlevel.txt``,
``val_setlevel.txt``; the last without labels) is read too. Optical images of Ukraine, Myanmar and Mexico may not be
passed on: such chips come with radar alone.

torchgeo's BRIGHTDFC2025 knows the contest's packing only, stacks the radar band three times into one array with the
optical ones, drops the position, and unpacks archives on the quiet. The tests compare it with ours on generated
files.
"""

from pathlib import Path

from .delivery import Delivery, there
from .public_dataset import Chip, LabelClass, PublicDataset
from .sensor_bands import numbers

_LISTS = {"train": "train_set.txt", "validation": "val_set.txt", "test": "test_set.txt"}
_CONTEST_LISTS = {"train": "train_setlevel.txt", "validation": "holdout_setlevel.txt", "test": "val_setlevel.txt"}
_LIST_FOLDERS = ("", "standard_ML/", "splitname/standard_ML/")


def _find(delivery: Delivery, split: str) -> list[Chip]:
    contest = next((base for base in ("dfc25_track2_trainval/", "") if _has(delivery, base, split)), None)
    if contest is not None:
        base = delivery.root / contest / ("val" if split == "test" else "train")
        names = delivery.lines(contest + _CONTEST_LISTS[split])
        return [_chip(delivery, base, name, split, is_labelled=split != "test") for name in names]
    base = delivery.folder("post-event").parent
    names = delivery.lines(*(folder + _LISTS[split] for folder in _LIST_FOLDERS))
    return [_chip(delivery, base, name, split, is_labelled=True) for name in names]


def _has(delivery: Delivery, base: str, split: str) -> bool:
    return (delivery.root / base / _CONTEST_LISTS[split]).is_file()


def _chip(delivery: Delivery, base: Path, line: str, split: str, *, is_labelled: bool) -> Chip:
    name = delivery.name_of(line).removesuffix(".tif")
    labels = base / "target" / f"{name}_building_damage.tif"
    return Chip(
        id=name, split=split, group=name.rsplit("_", 1)[0],
        files=there(
            eo=base / "pre-event" / f"{name}_pre_disaster.tif", sar=base / "post-event" / f"{name}_post_disaster.tif"
        ),
        labels=delivery.required(labels) if is_labelled else None,
    )  # fmt: skip


BRIGHT = PublicDataset(
    name="bright",
    title="BRIGHT: building damage of 14 disasters, optical before and radar after",
    licence="stated differently: CC-BY-SA-4.0 (publishers' card), CC-BY-4.0 and CC-BY-NC-4.0 (by source of the image)",
    obtain=(
        "unpack https://zenodo.org/records/14619797 into pre-event, post-event and target, and put the lists of "
        "bda_benchmark/dataset/splitname/standard_ML of github.com/ChenHongruixuan/BRIGHT beside them"
    ),
    citation="Chen et al., BRIGHT, Earth System Science Data 17, 2025",
    modalities=(numbers("eo", "red", "green", "blue"), numbers("sar", "amplitude", first_index=1)),
    classes=(
        LabelClass(value=0, name="background", colour=(255, 255, 255)),
        LabelClass(value=1, name="intact", colour=(70, 181, 121)),
        LabelClass(value=2, name="damaged", colour=(228, 189, 139)),
        LabelClass(value=3, name="destroyed", colour=(182, 70, 69)),
    ),
    splits=("train", "validation", "test"),
    find=_find,
)
