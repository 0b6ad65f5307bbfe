"""What `batch.py` maps: scenes and catalogs that are invented, and models for them. Module of `batch.py`."""

import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import predict
import yaml
from affine import Affine
from odc.geo.geobox import GeoBox

from equipoise.datasets.raster import cog_writer
from equipoise.datasets.stack import AlignedStack
from equipoise.datasets.statistics import statistics_to_dict
from equipoise.models.checkpoint import ModelCard, save_model
from equipoise.models.network import FusionUNet, NetworkSpec
from equipoise.pipeline.predict import Predictor

# The catalog over the border of two zones is that of the tests.
sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from fake_regions import FakeRegions, write_model, write_regions

#: Options of units that take about a second: windows of a network with two stages.
LIGHT = {
    "chunk": 128, "coregister": {"method": "none"},
    "predict": {"tile": 96, "overlap": 32, "reliance_tile": 16, "device": "cpu"},
}  # fmt: skip
#: Of units of half a minute: the default network, windows and reliance of two sensors.
HEAVY = {"chunk": 1536, "predict": {"device": "cpu"}}
#: Of units that are as small as a window.
TINY = {"chunk": 32, "predict": {"tile": 32, "overlap": 0, "reliance_tile": 32, "reliance": "none", "device": "cpu"}}


def options_file(folder: Path, options: dict) -> Path:
    """Write options of the command; return the file."""
    path = folder / "options.yaml"
    path.write_text(yaml.safe_dump(options), encoding="utf-8")
    return path


def catalog(folder: Path, *, size: int, count: int) -> FakeRegions:
    """Write a catalog, regions and a light model."""
    return write_regions(folder, np.random.default_rng(0), size=size, count=count)


def scene(folder: Path, *, rows: int, cols: int) -> Path:
    """Write an aligned stack of 13 + 2 bands; return its folder."""
    stack = predict.write_scene(folder / "scene", rows=rows, cols=cols, names=("eo", "sar"))
    AlignedStack.save(stack, folder / "scene" / "stack.json")
    return folder / "scene"


def default_model(folder: Path) -> Path:
    """Write the default network for that stack, which has learned a little; return its folder."""
    return _saved(folder, predict.trained(("eo", "sar"), depth=4, steps=2))


def tiny_scene(folder: Path, *, edge: int) -> tuple[Path, Path]:
    """Write a square stack of one sensor that has seen its upper fifth, and a network as small as they come.

    Return their folders.
    """
    place, grid = folder / "scene", GeoBox((edge, edge), Affine(10, 0, 500_000, 0, -10, 5_000_000), "EPSG:32633")
    place.mkdir(parents=True)
    values = np.full((1, edge, edge), np.nan, dtype=np.float32)
    values[:, : edge // 5] = np.random.default_rng(0).normal(size=(1, edge // 5, edge)).round(2)
    with cog_writer(
        place / "ir.tif", grid, count=1, dtype="float32", nodata=np.nan, overview_resampling="average",
        descriptions=["ir0"], tags={"unit": "digital_number"},
    ) as writer:  # fmt: skip
        writer.write(values)
    stack = AlignedStack(name="tiny", geobox=grid, modalities=("ir",), present={"ir": place / "ir.tif"})
    stack.save(place / "stack.json")
    predictor = predict.trained(("ir",), depth=2, steps=1)
    spec = NetworkSpec(modalities=("ir",), in_channels=(1,), classes=predict.CLASSES, depth=1, decoder_channels=(4,))
    return place, _saved(folder / "model", predictor, FusionUNet(spec))


def _saved(folder: Path, predictor: Predictor, network: FusionUNet | None = None) -> Path:
    network = network or predictor.network
    statistics = statistics_to_dict(predictor.normaliser.training)
    modalities = tuple(
        {"name": item.name, "units": "", "bands": [asdict(band) for band in item.bands],
         "statistics": statistics[item.name]}
        for item in predictor.normaliser.modalities
    )  # fmt: skip
    card = ModelCard(
        network=network.spec.to_dict(), classes=tuple(item.model_dump() for item in predictor.classes),
        modalities=modalities, class_prior=tuple(predictor.prior.tolist()),
        training={"strategy": ["subset_sampling"], "normalisation": "training"},
    )  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    save_model(folder, network, card)
    return folder


__all__ = ["HEAVY", "LIGHT", "TINY", "catalog", "default_model", "options_file", "scene", "tiny_scene", "write_model"]
