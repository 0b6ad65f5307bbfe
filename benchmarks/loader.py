"""How fast patches come: aligned COGs and the patch store against torchgeo, and what of a training step they take.

All read equally many random windows of the same two aligned float32 COGs (4 and 2 bands, made by the product from the
embedded scene), in turn, several times; the median counts. The product's windows are the same for all of its loaders;
torchgeo's sampler draws its own. GDAL's cache of decoded blocks is held at 16 MB in every process, less than one
raster, so that blocks are decoded again as they are where data are larger than memory. All files come from the
system's page cache: from a slow disk the uncompressed store, which is the largest, would gain less. torchgeo gives
the two images alone; the product's samples are normalised and carry valid masks, labels and which modality is there.

Run by ``make bench``; writes ``benchmarks/loader.json`` and the table in ``docs/tiles.md``, and prints the figures.
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # threads that spin take the loader's cores
os.environ["GDAL_CACHEMAX"] = "16"

import functools
import json
import platform
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.data import DataLoader

from equipoise.datasets.modality import Modality
from equipoise.datasets.normalise import Normaliser
from equipoise.datasets.patch_store import PatchStore, write_store
from equipoise.datasets.patches import PatchIndex, footprint
from equipoise.datasets.stack import AlignedStack, StackWindow
from equipoise.datasets.synthetic import write_scene
from equipoise.datasets.training_statistics import scene_statistics

if TYPE_CHECKING:
    from equipoise.datasets.datamodule import PatchDataModule

# A worker process imports this file again: what only the training process needs is imported where it is used.

SCENE_PX = 1024
BATCH = 16
REPEATS = 3
PATCHES = {128: 320, 256: 160}
#: Training steps that are measured, after two that start workers and fill caches.
STEPS = 8
WORKERS = (0, 1, 2)
GOAL = 3.0
RESULT = Path(__file__).with_name("loader.json")
PAGE = Path(__file__).parents[1] / "docs" / "tiles.md"


def align(folder: Path) -> tuple[AlignedStack, tuple[Modality, ...]]:
    """Write the embedded scene and bring two of its modalities onto one grid, as a run does."""
    from equipoise.pipeline.config import parse_config
    from equipoise.pipeline.run_folder import RunFolder
    from equipoise.pipeline.stages import Run
    from equipoise.pipeline.templates import template_record

    scene = write_scene(folder / "scene", size=SCENE_PX)
    record = template_record("demo")
    record["modalities"] = {name: record["modalities"][name] for name in ("eo", "sar")}
    files = {name: str(scene.paths[name]) for name in record["modalities"]}
    record["scenes"] = [{"name": "embedded", "files": files, "labels": str(scene.labels)}]
    run = Run(config=parse_config(record, origin=folder / "loader.yaml"), folder=RunFolder.open(folder / "run"))
    run.do("coregister")
    return run.stacks["embedded"], run.config.domain_modalities()


def random_windows(stack: AlignedStack, *, size: int, count: int) -> PatchIndex:
    """Windows anywhere in the scene, as a random sampler draws them."""
    rng = np.random.default_rng(size)
    places = {tuple(rng.integers(0, SCENE_PX - size, 2).tolist()) for _ in range(count)}
    rows = [
        {
            "scene": stack.name, "row": row, "col": col, "height": size, "width": size, "label": 255, "split": "train",
            "geometry": footprint(stack.geobox[row : row + size, col : col + size]), "valid_eo": 1.0, "valid_sar": 1.0,
        }
        for row, col in sorted(places)
    ]  # fmt: skip
    return PatchIndex.from_rows(rows, modalities=stack.modalities, georeferenced=True)


class ZarrStore:
    """The rival of the patch store: zarr v3, a chunk a patch, Zstandard; read as the product's store is."""

    def __init__(self, folder: Path, store: PatchStore) -> None:
        import zarr

        self._folder, self._store, self._group = folder, store, None
        group = zarr.open_group(folder, mode="w")
        for path in sorted(store.folder.glob("*.npy")):
            values = np.load(path, mmap_mode="r")
            array = group.create_array(path.stem, shape=values.shape, chunks=(1, *values.shape[1:]), dtype=values.dtype)
            array[:] = values[:]

    def positions(self, index: PatchIndex) -> list[int]:
        """As the patch store's."""
        return self._store.positions(index)

    def read(self, position: int, stack: AlignedStack) -> StackWindow:
        """As the patch store's."""
        import zarr

        if self._group is None:
            self._group = zarr.open_group(self._folder, mode="r")
        image = {name: self._group[name][position] for name in stack.present}
        valid = {name: np.isfinite(values).all(axis=0) for name, values in image.items()}
        return StackWindow(image=image, valid=valid, labels=self._group["labels"][position])


