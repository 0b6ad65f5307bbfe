"""A tile of 10980 x 10980 px through `equipoise coregister REF MOV`: time, memory, error, and Ctrl-C on the way.

The tile is Los Angeles (EQUIPOISE_DATA), laid out again and again, mirrored so that nothing jumps; the radar is moved
by a shift and a smooth field. Writes coregister_tile.json beside this file; `--small` takes 2600 px and writes nothing.
"""

import argparse
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import rasterio
from affine import Affine
from coregister_cases import DATA, Image
from rasterio.windows import Window

from equipoise.datasets.registration_layer import RegistrationLayer

PIXEL_M, STRIP = 10.0, 1024
RESULT = Path(__file__).with_name("coregister_tile.json")


def displaced(rows: np.ndarray, cols: np.ndarray, edge: int) -> tuple[np.ndarray, np.ndarray]:
    """Return from where on the ground a pixel of the radar is taken, px: a shift, and waves of 2.5 px over the tile."""
    wave = 2 * np.pi / edge
    return (
        rows - 3.2 - 2.5 * np.sin(1.3 * wave * cols) * np.cos(wave * rows),
        cols + 4.7 + 2.5 * np.cos(1.1 * wave * rows + 1),
    )


def mirrored(places: np.ndarray, edge: int) -> np.ndarray:
    """Fold places of an endless mirrored plane into 0 to ``edge`` - 1."""
    folded = np.mod(places, 2 * (edge - 1))
    return np.where(folded > edge - 1, 2 * (edge - 1) - folded, folded).astype(np.float32)


def write_tile(path: Path, source: Image, edge: int, *, moved: bool) -> None:
    """Write a band of uint8, laid out over the tile, strip by strip."""
    profile = {
        "driver": "GTiff", "width": edge, "height": edge, "count": 1, "dtype": "uint8", "crs": "EPSG:32611",
        "transform": Affine(PIXEL_M, 0, 300_000, 0, -PIXEL_M, 4_000_000), "tiled": True, "blockxsize": 512,
        "blockysize": 512, "compress": "deflate",
    }  # fmt: skip
    cols = np.broadcast_to(np.arange(edge, dtype=np.float64), (STRIP, edge))
    with rasterio.open(path, "w", **profile) as target:
        for row in range(0, edge, STRIP):
            height = min(STRIP, edge - row)
            rows = np.broadcast_to(np.arange(row, row + height, dtype=np.float64)[:, None], (height, edge))
            places = displaced(rows, cols[:height], edge) if moved else (rows, cols[:height])
            y, x = (mirrored(axis, size) for axis, size in zip(places, source.shape, strict=True))
            strip = cv2.remap(source, x, y, cv2.INTER_LINEAR)
            target.write(np.clip(np.round(strip), 1, 255).astype(np.uint8), 1, window=Window(0, row, edge, height))


def error_px(moved: RegistrationLayer, still: RegistrationLayer, edge: int) -> dict[str, float]:
    """Return errors of the correction at nodes inside the tile, px, given that of the radar before the move."""
    a, _, left, _, e, top = tuple(moved.grid.affine)[:6]
    rows, cols = np.mgrid[0 : moved.grid.shape[0], 0 : moved.grid.shape[1]] + 0.5
    row, col = (4_000_000 - (top + e * rows)) / PIXEL_M - 0.5, (left + a * cols - 300_000) / PIXEL_M - 0.5
    # Where the content of the reference's (row, col) lies in the radar that was not moved.
    from_row, from_col = row + still.north / PIXEL_M, col - still.east / PIXEL_M
    where = [from_row.copy(), from_col.copy()]
    for _ in range(30):
        there = displaced(*where, edge)
        where = [where[0] - (there[0] - from_row), where[1] - (there[1] - from_col)]
    east, north = (col - where[1]) * PIXEL_M, (where[0] - row) * PIXEL_M
    error = np.hypot(moved.east - east, moved.north - north)[1:-1, 1:-1] / PIXEL_M
    return {
        "median": round(float(np.median(error)), 3), "p95": round(float(np.percentile(error, 95)), 3),
        "worst": round(float(error.max()), 3),
    }  # fmt: skip


def main() -> None:
    """Measure and write the record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true", help="2600 px, nothing written")
    edge = 2600 if parser.parse_args().small else 10_980
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        for name, sensor, moved in (("eo", "S2RGB", False), ("sar", "S1VH", True), ("still", "S1VH", False)):
            with rasterio.open(DATA / "prepared" / f"los_angeles_{sensor}.tif") as source:
                write_tile(folder / f"{name}.tif", source.read(1).astype(np.float32), edge, moved=moved)
        command = [str(Path(sys.executable).with_name("equipoise")), "coregister", "eo.tif", "sar.tif", "-o", "out"]
        stopped = interrupted(command, folder, after=12 if edge > 5000 else 6)
        start, used = time.perf_counter(), processor_seconds()
        subprocess.run(command, cwd=folder, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
        record = {
            "edge_px": edge, "wall_s": round(time.perf_counter() - start, 1),
            "cpu_s": round(processor_seconds() - used, 1),
            "peak_mib": round(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024),
            "cpus": os.cpu_count(), "left_after_interrupt": stopped,
            "registration": json.loads((folder / "out" / "coregistration.json").read_text())["registrations"]["sar"],
        }  # fmt: skip
        subprocess.run([*command[:3], "still.tif", "-o", "still"], cwd=folder, check=True)
        layers = [
            RegistrationLayer.load(folder / name / f"{stem}.registration.tif")
            for name, stem in (("out", "sar"), ("still", "still"))
        ]
        record["error_px"] = error_px(*layers, edge)
    print(json.dumps(record, indent=1))
    if edge > 5000:
        RESULT.write_text(json.dumps(record, indent=1) + "\n")


def processor_seconds() -> float:
    """Return the processor time of all child processes that have ended, s."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def interrupted(command: list[str], folder: Path, *, after: float) -> dict[str, object]:
    """Send Ctrl-C after some seconds; return the exit code and the rasters that lie there afterwards."""
    process = subprocess.Popen(
        command, cwd=folder, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background jobs ignore it
    )  # fmt: skip
    time.sleep(after)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=120)
    left = sorted(path.name for path in (folder / "out").glob("*")) if (folder / "out").is_dir() else []
    return {"code": process.returncode, "said": said.strip().splitlines()[-1:], "files": left}


if __name__ == "__main__":
    main()
