"""What a map costs beside the bare network: time, reliance, memory, bfloat16, seams, and peers at the same overlap.

An invented scene (13 bands of optics, 2 of radar, 1 of infrared) is mapped by a network of the default size that has
learned a little. Every comparison is made within one process, in turn; absolute seconds mean little on a shared
machine. Memory is measured in processes of its own: the peak over what the network alone had taken.

The bare network is timed in three ways: as it was trained, window by window on all threads, which is how it is run
elsewhere; in the form that maps are made with; and that two windows at a time.

Writes predict.json beside this file and the table of docs/maps.md. `--small` tries all of it on little data and writes
nothing. One part: `--part speed` or `--part memory --rows 4096`, which prints JSON.
"""

import argparse
import json
import math
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import torch
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from predict_peers import Pieces, installed_peers

from equipoise.datasets.modality import Band, Modality, Unit
from equipoise.datasets.normalise import Normaliser
from equipoise.datasets.raster import cog_writer
from equipoise.datasets.stack import AlignedStack, StackReader
from equipoise.datasets.statistics import BandStatistics
from equipoise.models.inference_form import inference_form
from equipoise.models.network import FusionUNet, NetworkSpec
from equipoise.pipeline.allocator import few_arenas
from equipoise.pipeline.answer_stream import divided_threads
from equipoise.pipeline.mosaic import WindowGrid
from equipoise.pipeline.predict import Predictor, predict_scene
from equipoise.pipeline.prefetch import prefetch
from equipoise.pipeline.scene_options import ClassOptions
from equipoise.pipeline.stage_options import PredictOptions
from equipoise.pipeline.window_answers import WindowAnswers

BANDS = {"eo": 13, "sar": 2, "ir": 1}
#: Cells are no divisor of what windows advance by: their borders and those of windows must not fall together.
CLASSES, CELL_PX, THREADS = 6, 25, 2
RESULT = Path(__file__).with_name("predict.json")
PAGE = Path(__file__).parents[1] / "docs" / "maps.md"


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much is measured: edges in px, tile and overlap, training steps, rounds."""

    scene: int
    tile: int
    overlap: int
    memory_rows: tuple[int, int]
    memory_cols: int
    steps: int
    rounds: int
    encoder_depth: int


FULL = Size(scene=4096, tile=256, overlap=64, memory_rows=(4096, 16384), memory_cols=4096, steps=60, rounds=3,
            encoder_depth=4)  # fmt: skip
SMALL = Size(scene=192, tile=96, overlap=32, memory_rows=(256, 1024), memory_cols=128, steps=2, rounds=1,
             encoder_depth=2)  # fmt: skip


def pixels(labels: NDArray[np.int64], name: str, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return (band, y, x): every band shows some classes, with noise."""
    levels = np.stack([(labels * (band + 1) + len(name)) % CLASSES for band in range(BANDS[name])])
    noisy = levels / 2 - 1 + rng.normal(0, 1, levels.shape)
    return np.round(noisy, 2).astype(np.float32)  # as many digits as a product has: what is stored is compressed


