"""SEN12MS: Sentinel-1, Sentinel-2 and MODIS land cover from all continents and seasons.

Layout (Schmitt et al. 2019, section 4; github.com/schmitt-muc/SEN12MS): a folder a season (``ROIs1158_spring``, ...),
in it ``s1_<scene>``, ``s2_<scene>``, ``lc_<scene>``, in them ``ROIs1158_spring_s1_1_p30.tif``; 256 x 256 px at 10 m
in UTM. S1 is VV, VH in dB (float32), S2 the 13 bands of level 1C times 10000 (uint16), lc four MODIS layers, of which
the first is the IGBP scheme, at 500 m, resampled. The lists ``train_list.txt`` and ``test_list.txt`` of that
repository's folder ``splits`` lie beside the seasons.

torchgeo's SEN12MS is not used: it asks for all four seasons (510 GB) to be there, drops the position, and joins the
sensors into one array. The tests compare it with ours on generated files.
"""

from dataclasses import replace

from ..stack import IGNORE
from .delivery import Delivery, there
from .land_cover import IGBP_CLASSES, SIMPLIFIED_CLASSES, SIMPLIFIED_OF_IGBP
from .public_dataset import Chip, PublicDataset
from .sensor_bands import SENTINEL_2, sentinel_1_db, sentinel_2


def _find(delivery: Delivery, split: str) -> list[Chip]:
    chips = []
    for line in delivery.lines(f"{split}_list.txt", f"splits/{split}_list.txt"):
        parts = delivery.name_of(line).removesuffix(".tif").split("_")
        if len(parts) != 5:
            raise delivery.lacks(f"usable name in '{line}' of {split}_list.txt (ROIs1158_spring_s1_1_p30.tif)")
        region, season, _, scene, patch = parts
        folder = delivery.root / f"{region}_{season}"
        if not folder.is_dir():
            continue  # 510 GB: many keep a season only
        place = {kind: folder / f"{kind}_{scene}" / f"{region}_{season}_{kind}_{scene}_{patch}.tif" for kind in _KINDS}
        chips.append(
            Chip(
                id=f"{region}_{season}_{scene}_{patch}", split=split, group=f"{region}_{season}_{scene}",
                files=there(eo=place["s2"], sar=place["s1"]), labels=delivery.required(place["lc"]),
            )
        )  # fmt: skip
    return chips


_KINDS = ("s1", "s2", "lc")

SEN12MS = PublicDataset(
    name="sen12ms",
    title="SEN12MS: 180,662 triplets of Sentinel-1, Sentinel-2 and MODIS land cover",
    licence="CC-BY-4.0",
    obtain=(
        "unpack ROIs*_{s1,s2,lc}.tar.gz of https://mediatum.ub.tum.de/1474000, and put train_list.txt and "
        "test_list.txt of github.com/schmitt-muc/SEN12MS beside the seasons"
    ),
    citation="Schmitt et al., SEN12MS, ISPRS Annals IV-2/W7, 2019",
    modalities=(sentinel_2(*SENTINEL_2), sentinel_1_db()),
    classes=IGBP_CLASSES,
    label_values={0: IGNORE, **{item.value: item.value for item in IGBP_CLASSES}},
    splits=("train", "test"),
    find=_find,
    georeferenced=True,
)

#: The same with the ten classes of DFC2020, so that one can be learned from and the other judged on.
SEN12MS_SIMPLIFIED = replace(
    SEN12MS,
    name="sen12ms-simplified",
    classes=SIMPLIFIED_CLASSES,
    label_values={0: IGNORE, **SIMPLIFIED_OF_IGBP},
)
