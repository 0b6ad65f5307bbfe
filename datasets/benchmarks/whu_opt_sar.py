"""WHU-OPT-SAR: land use of Hubei, China, in Gaofen-1 optical and Gaofen-3 radar images.

Layout (github.com/AmberHen/WHU-OPT-SAR-dataset): ``optical``, ``sar``, ``lbl``, in each ``NH49E001013.tif`` (100 map
sheets of 5556 x 3704 px at 5 m, 8 bits); optical has four bands, which the publishers name RGB and near infrared,
radar one amplitude band; labels are 0 (not labelled) and 10 to 70 in steps of ten (github.com/yisun98/SOLC,
tools/SAR-optical/wos10/convert_label.py). The publishers fix no split: ``all`` gives every sheet. Copies that were
cut and split by others (``train``, ``val``, ``test``, each with ``opt`` or ``optical``, ``sar``, ``lbl``; labels 0 to
7; ``NH49E001013_1.tif``) are not told apart from these by their names: their labels are refused unless they are
multiples of ten. torchgeo has no reader of it.
"""

from ..stack import IGNORE
from .delivery import Delivery, there
from .public_dataset import Chip, LabelClass, PublicDataset
from .sensor_bands import numbers

_CLASSES = (
    ("farmland", (204, 102, 0)), ("city", (255, 0, 0)), ("village", (255, 255, 0)), ("water", (0, 0, 255)),
    ("forest", (85, 167, 0)), ("road", (93, 255, 255)), ("others", (152, 102, 153)),
)  # fmt: skip


def _find(delivery: Delivery, split: str) -> list[Chip]:
    within = "" if split == "all" else f"{'val' if split == 'validation' else split}/"
    labels = delivery.folder(f"{within}lbl", f"whu-opt-sar/{within}lbl")
    optical = next((place for name in ("optical", "opt") if (place := labels.parent / name).is_dir()), None)
    if optical is None:
        raise delivery.lacks(f"folder {within}optical or {within}opt")
    return [
        Chip(
            id=path.stem, split=split, group=path.stem.split("_")[0], labels=path,
            files=there(eo=optical / path.name, sar=labels.parent / "sar" / path.name),
        )
        for path in sorted(labels.glob("*.tif"))
    ]  # fmt: skip


WHU_OPT_SAR = PublicDataset(
    name="whu-opt-sar",
    title="WHU-OPT-SAR: land use of Hubei, 100 map sheets of Gaofen-1 and Gaofen-3",
    licence="not stated",
    obtain="follow the links of github.com/AmberHen/WHU-OPT-SAR-dataset and unpack optical, sar and lbl to one place",
    citation="Li et al., MCANet, Int. J. Applied Earth Observation and Geoinformation 106, 2022",
    modalities=(
        numbers("eo", "red", "green", "blue", "nir", first_index=1), numbers("sar", "amplitude", first_index=1)
    ),
    classes=tuple(
        LabelClass(value=value, name=name, colour=colour) for value, (name, colour) in enumerate(_CLASSES, start=1)
    ),
    label_values={0: IGNORE, **{10 * value: value for value in range(1, 8)}},
    splits=("all", "train", "validation", "test"),
    find=_find,
)  # fmt: skip
