"""SEN12 Global Urban Mapping: built-up land in Sentinel-1 and Sentinel-2, labelled in North America, tested elsewhere.

Layout (Zenodo 6914898; github.com/SebastianHafner/DDA_UrbanExtraction, utils/datasets.py and preprocessing.py): a
folder a site with ``samples.json`` (patch numbers, whether labelled) and the folders ``sentinel1``, ``sentinel2``,
``buildings``, in them ``sentinel1_atlanta_0000000000-0000000256.tif``, 256 x 256 px at 10 m; for testing ``sn7`` (or
``spacenet7``) with the same folders, and ``samples.json`` with ``aoi_id`` and ``group_names`` (regions), 60 sites. S1
is VV, VH; S2 ten bands of level 1C; labels are the share of buildings in a pixel, where anything above zero is
built-up.

The authors' code raises both sensors' numbers to powers and clips them to 0 and 1: they are rescaled. By which range
radar was rescaled the files do not say, hence ``digital_number``. Four labelled sites validate, as in their
configuration (configs/base.yaml); ``unlabelled`` are the sites whose ``samples.json`` says so. torchgeo has no reader
of it.
"""

from typing import Any

from ..modality import Band, Modality, Unit
from .delivery import Delivery, there
from .public_dataset import Chip, LabelClass, LabelKind, PublicDataset
from .sensor_bands import numbers

_VALIDATION = ("calgary", "newyork", "sanfrancisco", "vancouver")
_TEST = ("sn7", "spacenet7")
_OPTICAL = ("B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B11", "B12")


def _find(delivery: Delivery, split: str) -> list[Chip]:
    if split == "test":
        site = delivery.folder(*_TEST)
        content = delivery.json(site / "samples.json")
        named = content.get("group_names")
        regions = named if isinstance(named, dict) else {}
        return [_chip(delivery, site.name, str(sample.get("aoi_id")), split, is_labelled=True,
                      group=str(regions.get(str(sample.get("group")), sample.get("aoi_id"))), prefix="")
                for sample in _samples(delivery, content)]  # fmt: skip
    chips = []
    delivery.folder("")
    for site in sorted(path.parent for path in delivery.root.glob("*/samples.json")):
        if site.name in _TEST or (site.name in _VALIDATION) != (split == "validation"):
            continue
        for sample in _samples(delivery, delivery.json(site / "samples.json")):
            is_labelled = bool(sample.get("is_labeled"))
            if is_labelled == (split == "unlabelled"):
                continue
            number = str(sample.get("patch_id"))
            chips.append(
                _chip(
                    delivery, site.name, number, split, is_labelled=is_labelled, group=site.name, prefix=f"{site.name}_"
                )
            )
    return chips


def _samples(delivery: Delivery, content: Any) -> list[dict[str, Any]]:
    samples = content.get("samples")
    if not isinstance(samples, list) or not all(isinstance(sample, dict) for sample in samples):
        raise delivery.lacks("list 'samples' in samples.json")
    return samples


def _chip(
    delivery: Delivery, site: str, number: str, split: str, *, is_labelled: bool, group: str, prefix: str
) -> Chip:
    name = delivery.name_of(f"{prefix}{number}")
    place = {
        kind: delivery.root / site / kind / f"{kind}_{name}.tif" for kind in ("sentinel1", "sentinel2", "buildings")
    }
    return Chip(
        id=name, split=split, group=group, files=there(eo=place["sentinel2"], sar=place["sentinel1"]),
        labels=delivery.required(place["buildings"]) if is_labelled else None,
    )  # fmt: skip


SEN12_GUM = PublicDataset(
    name="sen12-gum",
    title="SEN12 Global Urban Mapping: built-up land, 28 labelled and 52 unlabelled sites, 60 test sites",
    licence="see the Zenodo record",
    obtain="unpack https://zenodo.org/records/6914898: a folder a site, and sn7 for testing",
    citation="Hafner, Ban and Nascetti, Remote Sensing of Environment 280, 2022",
    modalities=(
        Modality(
            name="eo",
            bands=tuple(Band(name=name, unit=Unit.REFLECTANCE, scale=1.0, offset=0.0) for name in _OPTICAL),
        ),
        numbers("sar", "VV", "VH", zero_is_data=True),
    ),
    classes=(
        LabelClass(value=0, name="not built-up", colour=(230, 230, 230)),
        LabelClass(value=1, name="built-up", colour=(200, 30, 30)),
    ),
    label_kind=LabelKind.POSITIVE,
    splits=("train", "validation", "unlabelled", "test"),
    find=_find,
    georeferenced=True,
)
