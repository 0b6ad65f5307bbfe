"""A scene larger than the machine's memory, mapped whole: peak memory and time.

30 000 x 30 000 px with 13 + 2 bands of float32 are 54 GB. The files are sparse: islands of data in a sea of nodata, so
that they are small and most windows are skipped, while every pixel of every map is written. Writes large_scene.json
beside this file; needs 15 GB of free disk. `--edge 2000` tries it on less and writes nothing.
"""

import argparse
import json
import math
import os
import resource
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import predict
import rasterio
from affine import Affine
from odc.geo.geobox import GeoBox

from equipoise.datasets.stack import AlignedStack

RESULT = Path(__file__).with_name("large_scene.json")
EDGE, ISLAND, ISLANDS = 30_000, 512, 60


def write_sparse(folder: Path, *, edge: int) -> AlignedStack:
    """Write islands of data at random places; blocks without data take no space."""
    grid = GeoBox((edge, edge), Affine(10, 0, 300_000, 0, -10, 5_000_000), "EPSG:32633")
    rng = np.random.default_rng(0)
    corners = rng.integers(0, (edge - ISLAND) // 256, (ISLANDS, 2)) * 256
    for name in ("eo", "sar"):
        with rasterio.open(
            folder / f"{name}.tif", "w", driver="GTiff", height=edge, width=edge, count=predict.BANDS[name],
            dtype="float32", nodata=math.nan, crs=grid.crs.to_wkt(), transform=grid.affine, tiled=True, blockxsize=256,
            blockysize=256, compress="deflate", interleave="band", sparse_ok=True, bigtiff="YES",
        ) as writer:  # fmt: skip
            for row, col in corners.tolist():
                cells = rng.integers(0, predict.CLASSES, (ISLAND // 32, ISLAND // 32)).repeat(32, 0).repeat(32, 1)
                writer.write(predict.pixels(cells, name, rng), window=((row, row + ISLAND), (col, col + ISLAND)))
    return AlignedStack(name="large", geobox=grid, modalities=("eo", "sar"),
                        present={name: folder / f"{name}.tif" for name in ("eo", "sar")})  # fmt: skip


def main() -> None:
    from equipoise.models.inference_form import inference_form
    from equipoise.pipeline.predict import predict_scene

    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--edge", type=int, default=EDGE)
    edge = parser.parse_args().edge
    os.environ.setdefault("GDAL_CACHEMAX", "256")  # as the command sets it
    predictor = predict.trained(("eo", "sar"), depth=4, steps=2)
    predictor = replace(predictor, network=inference_form(predictor.network))
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        stack = write_sparse(folder, edge=edge)
        before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, time.perf_counter()
        files = predict_scene(stack, predictor, options=predict.options_of(predict.FULL, reliance="shapley"),
                              folder=folder / "maps", resume="one")  # fmt: skip
        seconds = time.perf_counter() - began
        mapped = 0
        with rasterio.open(files.classes) as source:
            for _, window in source.block_windows(1):
                mapped += int((source.read(1, window=window) != 255).sum())
        record = {
            "edge_px": edge, "scene_gb": round(edge**2 * 15 * 4 / 1e9, 1), "mapped_px": mapped,
            "machine_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
            "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
            "peak_before_mapping_mb": round(before), "seconds": round(seconds),
            "classes_mb": round(files.classes.stat().st_size / 1e6, 1),
        }  # fmt: skip
    print(json.dumps(record, indent=1))
    if edge == EDGE:
        temporary = RESULT.with_name(f".{RESULT.name}.tmp")
        temporary.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        temporary.replace(RESULT)


if __name__ == "__main__":
    main()
