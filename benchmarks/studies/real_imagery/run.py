"""Study: the main job on real imagery. Writes results.json beside this file and quicklooks under docs/figures.

Needs EQUIPOISE_DATA, the folder with the real samples. Run with `make study`. The maps are derived products; the
imagery itself is not shown, since not all of it may be redistributed.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from matplotlib.figure import Figure

from equipoise.pipeline.config import load_config
from equipoise.pipeline.figures import MODALITY_COLOURS
from equipoise.pipeline.run_folder import package_versions

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
RUNS = ROOT / "runs" / "real_imagery"
PICTURES = ROOT / "docs" / "figures"
EDGE = 700


def main() -> None:
    """Train on the labelled sets, map the larger scene, record what came out."""
    data = os.environ.get("EQUIPOISE_DATA")
    if data is None:
        print("EQUIPOISE_DATA is not set: the study of real imagery was not run")
        return
    _stack_dates(Path(data).resolve() / "B_internal_only" / "ombria", RUNS / "chips")
    for name in ("flood", "landcover", "los_angeles"):
        config = _fill(name, data=Path(data).resolve())
        command = [str(Path(sys.executable).with_name("equipoise")), "run", str(config), "-o", str(RUNS / name)]
        subprocess.run(command, check=True)
    results = {name: _figures(name) for name in ("flood", "landcover", "los_angeles")}
    results["versions"] = package_versions()
    (HERE / "results.json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    _chips("flood", ("test_0013", "test_0109", "test_0349", "test_0480"), PICTURES / "real_flood.png")
    _scene("los_angeles", PICTURES / "real_los_angeles.png")
    print(f"wrote {HERE / 'results.json'} and two pictures in {PICTURES}")


def _stack_dates(source: Path, target: Path) -> None:
    """Write one VRT a chip and sensor: the bands after the flood, then those before it."""
    for split in ("train", "test"):
        (target / split).mkdir(parents=True, exist_ok=True)
        for sensor, folder, bands in (("eo", "S2", 3), ("sar", "S1", 1)):
            chips = source / f"Ombria{folder}" / split
            for after in sorted((chips / "AFTER").glob("*.png")):
                number = after.stem.rsplit("_", 1)[1]
                before = chips / "BEFORE" / f"{folder}_before_{number}.png"
                (target / split / f"{sensor}_{number}.vrt").write_text(_vrt((after, before), bands), encoding="utf-8")


def _vrt(files: tuple[Path, ...], bands: int) -> str:
    layers = [(path, band) for path in files for band in range(1, bands + 1)]
    rows = "".join(
        f'<VRTRasterBand dataType="Byte" band="{number}"><SimpleSource><SourceFilename>{path}</SourceFilename>'
        f"<SourceBand>{band}</SourceBand></SimpleSource></VRTRasterBand>"
        for number, (path, band) in enumerate(layers, start=1)
    )
    return f'<VRTDataset rasterXSize="256" rasterYSize="256">{rows}</VRTDataset>'


def _fill(name: str, *, data: Path) -> Path:
    text = (HERE / f"{name}.yaml").read_text(encoding="utf-8")
    RUNS.mkdir(parents=True, exist_ok=True)
    path = RUNS / f"{name}.yaml"
    places = {"DATA": data, "CHIPS": RUNS / "chips", "MODEL": RUNS / "landcover" / "model"}
    for word, folder in places.items():
        text = text.replace(word, str(folder))
    path.write_text(text, encoding="utf-8")
    return path


def _figures(name: str) -> dict[str, Any]:
    stages = json.loads((RUNS / name / "manifest.json").read_text(encoding="utf-8"))["stages"]
    record: dict[str, Any] = {"seconds": {stage: item["seconds"] for stage, item in stages.items()}}
    if "evaluate" in stages:
        found = stages["evaluate"]["figures"]
        keep = ("mean_iou", "accuracy", "iou")
        record |= {
            "patches": stages["tile"]["figures"]["patches"],
            "fusion": {key: found["fusion"][key] for key in keep},
            "single": {name: {key: item[key] for key in keep} for name, item in found["single"].items()},
            "subsets": {name: {key: item[key] for key in keep} for name, item in found["subsets"].items()},
            "majority": {key: found["majority"][key] for key in keep},
            "utilization": found["utilization"],
        }
    else:
        record["maps"] = stages["predict"]["figures"]["scenes"]
        record["registrations"] = stages["coregister"]["figures"]["registrations"]
    return record


def _read(path: Path) -> np.ndarray[Any, np.dtype[np.float32]]:
    with rasterio.open(path) as source:
        step = max(1, -(-max(source.shape) // EDGE))
        shape = (source.count, source.height // step, source.width // step)
        values: np.ndarray[Any, np.dtype[np.float32]] = source.read(out_shape=shape).astype(np.float32)
    return values


def _coloured(values: np.ndarray[Any, Any], palette: dict[int, tuple[int, int, int]]) -> np.ndarray[Any, Any]:
    table = np.full((256, 3), 0.82)
    for value, rgb in palette.items():
        table[value] = np.array(rgb) / 255
    return table[values.astype(np.uint8)]


def _mixed(shares: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    colours = np.array([[int(c[i : i + 2], 16) / 255 for i in (1, 3, 5)] for c in MODALITY_COLOURS[: len(shares)]])
    known = np.isfinite(shares).all(axis=0)
    return np.where(known[..., None], np.einsum("myx,mc->yxc", np.nan_to_num(shares), colours), 0.82)


def _chips(name: str, scenes: tuple[str, ...], path: Path) -> None:
    config = load_config(RUNS / f"{name}.yaml")
    palette = {item.value: item.rgb for item in config.classes}
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
    folder, scene = RUNS / name / "predictions", name
    classes = load_config(RUNS / "landcover.yaml").classes
    figure = Figure(figsize=(13, 4.9))
    left, middle, right = figure.subplots(1, 3)
    left.imshow(_coloured(_read(folder / f"{scene}.classes.tif")[0], {item.value: item.rgb for item in classes}))
    shown = middle.imshow(_read(folder / f"{scene}.confidence.tif")[0], vmin=0, vmax=1, cmap="viridis")
    right.imshow(_mixed(_read(folder / f"{scene}.reliance.tif")), interpolation="nearest")
    titles = ("classes", "confidence", "reliance (blue: EO, orange: SAR)")
    for axes, title in zip((left, middle, right), titles, strict=True):
        axes.set_title(title, fontsize=10)
        axes.set_xticks([])
        axes.set_yticks([])
    figure.colorbar(shown, ax=middle, fraction=0.046, pad=0.03)
    patches = [left.plot([], [], "s", color=item.color, label=item.name)[0] for item in classes]
    left.legend(handles=patches, loc="upper center", bbox_to_anchor=(0.5, -0.01), ncols=4, fontsize=7, frameon=False)
    figure.savefig(path, dpi=80, bbox_inches="tight")


if __name__ == "__main__":
    main()