def write_scene(folder: Path, *, rows: int, cols: int, names: tuple[str, ...] = tuple(BANDS)) -> AlignedStack:
    """Write a scene in strips of rows; classes are squares of CELL_PX."""
    folder.mkdir(parents=True, exist_ok=True)
    grid = GeoBox((rows, cols), Affine(10, 0, 500_000, 0, -10, 5_000_000), "EPSG:32633")
    cells = np.random.default_rng(0).integers(0, CLASSES, (-(-rows // CELL_PX), -(-cols // CELL_PX)))
    for name in names:
        rng = np.random.default_rng(len(name))
        with cog_writer(folder / f"{name}.tif", grid, count=BANDS[name], dtype="float32", nodata=math.nan,
                        overview_resampling="average", tags={"unit": ",".join(["digital_number"] * BANDS[name])},
                        descriptions=[f"{name}{band}" for band in range(BANDS[name])]) as writer:  # fmt: skip
            for top in range(0, rows, 256):
                at = (np.arange(top, min(top + 256, rows))[:, None] // CELL_PX, np.arange(cols)[None] // CELL_PX)
                writer.write(pixels(cells[at], name, rng), window=((top, top + len(at[0])), (0, cols)))
    return AlignedStack(name="invented", geobox=grid, modalities=names,
                        present={name: folder / f"{name}.tif" for name in names})  # fmt: skip


def trained(names: tuple[str, ...], *, depth: int, steps: int) -> Predictor:
    """Return a network that has learned a little, so that its answers differ from place to place."""
    torch.manual_seed(0)
    spec = NetworkSpec(modalities=names, in_channels=tuple(BANDS[name] for name in names), classes=CLASSES,
                       encoder="resnet18", depth=depth, decoder_channels=(128, 64, 32, 16)[-depth:])  # fmt: skip
    network, rng = FusionUNet(spec).train(), np.random.default_rng(1)
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-3)
    for _ in range(steps):
        labels = rng.integers(0, CLASSES, (8, 4, 4)).repeat(16, axis=1).repeat(16, axis=2)
        image = {name: torch.from_numpy(np.stack([pixels(item, name, rng) for item in labels])) for name in names}
        available = torch.from_numpy(rng.random((8, len(names))) < 0.7)
        available[~available.any(dim=1)] = True
        loss = torch.nn.functional.cross_entropy(network(image, available=available), torch.from_numpy(labels))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    modalities = tuple(
        Modality(name=name, bands=tuple(Band(name=f"{name}{b}", unit=Unit.DIGITAL_NUMBER) for b in range(BANDS[name])))
        for name in names
    )
    flat = {name: BandStatistics(mean=(0.0,) * BANDS[name], std=(1.0,) * BANDS[name], count=1) for name in names}
    classes = [ClassOptions(value=k + 1, name=f"class {k}", color=f"#{40 * k:02x}8040") for k in range(CLASSES)]
    return Predictor(network=network.eval(), normaliser=Normaliser(modalities=modalities, training=flat),
                     classes=classes, prior=torch.full((CLASSES,), 1 / CLASSES),
                     digest="pair" if len(names) == 2 else "triple", approximate=False)  # fmt: skip


def options_of(size: Size, **given: Any) -> PredictOptions:
    return PredictOptions(tile=size.tile, overlap=size.overlap, reliance_tile=32, device="cpu",
                          **{"reliance": "none", **given})  # fmt: skip


def timed(work: Callable[[], Any]) -> dict[str, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}


def map_once(stack: AlignedStack, predictor: Predictor, options: PredictOptions) -> NDArray[np.uint8]:
    with tempfile.TemporaryDirectory() as folder:
        files = predict_scene(stack, predictor, options=options, folder=Path(folder), resume="one")
        with rasterio.open(files.classes) as source:
            return source.read(1)


def forward_only(
    stack: AlignedStack, predictor: Predictor, options: PredictOptions, *, network: Any, streams: int = 1
) -> None:
    """Send one window through a network as often as the scene has windows, ``streams`` at the same time."""
    rows, cols = stack.geobox.shape
    grid = WindowGrid(rows=rows, cols=cols, tile=options.tile, overlap=options.overlap)
    answers = WindowAnswers(network=network, prior=predictor.prior, reliance="none", precision=options.precision)
    window = StackReader(stack).read(0, 0, height=options.tile, width=options.tile)
    tensors = predictor.tensors(stack.name, [window])
    with divided_threads(streams):
        windows = range(grid.row_count * grid.col_count)
        for _ in prefetch(lambda _: answers(tensors), windows, lane=int, threads=streams, most=streams + 1):
            pass


def border_changes(classes: NDArray[np.uint8], size: Size) -> float:
    """Return how much more often neighbours differ across the windows' cores' borders than elsewhere; 1: no seams."""
    stride = size.tile - size.overlap
    changes = [(classes[1:] != classes[:-1]).mean(axis=1), (classes[:, 1:] != classes[:, :-1]).mean(axis=0)]
    at = [np.arange(stride - 1, len(item), stride) for item in changes]
    border = np.concatenate([item[where] for item, where in zip(changes, at, strict=True)])
    inside = np.concatenate([np.delete(item, where) for item, where in zip(changes, at, strict=True)])
    return float(border.mean() / max(inside.mean(), 1e-12))


def speed(size: Size) -> dict[str, Any]:
    """Time every kind of map in turn, and compare class maps; what the goals are about is timed in every round."""
    with tempfile.TemporaryDirectory() as folder:
        stack = write_scene(Path(folder) / "scene", rows=size.scene, cols=size.scene)
        two = stack.of_modalities(("eo", "sar"))
        pair, triple = (
            trained(names, depth=size.encoder_depth, steps=size.steps) for names in (two.modalities, stack.modalities)
        )
        form = {predictor.digest: replace(predictor, network=inference_form(predictor.network), digest="form")
                for predictor in (pair, triple)}  # fmt: skip
        own, own3 = form["pair"], form["triple"]
        plain, low = options_of(size), options_of(size, precision="bf16")
        shapley, exact = (
            options_of(size, reliance="shapley"),
            options_of(size, reliance="shapley", reliance_precision="32"),
        )
        maps: dict[str, NDArray[np.uint8]] = {}

        def mapped(name: str, stack: AlignedStack, predictor: Predictor, options: PredictOptions) -> None:
            maps[name] = map_once(stack, predictor, options)

        work: dict[str, Callable[[], Any]] = {
            "forward": lambda: forward_only(two, pair, plain, network=pair.network),
            "map": lambda: mapped("fp32", two, own, plain),
            "reliance of 2": lambda: map_once(two, own, shapley),
            "map of 3": lambda: map_once(stack, own3, plain),
            "reliance of 3": lambda: map_once(stack, own3, shapley),
            "own forward": lambda: forward_only(two, pair, plain, network=own.network),
            "own forward, 2 at a time": lambda: forward_only(two, pair, plain, network=own.network, streams=2),
            "fp32 reliance of 2": lambda: map_once(two, own, exact),
            "fp32 reliance of 3": lambda: map_once(stack, own3, exact),
            "forward bf16": lambda: forward_only(two, pair, low, network=pair.network),
            "map bf16": lambda: mapped("bf16", two, own, low),
        }
        pieces = Pieces(
            stack=two, network=pair.network, classes=CLASSES, tile=size.tile, overlap=size.overlap,
            halo=plain.chosen_halo, stacked=stacked(two, Path(folder) / "stacked.tif"),
        )  # fmt: skip
        for name, peer in installed_peers().items():
            work[name] = lambda name=name, peer=peer: maps.__setitem__(name, peer(pieces))
        found: dict[str, list[dict[str, float]]] = {name: [] for name in work}
        for number in range(size.rounds):
            for name in list(work)[: len(work) if number == 0 else 5]:
                found[name].append(timed(work[name]))
                print(name, found[name][-1], file=sys.stderr, flush=True)
        peers = [name for name in maps if name not in ("fp32", "bf16")]
    return {
        "seconds": {name: [round(item["wall"], 2) for item in items] for name, items in found.items()},
        "ratios": {name: ratio(found, one, other) for name, (one, other) in RATIOS.items()}
        | {f"{name} / ours": ratio(found, name, "map") for name in peers},
        "bf16_agreement": float((maps["fp32"] == maps["bf16"]).mean()),
        "border_changes": {name: border_changes(item, size) for name, item in maps.items() if name != "bf16"},
        "agreement_with_peers": {name: float((maps[name] == maps["fp32"]).mean()) for name in peers},
    }


RATIOS = {
    "map / forward of the network as trained": ("map", "forward"),
    "map / forward of the form that we map with": ("map", "own forward"),
    "map / that forward, 2 windows at a time": ("map", "own forward, 2 at a time"),
    "reliance of 2 sensors / none": ("reliance of 2", "map"),
    "reliance of 3 sensors / none": ("reliance of 3", "map of 3"),
    "reliance of 2 sensors / none, subsets in fp32": ("fp32 reliance of 2", "map"),
    "reliance of 3 sensors / none, subsets in fp32": ("fp32 reliance of 3", "map of 3"),
    "bf16: map / forward": ("map bf16", "forward bf16"),
    "bf16 map / fp32 map": ("map bf16", "map"),
}


def ratio(found: Mapping[str, list[dict[str, float]]], one: str, other: str) -> dict[str, float]:
    """Return the median over the rounds in which both were measured."""
    return {
        kind: statistics.median(a[kind] / b[kind] for a, b in zip(found[one], found[other], strict=False))
        for kind in ("wall", "cpu")
    }


def stacked(stack: AlignedStack, path: Path) -> Path:
    """Write all bands into one file, for peers that read one."""
    sources = [rasterio.open(stack.present[name]) for name in stack.modalities]
    count = sum(source.count for source in sources)
    with cog_writer(path, stack.geobox, count=count, dtype="float32", nodata=math.nan,
                    overview_resampling="average") as writer:  # fmt: skip
        for top in range(0, stack.geobox.shape[0], 256):
            window = ((top, min(top + 256, stack.geobox.shape[0])), (0, stack.geobox.shape[1]))
            writer.write(np.concatenate([source.read(window=window) for source in sources]), window=window)
    for source in sources:
        source.close()
    return path


def memory(size: Size, rows: int) -> dict[str, float]:
    """Return the peak of a map with reliance over that of its network, MB."""
    with tempfile.TemporaryDirectory() as folder:
        # Written by another process: what writing takes must not hide what mapping takes.
        subprocess.run([sys.executable, __file__, "--part", "scene", "--rows", str(rows), "--folder", folder,
                        *(["--small"] if size is SMALL else [])], check=True)  # fmt: skip
        stack = AlignedStack.load(Path(folder) / "stack.json")
        predictor = trained(stack.modalities, depth=2, steps=0)
        predictor = replace(predictor, network=inference_form(predictor.network))
        answers = WindowAnswers(network=predictor.network, prior=predictor.prior, reliance="shapley")
        window = StackReader(stack).read(0, 0, height=size.tile, width=size.tile)
        tensors = predictor.tensors(stack.name, [window])
        with divided_threads(THREADS):  # as many windows at a time as the map works on
            for _ in prefetch(lambda _: answers(tensors), range(8), lane=int, threads=THREADS, most=THREADS + 1):
                pass
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        map_once(stack, predictor, options_of(size, reliance="shapley"))
        return {"rows": rows, "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 - before}


def part(*arguments: str) -> Any:
    """Measure a part in a process of its own."""
    # GDAL's cache would otherwise grow with the machine; this holds two rows of blocks of the scene.
    done = subprocess.run([sys.executable, __file__, *arguments], check=True, stdout=subprocess.PIPE, text=True,
                          env={**os.environ, "GDAL_CACHEMAX": "96", "OMP_WAIT_POLICY": "PASSIVE",
                               "OMP_NUM_THREADS": str(THREADS)})  # fmt: skip
    return json.loads(done.stdout.splitlines()[-1])


def table(record: Mapping[str, Any]) -> str:
    """Return the figures as Markdown."""
    lines = ["| map of 13 + 2 bands | wall | processor time |", "| --- " * 3 + "|"]
    lines += [f"| {name} | {item['wall']:.2f} | {item['cpu']:.2f} |" for name, item in record["ratios"].items()]
    lines += ["", "| rows of the scene | peak memory over the network's own |", "| --- " * 2 + "|"]
    lines += [f"| {item['rows']} | {item['peak_mb']:.0f} MB |" for item in record["memory"]]
    lines += ["", "| class map | neighbours that differ, at window borders / elsewhere | same class as ours |"]
    lines += ["| --- " * 3 + "|"]
    for name, changes in record["border_changes"].items():
        agreement = record["agreement_with_peers"].get(name)
        lines += [f"| {'ours' if name == 'fp32' else name} | {changes:.3f} | "
                  f"{'' if agreement is None else f'{100 * agreement:.2f} %'} |"]  # fmt: skip
    lines += ["", f"Class maps in bfloat16 and float32 agree on {100 * record['bf16_agreement']:.2f} % of pixels."]
    return "\n".join(lines)


def write_page(record: Mapping[str, Any]) -> None:
    begin, end = "<!-- table: benchmarks/predict.py -->", "<!-- end of table -->"
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(begin)
    PAGE.write_text(f"{before}{begin}\n{table(record)}\n{end}{rest.partition(end)[2]}", encoding="utf-8")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--small", action="store_true", help="try all of it on little data; writes nothing")
    parser.add_argument("--part", choices=("speed", "memory", "scene"))
    parser.add_argument("--again", choices=("memory",), help="measure this anew and keep the rest of predict.json")
    parser.add_argument("--rows", type=int)
    parser.add_argument("--folder", type=Path)
    return parser.parse_args()


def main() -> None:
    from equipoise.pipeline.run_folder import package_versions

    warnings.simplefilter("ignore")
    few_arenas()  # as the command does
    torch.set_num_threads(THREADS)
    given = arguments()
    size, flags = (SMALL, ["--small"]) if given.small else (FULL, [])
    if given.part == "scene":
        write_scene(given.folder, rows=given.rows, cols=size.memory_cols, names=("eo", "sar")).save(
            given.folder / "stack.json"
        )
        return
    if given.part:
        print(json.dumps(speed(size) if given.part == "speed" else memory(size, given.rows)))
        return
    began = time.perf_counter()
    of_memory = [part("--part", "memory", "--rows", str(rows), *flags) for rows in size.memory_rows]
    if given.again:
        record = {**json.loads(RESULT.read_text(encoding="utf-8")), "memory": of_memory}
    else:
        record = {
            **part("--part", "speed", *flags), "memory": of_memory,
            "scene_px": size.scene, "tile_px": size.tile, "overlap_px": size.overlap, "rounds": size.rounds,
            "threads": THREADS, "cpu_count": os.cpu_count(), "load_average": os.getloadavg(),
            "python": platform.python_version(), "versions": package_versions(),
            "measured_in_s": round(time.perf_counter() - began, 1),
        }  # fmt: skip
    print(table(record))
    if given.small:
        print("tried on little data: nothing was written")
        return
    temporary = RESULT.with_name(f".{RESULT.name}.tmp")
    temporary.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    temporary.replace(RESULT)
    write_page(record)


if __name__ == "__main__":
    main()
