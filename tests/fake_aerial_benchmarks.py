"""Small copies of public aerial and street data sets, and of those of very high resolution: layout as published."""

import warnings
from pathlib import Path

import numpy as np
import rasterio
from fake_satellite_benchmarks import EDGE, picture, utm, values, write
from numpy.random import Generator
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning

#: Colours of the ISPRS labels, in the order of torchgeo's classes.
ISPRS_COLOURS = ((255, 0, 0), (255, 255, 255), (0, 0, 255), (0, 255, 255), (0, 255, 0), (255, 255, 0))


def write_png(path: Path, image: NDArray[np.generic]) -> Path:
    """Write (band, y, x) of 8 or 16 bits as PNG, making its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        profile = {"driver": "PNG", "count": image.shape[0], "height": image.shape[1], "width": image.shape[2]}
        with rasterio.open(path, "w", dtype=image.dtype, **profile) as file:
            file.write(image)
    path.with_name(f"{path.name}.aux.xml").unlink(missing_ok=True)
    return path


def write_ombria(root: Path, rng: Generator) -> Path:
    """Two chips for training, one for testing; the darkest radar pixel is zero, as after stretching."""
    for split, names in (("train", ["0470", "0741"]), ("test", ["0013"])):
        for name in names:
            for when in ("BEFORE", "AFTER"):
                stem = f"{when.lower()}_{name}.png"
                radar = picture(rng, 1)
                radar[0, 0, 0] = 0
                write_png(root / "OmbriaS1" / split / when / f"S1_{stem}", radar)
                write_png(root / "OmbriaS2" / split / when / f"S2_{stem}", picture(rng, 3))
            write_png(root / "OmbriaS1" / split / "MASK" / f"S1_mask_{name}.png", values(rng, [0, 255]))
    return root


def write_openearthmap_sar(root: Path, rng: Generator) -> Path:
    """Two areas for training, one for validation with radar alone and no labels."""
    for position, name in enumerate(["TrainArea_001", "TrainArea_003"]):
        grid = utm(position, pixel=0.5)
        write(root / "train" / "rgb_images" / f"{name}.tif", picture(rng, 3), grid)
        write(root / "train" / "sar_images" / f"{name}.tif", picture(rng, 1), grid)
        write(root / "train" / "labels" / f"{name}.tif", values(rng, list(range(9))), grid)
    write(root / "val" / "sar_images" / "ValArea_001.tif", picture(rng, 1), utm(5, pixel=0.5))
    return root


def write_whu_opt_sar(root: Path, rng: Generator) -> Path:
    """Two map sheets; the four optical bands of 8 bits are written as GDAL does: the fourth looks like alpha."""
    for position, name in enumerate(["NH49E001013", "NH49E001014"]):
        grid = utm(position, pixel=5.0)
        write(root / "optical" / f"{name}.tif", picture(rng, 4), grid)
        write(root / "sar" / f"{name}.tif", picture(rng, 1), grid)
        write(root / "lbl" / f"{name}.tif", values(rng, list(range(0, 80, 10))), grid)
    return root


def write_mcubes(root: Path, rng: Generator) -> Path:
    """Two scenes; left of the infrared camera's view its mask is white."""
    base = root / "multimodal_dataset"
    (base / "list_folder").mkdir(parents=True)
    for split, name in (
        ("train", "outscene1208_2_0000000150"),
        ("val", "outscene1208_2_0000000180"),
        ("test", "outscene9_1"),
    ):
        write_png(base / "polL_color" / f"{name}.png", rng.integers(0, 65536, (3, EDGE, EDGE)).astype(np.uint16))
        write_png(base / "NIR_warped" / f"{name}.png", rng.integers(0, 65536, (1, EDGE, EDGE)).astype(np.uint16))
        hidden = np.zeros((1, EDGE, EDGE), dtype=np.uint8)
        hidden[:, :, :3] = 255
        write_png(base / "NIR_warped_mask" / f"{name}.png", hidden)
        write_png(base / "GT" / f"{name}.png", values(rng, [*range(20), 255]))
        angle = rng.uniform(-np.pi, np.pi, (EDGE, EDGE))
        arrays = {"aolp_sin": np.sin(angle), "aolp_cos": np.cos(angle), "dolp": rng.uniform(0, 1, (EDGE, EDGE))}
        for kind, array in arrays.items():
            (base / f"polL_{kind}").mkdir(exist_ok=True)
            np.save(base / f"polL_{kind}" / f"{name}.npy", array)
        (base / "list_folder" / f"{split}.txt").write_text(f"{name}\n")
    return root


def write_mavoc(root: Path, rng: Generator) -> Path:
    """Two classes; one vehicle was seen by radar alone."""
    for name, numbers in (("sedan", (1, 2)), ("box_truck", (7,))):
        for number in numbers:
            write_png(root / "SAR_Train" / name / f"SAR_{number}.png", picture(rng, 1, edge=55))
            if number != 2:
                write_png(root / "EO_Train" / name / f"EO_{number}.png", picture(rng, 1, edge=31))
    return root


def colours(classes: NDArray[np.generic]) -> NDArray[np.uint8]:
    """Class numbers (1, y, x) as the contest's colours (3, y, x)."""
    return np.asarray(ISPRS_COLOURS, dtype=np.uint8)[classes[0].astype(int)].transpose(2, 0, 1)


def write_vaihingen(root: Path, rng: Generator) -> Path:
    """Areas 1 and 11 for training, 6 for testing, labels beside `top` as in the complete ground truth."""
    for area in (1, 11, 6):
        grid = utm(area, pixel=0.09, crs=None)
        write(root / "top" / f"top_mosaic_09cm_area{area}.tif", picture(rng, 3), grid)
        heights = rng.uniform(250, 310, (1, EDGE, EDGE)).astype(np.float32)
        write(root / "dsm" / f"dsm_09cm_matching_area{area}.tif", heights, grid)
        write(root / f"top_mosaic_09cm_area{area}.tif", colours(values(rng, list(range(6)))), grid)
    return root


def write_potsdam(root: Path, rng: Generator) -> Path:
    """Areas 2_10 and 7_7 for training, 3_13 for testing, whose heights lack the last column."""
    for position, area in enumerate(["2_10", "7_7", "3_13"]):
        grid = utm(position, pixel=0.05, crs=None)
        write(root / "4_Ortho_RGBIR" / f"top_potsdam_{area}_RGBIR.tif", picture(rng, 4), grid)
        heights = rng.uniform(30, 80, (1, EDGE, EDGE)).astype(np.float32)
        padded = "_".join(f"{int(part):02d}" for part in area.split("_"))
        seen = heights[:, :, : EDGE - (area == "3_13")]
        write(root / "1_DSM" / f"dsm_potsdam_{padded}.tif", seen, grid[:, : seen.shape[2]])
        write(root / f"top_potsdam_{area}_label.tif", colours(values(rng, list(range(6)))), grid)
    return root