def torchgeo_loader(folder: Path, *, size: int, count: int, workers: int) -> DataLoader[Any]:
    """Return the peer's loader of the same files; made anew each time: open files must not be shared over a fork."""
    from torchgeo.datasets import RasterDataset, stack_samples
    from torchgeo.samplers import RandomGeoSampler

    class Optical(RasterDataset):  # type: ignore[misc]
        filename_glob = "eo.tif"

    class Radar(RasterDataset):  # type: ignore[misc]
        filename_glob = "sar.tif"

    both = Optical(folder) & Radar(folder)
    generator = torch.Generator().manual_seed(0)
    sampler = RandomGeoSampler(both, size=size, length=count, generator=generator)
    return DataLoader(both, batch_size=BATCH, sampler=sampler, num_workers=workers, collate_fn=stack_samples)


def rate(batches: Iterable[Any], count: int) -> float:
    """Patches a second from the first batch on: what it takes to start worker processes is measured apart."""
    stream = iter(batches)
    next(stream)
    began = time.perf_counter()
    for _ in stream:
        pass
    return (count - BATCH) / (time.perf_counter() - began)


def step_share(loader: DataLoader[Any], network: torch.nn.Module) -> dict[str, float]:
    """Train for some steps; return ms a step that the network computes and that it waits for the next batch."""
    optimiser = torch.optim.AdamW(network.parameters())
    waits, computes = [], []
    stream = iter(loader)
    for _ in range(STEPS + 2):
        began = time.perf_counter()
        batch = next(stream)
        arrived = time.perf_counter()
        optimiser.zero_grad()
        logits = network(batch["image"], valid=batch["valid"], available=batch["available"])
        torch.nn.functional.cross_entropy(logits, batch["mask"], ignore_index=255).backward()
        optimiser.step()
        waits.append(arrived - began)
        computes.append(time.perf_counter() - arrived)
    wait, compute = (1000 * statistics.median(values[2:]) for values in (waits, computes))
    return {"compute_ms": compute, "wait_ms": wait, "share": wait / (wait + compute)}


def compare(folder: Path) -> dict[str, Any]:
    """Measure everything."""
    from equipoise.datasets.datamodule import PatchDataModule

    stack, modalities = align(folder)
    training = scene_statistics(stack, modalities)
    aligned = stack.present["eo"].parent
    sources: dict[int, dict[str, Callable[[int], Iterable[Any]]]] = {}
    modules: dict[str, PatchDataModule] = {}
    stored_mb = {}
    for size, count in PATCHES.items():
        index = random_windows(stack, size=size, count=count)
        store = write_store(folder / f"store{size}", index, {stack.name: stack}, fingerprint=str(size))
        zarr = ZarrStore(folder / f"zarr{size}", store)
        stored_mb[size] = {
            name: sum(path.stat().st_size for path in where.rglob("*") if path.is_file()) / 1e6
            for name, where in (("store npy", store.folder), ("store zarr", folder / f"zarr{size}"))
        }

        def ours(workers: int, *, kept: Any, index: PatchIndex = index) -> "PatchDataModule":
            return PatchDataModule(
                index, {stack.name: stack}, normaliser=Normaliser(modalities=modalities, training=training),
                class_values=range(6), classification=False, batch_size=BATCH, workers=workers, augment=None, seed=0,
                store=kept,
            )  # fmt: skip

        def peer(workers: int, *, size: int = size, count: int = len(index)) -> DataLoader[Any]:
            return torchgeo_loader(aligned, size=size, count=count, workers=workers)

        sources[size] = {"torchgeo": peer}
        for name, kept in (("aligned COGs", None), ("store npy", store), ("store zarr", zarr)):
            module_of = functools.partial(ours, kept=kept)
            sources[size][name] = lambda workers, module_of=module_of: module_of(workers).loader("train", epoch=0)
            if size == 128 and name != "store zarr":
                modules |= {f"{name}, {n} workers": module_of(n) for n in WORKERS}
    rates = measure_rates(sources)
    return {"rates": rates, "stored_mb": stored_mb, "step": measure_steps(modules), "startup_s": startup(modules)}


def measure_rates(sources: Mapping[int, Mapping[str, Callable[[int], Iterable[Any]]]]) -> list[dict[str, Any]]:
    """Patches a second of every source, patch size and number of workers, taken in turn."""
    found: dict[tuple[int, str, int], list[float]] = {}
    for _ in range(REPEATS):
        for size, named in sources.items():
            for workers in WORKERS:
                for name, make in named.items():
                    found.setdefault((size, name, workers), []).append(rate(make(workers), PATCHES[size]))
    return [
        {
            "patch_px": size, "source": name, "workers": workers, "patches_per_s": statistics.median(values),
            "all": [round(value, 1) for value in values],
            "ratio_to_torchgeo": statistics.median(values) / statistics.median(found[size, "torchgeo", workers]),
        }
        for (size, name, workers), values in found.items()
    ]  # fmt: skip


