"""Study: the main job on real imagery. Writes results.json beside this file and quicklooks under docs/figures.

Needs EQUIPOISE_DATA, the folder with the real samples. Run with `make study`.
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from matplotlib.figure import Figure
from vrt import stack_bands

from equipoise.datasets.samples import fetch
from equipoise.pipeline.config import load_config
from equipoise.pipeline.figures import MODALITY_COLOURS, display
from equipoise.pipeline.run_folder import package_versions

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
RUNS = ROOT / "runs" / "real_imagery"
PICTURES = ROOT / "docs" / "figures"
EDGE = 700

Image = np.ndarray[Any, Any]


def main() -> None:
    """Train on the labelled sets, map the larger scene, record what came out."""
    data = os.environ.get("EQUIPOISE_DATA")
    if data is None:
        print("EQUIPOISE_DATA is not set: the study of real imagery was not run")
        return
    PICTURES.mkdir(parents=True, exist_ok=True)
    _stack_dates(Path(data).resolve() / "B_internal_only" / "ombria", RUNS / "chips")
    bands = ("B02", "B03", "B04", "B05", "B08", "B11", "B12")
    folder = next(fetch("majortom").rglob("B02.tif")).resolve().parent
    stack_bands([(folder / f"{band}.tif", 1) for band in bands], RUNS / "majortom.vrt")
    _equipoise("run", _fill("flood", data=Path(data).resolve()), "-o", RUNS / "flood")
    _equipoise("demo", "--scene", "terramesh", "-o", RUNS / "landcover")
    _equipoise("run", _fill("majortom", data=Path(data).resolve()), "-o", RUNS / "majortom")
    results = {name: _figures(name) for name in ("flood", "landcover", "majortom")}
    results["versions"] = package_versions()
    (HERE / "results.json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    _chips("flood", ("test_0013", "test_0109", "test_0349", "test_0480"), PICTURES / "real_flood.png")
    _scene("majortom", PICTURES / "real_majortom.png")
    print(f"wrote {HERE / 'results.json'} and two pictures in {PICTURES}")


def _equipoise(*arguments: object) -> None:
    command = [str(Path(sys.executable).with_name("equipoise")), *map(str, arguments)]
    subprocess.run(command, check=True)


def _stack_dates(source: Path, target: Path) -> None:
    """Write one VRT a chip and sensor: the bands after the flood, then those before it."""
    for split in ("train", "test"):
        (target / split).mkdir(parents=True, exist_ok=True)
        for sensor, folder, bands in (("eo", "S2", 3), ("sar", "S1", 1)):
            chips = source / f"Ombria{folder}" / split
            for after in sorted((chips / "AFTER").glob("*.png")):
                number = after.stem.rsplit("_", 1)[1]
                before = chips / "BEFORE" / f"{folder}_before_{number}.png"
                layers = [(path, band) for path in (after, before) for band in range(1, bands + 1)]
                stack_bands(layers, target / split / f"{sensor}_{number}.vrt")


def _fill(name: str, *, data: Path) -> Path:
    text = (HERE / f"{name}.yaml").read_text(encoding="utf-8")
    path = RUNS / f"{name}.yaml"
    path.write_text(text.replace("DATA", str(data)).replace("RUNS", str(RUNS)), encoding="utf-8")
    return path


def _figures(name: str) -> dict[str, Any]:
    stages = json.loads((RUNS / name / "manifest.json").read_text(encoding="utf-8"))["stages"]
    record: dict[str, Any] = {"seconds": {stage: item["seconds"] for stage, item in stages.items()}}
    if "evaluate" not in stages:
        return record | {"maps": stages["predict"]["figures"]["scenes"]}
    found = stages["evaluate"]["figures"]
    return record | {
        "patches": stages["tile"]["figures"]["patches"],
        "fusion": _kept(found["fusion"]),
        "single": {name: _kept(item) for name, item in found["single"].items()},
        "subsets": {name: _kept(item) for name, item in found["subsets"].items()},
        "majority": _kept(found["majority"]),
        "utilization": found["utilization"],
    }


def _kept(figures: Mapping[str, Any]) -> dict[str, Any]:
    return {key: figures[key] for key in ("mean_iou", "accuracy", "iou")}


def _read(path: Path) -> Image:
    with rasterio.open(path) as source:
        step = max(1, -(-max(source.shape) // EDGE))
        values: Image = source.read(out_shape=(source.count, source.height // step, source.width // step))
    return values


def _coloured(values: Image, palette: Mapping[int, tuple[int, int, int]]) -> Image:
    table = np.full((256, 3), 0.82)
    for value, rgb in palette.items():
        table[value] = np.array(rgb) / 255
    return table[values]


def _mixed(shares: Image) -> Image:
    colours = np.array([[int(c[i : i + 2], 16) / 255 for i in (1, 3, 5)] for c in MODALITY_COLOURS[: len(shares)]])
    known = np.isfinite(shares).all(axis=0)
    return np.where(known[..., None], np.einsum("myx,mc->yxc", np.nan_to_num(shares), colours), 0.82)


def _chips(name: str, scenes: tuple[str, ...], path: Path) -> None:
    """Labels, prediction and reliance of some chips; their imagery may not be redistributed, so it is not shown."""
    palette = {item.value: item.rgb for item in load_config(RUNS / f"{name}.yaml").classes}
    figure = Figure(figsize=(2.3 * len(scenes), 7.2))
    rows = figure.subplots(3, len(scenes))
    for column, scene in enumerate(scenes):
        labels = _read(RUNS / name / "aligned" / scene / "labels.tif")[0]
        values = _read(RUNS / name / "predictions" / f"{scene}.classes.tif")[0]
        shares = _read(RUNS / name / "predictions" / f"{scene}.reliance.tif")
        for row, image in enumerate((_coloured(labels, palette), _coloured(values, palette), _mixed(shares))):
            rows[row][column].imshow(image, interpolation="nearest")
            rows[row][column].set_xticks([])
            rows[row][column].set_yticks([])
        rows[0][column].set_title(scene, fontsize=9)
    for row, text in enumerate(("labels (blue: flooded)", "prediction", "reliance (blue: EO, orange: SAR)")):
        rows[row][0].set_ylabel(text, fontsize=9)
    figure.savefig(path, dpi=80, bbox_inches="tight")


def _scene(name: str, path: Path) -> None:
    """Natural colours, classes and confidence of the larger scene."""
    folder = RUNS / name / "predictions"
    classes = load_config(RUNS / "landcover" / "demo.yaml").classes
    with np.load(RUNS / name / "aligned" / name / "quicklooks.npz", allow_pickle=False) as looks:
        natural = display(looks["eo after"], rgb=(2, 1, 0))
    figure = Figure(figsize=(13, 4.9))
    left, middle, right = figure.subplots(1, 3)
    left.imshow(natural)
    values = _read(folder / f"{name}.classes.tif")[0]
    middle.imshow(_coloured(values, {item.value: item.rgb for item in classes}), interpolation="nearest")
    shown = right.imshow(_read(folder / f"{name}.confidence.tif")[0], vmin=0, vmax=1, cmap="viridis")
    for axes, title in zip((left, middle, right), ("red, green, blue", "classes", "confidence"), strict=True):
        axes.set_title(title, fontsize=10)
        axes.set_xticks([])
        axes.set_yticks([])
    figure.colorbar(shown, ax=right, fraction=0.046, pad=0.03)
    marks = [middle.plot([], [], "s", color=item.color, label=item.name)[0] for item in classes]
    middle.legend(handles=marks, loc="upper center", bbox_to_anchor=(0.5, -0.01), ncols=4, fontsize=7, frameon=False)
    figure.savefig(path, dpi=80, bbox_inches="tight")


if __name__ == "__main__":
    main()
