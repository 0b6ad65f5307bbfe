"""Small copies of public satellite data sets: folders, names, bands, types and ranges as published, pixels invented."""

import json
from pathlib import Path

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from strategies import north_up, write_tiff

EDGE = 16

Image = NDArray[np.generic]


def radar_db(rng: Generator, bands: int = 2, edge: int = EDGE) -> Image:
    """Backscatter in dB: what Sentinel-1 measures over land and water."""
    return rng.normal(-14.0, 4.0, (bands, edge, edge)).clip(-40, 10).astype(np.float32)


def reflectance(rng: Generator, bands: int = 13, edge: int = EDGE, dtype: str = "uint16") -> Image:
    """Reflectance times 10000."""
    return rng.integers(1, 6000, (bands, edge, edge)).astype(dtype)


def picture(rng: Generator, bands: int, edge: int = EDGE) -> Image:
    """Numbers of 8 bits, none of them zero."""
    return rng.integers(1, 256, (bands, edge, edge)).astype(np.uint8)


def values(rng: Generator, choice: list[int], edge: int = EDGE, dtype: str = "uint8") -> Image:
    """One band of class values."""
    return rng.choice(choice, (1, edge, edge)).astype(dtype)


def write(path: Path, image: Image, grid: GeoBox, **options: object) -> Path:
    """Write a GeoTIFF, making its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_tiff(path, image, grid, **options)


def utm(position: int, edge: int = EDGE, pixel: float = 10.0, crs: str | None = "EPSG:32633") -> GeoBox:
    """Grids that lie side by side."""
    return north_up(edge, edge, pixel=pixel, left=500_000.0 + 1000 * pixel * position, crs=crs)


def write_sen1floods11(root: Path, rng: Generator) -> Path:
    """Chips of every list; the headers of S1 and of the rest differ in their last digits, as published."""
    base, lists = root / "v1.1/data/flood_events/HandLabeled", root / "v1.1/splits/flood_handlabeled"
    lists.mkdir(parents=True)
    named = {"train": ["Ghana_103272", "India_900498"], "valid": ["USA_905409"], "test": ["Spain_7370579"],
             "bolivia": ["Bolivia_23014"]}  # fmt: skip
    for split, names in named.items():
        for position, name in enumerate(names):
            pixel = 8.983152841195215e-05
            grid = north_up(EDGE, EDGE, pixel=pixel, left=10.0 + position, top=5.0, crs="EPSG:4326")
            other = north_up(EDGE, EDGE, pixel=pixel * (1 + 5e-14), left=10.0 + position, top=5.0, crs="EPSG:4326")
            write(base / "S1Hand" / f"{name}_S1Hand.tif", radar_db(rng), grid, nodata=np.nan)
            write(base / "S2Hand" / f"{name}_S2Hand.tif", reflectance(rng, dtype="int16"), other)
            write(base / "LabelHand" / f"{name}_LabelHand.tif", values(rng, [-1, 0, 1], dtype="int16"), other)
        text = "".join(f"{name}_S1Hand.tif,{name}_LabelHand.tif\n" for name in names)
        (lists / f"flood_{split}_data.csv").write_text(text)
    return root


def write_sen12ms(root: Path, rng: Generator) -> Path:
    """Two scenes of one season and one of another, train and test lists."""
    names = {"train": ["ROIs1158_spring_s1_1_p30", "ROIs1158_spring_s1_4_p2"], "test": ["ROIs1868_summer_s1_146_p202"]}
    for position, (split, listed) in enumerate(names.items()):
        for number, name in enumerate(listed):
            region, season, _, scene, patch = name.split("_")
            grid = utm(10 * position + number)
            cover = np.concatenate([values(rng, [*range(1, 18)], dtype="uint16"), reflectance(rng, 3)])
            images = {"s1": radar_db(rng), "s2": reflectance(rng), "lc": cover}
            for kind, image in images.items():
                folder = root / f"{region}_{season}" / f"{kind}_{scene}"
                write(folder / f"{region}_{season}_{kind}_{scene}_{patch}.tif", image, grid)
        (root / f"{split}_list.txt").write_text("".join(f"{name}.tif\n" for name in listed))
    for season in ("ROIs1970_fall", "ROIs2017_winter"):  # torchgeo's reader asks for every season's folder
        (root / season).mkdir()
    return root


def write_dfc2020(root: Path, rng: Generator) -> Path:
    """Validation in folders of the one naming, test in the other; labels with 0, which is no class."""
    for split, end in (("validation", "validation"), ("test", "0")):
        for number in (0, 3, 12):
            grid = utm(number, crs=None)
            folder, name = root / f"ROIs0000_{split}", f"ROIs0000_{split}"
            write(folder / f"s1_{end}" / f"{name}_s1_0_p{number}.tif", radar_db(rng), grid)
            write(folder / f"s2_{end}" / f"{name}_s2_0_p{number}.tif", reflectance(rng), grid)
            write(folder / f"dfc_{end}" / f"{name}_dfc_0_p{number}.tif", values(rng, [0, 1, 2, 4, 10]), grid)
    return root


def write_bright(root: Path, rng: Generator) -> Path:
    """Three splits of two events; one chip comes without its optical image, as those of Ukraine do."""
    named = {"train": ["bata-explosion_00000000", "ukraine-conflict_00000007"], "val": ["bata-explosion_00000003"],
             "test": ["noto-earthquake_00000001"]}  # fmt: skip
    for split, names in named.items():
        (root / f"{split}_set.txt").parent.mkdir(parents=True, exist_ok=True)
        (root / f"{split}_set.txt").write_text("\n".join(names))
        for position, name in enumerate(names):
            _bright_chip(root, name, utm(position, pixel=0.5), rng, is_optical="ukraine" not in name)
    return root


def write_bright_contest(root: Path, rng: Generator) -> Path:
    """The packing of the 2025 Data Fusion Contest: test chips in `val`, without labels."""
    base = root / "dfc25_track2_trainval"
    named = {
        "train_setlevel": ("train", ["bata-explosion_00000000"]),
        "holdout_setlevel": ("train", ["hawaii_00000001"]),
        "val_setlevel": ("val", ["libya-flood_00000002"]),
    }
    for name, (folder, chips) in named.items():
        for position, chip in enumerate(chips):
            _bright_chip(base / folder, chip, utm(position, pixel=0.5), rng, is_labelled=folder == "train")
        (base / f"{name}.txt").write_text("\n".join(chips) + "\n")
    return root


def _bright_chip(
    base: Path, name: str, grid: GeoBox, rng: Generator, *, is_optical: bool = True, is_labelled: bool = True
) -> None:
    if is_optical:
        write(base / "pre-event" / f"{name}_pre_disaster.tif", picture(rng, 3), grid)
    write(base / "post-event" / f"{name}_post_disaster.tif", picture(rng, 1), grid)
    if is_labelled:
        write(base / "target" / f"{name}_building_damage.tif", values(rng, [0, 1, 2, 3]), grid)


def write_spacenet6(root: Path, rng: Generator) -> Path:
    """Two tiles of one strip for training, the second without a building; one for testing, radar alone."""
    city = "AOI_11_Rotterdam"
    strip = "20190804111224_20190804111453"
    for number, name in enumerate([f"{strip}_tile_8681", f"{strip}_tile_8683"]):
        grid = utm(number, pixel=0.5, crs="EPSG:32631")
        base, prefix = root / "train" / city, f"SN6_Train_{city}"
        radar = rng.uniform(5.0, 60.0, (4, EDGE, EDGE)).astype(np.float32)
        radar[:, :, :3] = 0.0  # outside of the strip
        write(base / "SAR-Intensity" / f"{prefix}_SAR-Intensity_{name}.tif", radar, grid)
        optical = rng.integers(1, 2000, (4, EDGE, EDGE)).astype(np.uint16)
        write(base / "PS-RGBNIR" / f"{prefix}_PS-RGBNIR_{name}.tif", optical, grid)
        buildings = base / "geojson_buildings" / f"{prefix}_Buildings_{name}.geojson"
        buildings.parent.mkdir(parents=True, exist_ok=True)
        buildings.write_text(json.dumps(_footprints(grid) if number == 0 else _footprints(None)))
    base, prefix = root / "test_public" / city, f"SN6_Test_Public_{city}"
    radar = rng.uniform(5.0, 60.0, (4, EDGE, EDGE)).astype(np.float32)
    write(
        base / "SAR-Intensity" / f"{prefix}_SAR-Intensity_20190823_tile_1.tif",
        radar,
        utm(9, pixel=0.5, crs="EPSG:32631"),
    )
    return root


def _footprints(grid: GeoBox | None) -> dict[str, object]:
    """One building over rows 4 to 9 and columns 6 to 11, with heights, as in the published files; or none."""
    features = []
    if grid is not None:
        corners = [grid.affine * (x, y) for x, y in ((6, 4), (12, 4), (12, 10), (6, 10), (6, 4))]
        outline = {"type": "Polygon", "coordinates": [[[x, y, 0.0] for x, y in corners]]}
        features.append({"type": "Feature", "properties": {"ImageId": "tile"}, "geometry": outline})
    crs = {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::32631"}}
    return {"type": "FeatureCollection", "crs": crs, "features": features}


def write_sen12_gum(root: Path, rng: Generator) -> Path:
    """A labelled site, a validation site, an unlabelled one, and a test site of SpaceNet 7."""
    for position, (site, labelled) in enumerate([("atlanta", True), ("calgary", True), ("lagos", False)]):
        number = "0000000000-0000000256"
        _gum_patch(root / site, f"{site}_{number}", utm(position), rng, is_labelled=labelled)
        samples = [{"site": site, "patch_id": number, "is_labeled": labelled, "img_weight": 3}]
        (root / site / "samples.json").write_text(json.dumps({"site": site, "patch_size": EDGE, "samples": samples}))
    area = "L15-0331E-1257N_1327_3160_13"
    _gum_patch(root / "sn7", area, utm(5), rng, is_labelled=True)
    sample = {"aoi_id": area, "group": 2, "country": "United States", "year": 2019, "month": 7}
    content = {"group_names": {"2": "South America"}, "samples": [sample]}
    (root / "sn7" / "samples.json").write_text(json.dumps(content))
    return root


def _gum_patch(folder: Path, name: str, grid: GeoBox, rng: Generator, *, is_labelled: bool) -> None:
    for kind, bands in (("sentinel1", 2), ("sentinel2", 10)):
        image = rng.uniform(0.0, 1.0, (bands, EDGE, EDGE)).astype(np.float32)
        write(folder / kind / f"{kind}_{name}.tif", image, grid)
    if is_labelled:
        share = rng.uniform(-0.5, 1.0, (1, EDGE, EDGE)).clip(0, 1).astype(np.float32)
        write(folder / "buildings" / f"buildings_{name}.tif", share, grid)
