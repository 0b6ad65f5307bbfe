"""SpaceNet 6: building footprints of Rotterdam in quad-polarised X-band radar from the air and in WorldView-2.

Layout (spacenet.ai/sn6-challenge; s3://spacenet-dataset/spacenet/SN6_buildings): ``train/AOI_11_Rotterdam`` with the
folders ``SAR-Intensity``, ``PS-RGBNIR``, ``PS-RGB``, ``PAN``, ``RGBNIR``, ``geojson_buildings``, in them
``SN6_Train_AOI_11_Rotterdam_SAR-Intensity_20190804111224_20190804111453_tile_8681.tif``;
``test_public/AOI_11_Rotterdam`` holds ``SAR-Intensity`` only, without labels. Tiles are 900 x 900 px at 0.5 m in
EPSG:32631. Radar is HH, HV, VH, VV, float32; optical is pansharpened red, green, blue, near infrared. Buildings are
polygons, drawn where a pixel's centre lies inside.

The radar's numbers are positive; the files state neither level nor scale, hence ``digital_number`` and not dB. Tiles
of one place recur in many strips (the two times in a name): a split by strip (``group``) does not keep places apart,
a split by tile number does.

torchgeo's SpaceNet6 gives one product at a time, without radar and optical together, and downloads through the AWS
command line. The tests compare its masks and images with ours on generated files.
"""

from .delivery import Delivery, there
from .public_dataset import Chip, LabelClass, LabelKind, PublicDataset
from .sensor_bands import numbers

_CITY = "AOI_11_Rotterdam"


def _find(delivery: Delivery, split: str) -> list[Chip]:
    if split == "train":
        base = delivery.folder(f"train/{_CITY}", f"SN6_buildings/train/{_CITY}", _CITY)
    else:
        base = delivery.folder(f"test_public/{_CITY}", f"SN6_buildings/test_public/{_CITY}")
    prefix = f"SN6_{'Train' if split == 'train' else 'Test_Public'}_{_CITY}"
    chips = []
    for radar in sorted((base / "SAR-Intensity").glob(f"{prefix}_SAR-Intensity_*.tif")):
        name = radar.stem.removeprefix(f"{prefix}_SAR-Intensity_")
        labels = base / "geojson_buildings" / f"{prefix}_Buildings_{name}.geojson"
        chips.append(
            Chip(
                id=name, split=split, group=name.split("_tile_")[0],
                files=there(sar=radar, eo=base / "PS-RGBNIR" / f"{prefix}_PS-RGBNIR_{name}.tif"),
                labels=delivery.required(labels) if split == "train" else None,
            )
        )  # fmt: skip
    return chips


SPACENET6 = PublicDataset(
    name="spacenet6",
    title="SpaceNet 6: building footprints of Rotterdam, 3401 tiles of radar and optical",
    licence="CC-BY-SA-4.0",
    obtain=(
        "unpack SN6_buildings_AOI_11_Rotterdam_train.tar.gz (and _test_public) of "
        "s3://spacenet-dataset/spacenet/SN6_buildings/tarballs (aws s3 cp --no-sign-request)"
    ),
    citation="Shermeyer et al., SpaceNet 6, CVPR Workshops 2020",
    modalities=(numbers("sar", "HH", "HV", "VH", "VV"), numbers("eo", "red", "green", "blue", "nir")),
    classes=(
        LabelClass(value=0, name="background", colour=(230, 230, 230)),
        LabelClass(value=1, name="building", colour=(200, 30, 30)),
    ),
    label_kind=LabelKind.FOOTPRINTS,
    splits=("train", "test"),
    find=_find,
    georeferenced=True,
)
