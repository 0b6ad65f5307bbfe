"""MCubeS: materials of street scenes in colour, polarisation and near infrared.

Layout (github.com/kyotovision-public/multimodal-material-segmentation, README.md): ``polL_color`` and ``NIR_warped``
(PNG), ``polL_aolp_sin``, ``polL_aolp_cos``, ``polL_dolp`` (NumPy, float), ``NIR_warped_mask`` (white where there is
no near infrared), ``GT`` (PNG, 0 to 19, 255 not labelled), ``list_folder/{train,val,test}.txt``; names such as
``outscene1208_2_0000000150``, 1224 x 1024 px. Not from above, but the one open set with polarisation. The authors
leave out the 192 leftmost columns, which the infrared camera does not see; here the mask alone says so. torchgeo has
no reader of it.
"""

from .delivery import Delivery, there
from .public_dataset import Chip, LabelClass, PublicDataset
from .sensor_bands import numbers

_LISTS = {"train": "train", "validation": "val", "test": "test"}
_CLASSES = (
    ("asphalt", (44, 160, 44)), ("concrete", (31, 119, 180)), ("metal", (255, 127, 14)),
    ("road marking", (214, 39, 40)), ("fabric, leather", (140, 86, 75)), ("glass", (127, 127, 127)),
    ("plaster", (188, 189, 34)), ("plastic", (255, 152, 150)), ("rubber", (23, 190, 207)), ("sand", (174, 199, 232)),
    ("gravel", (196, 156, 148)), ("ceramic", (197, 176, 213)), ("cobblestone", (247, 182, 210)),
    ("brick", (199, 199, 199)), ("grass", (219, 219, 141)), ("wood", (158, 218, 229)), ("leaf", (57, 59, 121)),
    ("water", (107, 110, 207)), ("human body", (156, 158, 222)), ("sky", (99, 121, 57)),
)  # fmt: skip


def _find(delivery: Delivery, split: str) -> list[Chip]:
    base = delivery.folder("polL_color", "multimodal_dataset/polL_color").parent
    listed = f"list_folder/{_LISTS[split]}.txt"
    chips = []
    for line in delivery.lines(listed, f"multimodal_dataset/{listed}"):
        name = delivery.name_of(line)
        angle = {part: base / f"polL_aolp_{part}" / f"{name}.npy" for part in ("sin", "cos")}
        files = dict(there(eo=base / "polL_color" / f"{name}.png", ir=base / "NIR_warped" / f"{name}.png"))
        degree = there(dolp=base / "polL_dolp" / f"{name}.npy")
        chips.append(
            Chip(
                id=name, split=split, group=name.rsplit("_", 1)[0],
                files={**files, **degree, **({"aolp": angle} if all(p.is_file() for p in angle.values()) else {})},
                masks=there(ir=base / "NIR_warped_mask" / f"{name}.png"),
                labels=delivery.required(base / "GT" / f"{name}.png"),
            )
        )  # fmt: skip
    return chips


MCUBES = PublicDataset(
    name="mcubes",
    title="MCubeS: materials of street scenes, 500 images of colour, polarisation and near infrared",
    licence="not stated",
    obtain=(
        "unpack multimodal_dataset.zip, linked from github.com/kyotovision-public/multimodal-material-segmentation"
    ),
    citation="Liang et al., Multimodal Material Segmentation, CVPR 2022",
    modalities=(
        numbers("eo", "red", "green", "blue", zero_is_data=True), numbers("aolp", "sin", "cos", zero_is_data=True),
        numbers("dolp", "degree", zero_is_data=True), numbers("ir", "nir", zero_is_data=True, first_index=1),
    ),
    classes=tuple(LabelClass(value=value, name=name, colour=colour) for value, (name, colour) in enumerate(_CLASSES)),
    splits=("train", "validation", "test"),
    find=_find,
)  # fmt: skip