def measure_steps(modules: Mapping[str, "PatchDataModule"]) -> dict[str, dict[str, float]]:
    """Measure what the loader takes of a training step of two resnet18 encoders, 128 px, batches of 16."""
    from equipoise.models.network import FusionUNet
    from equipoise.models.spec import NetworkSpec

    spec = NetworkSpec(
        modalities=("eo", "sar"), in_channels=(4, 2), classes=6, encoder="resnet18", depth=4,
        decoder_channels=(128, 64, 32, 16),
    )  # fmt: skip
    network = FusionUNet(spec).train()
    return {name: step_share(module.loader("train", epoch=0), network) for name, module in modules.items()}


def startup(modules: Mapping[str, "PatchDataModule"]) -> dict[str, float]:
    """Seconds to the first batch of an epoch with worker processes, after the first epoch."""
    found = {}
    for name, module in modules.items():
        if name.endswith("2 workers"):
            began = time.perf_counter()
            next(iter(module.loader("train", epoch=1)))
            found[name] = time.perf_counter() - began
    return found


def report(record: Mapping[str, Any]) -> None:
    print(f"{'patches/s':<14} {'patch':>6} {'workers':>8} {'rate':>9} {'x torchgeo':>11}")
    for item in record["rates"]:
        print(
            f"{item['source']:<14} {item['patch_px']:>6} {item['workers']:>8} {item['patches_per_s']:>9.1f} "
            f"{item['ratio_to_torchgeo']:>11.1f}"
        )
    print(f"\n{'training step, 128 px, batch 16':<34} {'compute ms':>11} {'wait ms':>9} {'share':>7}")
    for name, item in record["step"].items():
        print(f"{name:<34} {item['compute_ms']:>11.1f} {item['wait_ms']:>9.1f} {item['share']:>7.1%}")
    goal = record["goal"]
    print(f"\nleast: aligned COGs {goal['aligned COGs']:.1f} x, store {goal['store npy']:.1f} x torchgeo", end="; ")
    print(f"goal {goal['wanted']:.0f} x")


def table(record: Mapping[str, Any]) -> str:
    """Return the figures as Markdown."""
    found = {(item["patch_px"], item["workers"], item["source"]): item for item in record["rates"]}
    sources = list(dict.fromkeys(source for _, _, source in found))
    lines = ["| patch | workers | " + " | ".join(sources) + " |", "| --- " * (len(sources) + 2) + "|"]
    for size, workers in dict.fromkeys((size, workers) for size, workers, _ in found):
        cells = [found[size, workers, source] for source in sources]
        rates = " | ".join(f"{cell['patches_per_s']:.0f} ({cell['ratio_to_torchgeo']:.1f}x)" for cell in cells)
        lines.append(f"| {size} px | {workers} | {rates} |")
    lines += ["", "What a training step waits for (two resnet18 encoders, 128 px, batches of 16):", ""]
    lines += ["| loader | computing, ms | waiting, ms | waiting |", "| --- | --- | --- | --- |"]
    for name, step in record["step"].items():
        lines.append(f"| {name} | {step['compute_ms']:.0f} | {step['wait_ms']:.1f} | {step['share']:.1%} |")
    return "\n".join(lines)


def write_page(record: Mapping[str, Any]) -> None:
    begin, end = "<!-- table: benchmarks/loader.py -->", "<!-- end of table -->"
    before, rest = PAGE.read_text(encoding="utf-8").split(begin)
    after = rest.split(end)[1]
    PAGE.write_text(f"{before}{begin}\n{table(record)}\n{end}{after}", encoding="utf-8")


def main() -> None:
    from equipoise.pipeline.run_folder import package_versions

    warnings.simplefilter("ignore")  # torchgeo's and rasterio's notices of what will change
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        record = compare(Path(folder))
    least = {
        name: min(item["ratio_to_torchgeo"] for item in record["rates"] if item["source"] == name)
        for name in ("aligned COGs", "store npy", "store zarr")
    }
    record = {
        "goal": {"wanted": GOAL, **least}, "scene_px": SCENE_PX, "batch": BATCH, "repeats": REPEATS,
        "patches": PATCHES, "gdal_cache_mb": 16, **record, "seconds": round(time.perf_counter() - began, 1),
        "cpu_count": os.cpu_count(), "threads": torch.get_num_threads(), "load_average": os.getloadavg(),
        "python": platform.python_version(),
        "versions": package_versions() | {name: version(name) for name in ("torchgeo", "zarr")},
    }  # fmt: skip
    temporary = RESULT.with_name(f".{RESULT.name}.tmp")
    temporary.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    temporary.replace(RESULT)
    write_page(record)
    report(record)


if __name__ == "__main__":
    main()
