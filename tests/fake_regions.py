"""An invented catalog over the border of two UTM zones, regions on both sides of it, and a model for its sensors."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from fake_catalog import EO_KEYS, FakeArchive
from odc.geo.geobox import GeoBox
from pyproj import Transformer
from shapely.geometry import box, mapping
from strategies import north_up

from equipoise.models.checkpoint import ModelCard, save_model
from equipoise.models.network import FusionUNet, NetworkSpec

#: The border of zones 32 and 33, and a latitude, degrees.
BORDER, LATITUDE = 12.0, 48.0


@dataclass(frozen=True, kw_only=True)
class FakeRegions:
    """What was written.

    Attributes
    ----------
    catalog, regions, model
        Folder of the STAC catalog, GeoJSON of the regions, folder of the model.
    archive
        The catalog's files and numbers.
    """

    catalog: Path
    regions: Path
    model: Path
    archive: FakeArchive


def write_regions(folder: Path, rng: np.random.Generator, *, size: int = 640, count: int = 3) -> FakeRegions:
    """Write all of it.

    Parameters
    ----------
    folder
        Receives ``catalog/``, ``regions.geojson`` and ``model/``.
    rng
        Source of all numbers.
    size
        Height of the pictures and width on each side of the border, px of 10 m.
    count
        Number of regions; the first one crosses the border, the others lie west and east of it in turn.
    """
    (folder / "catalog").mkdir(parents=True)
    archive = FakeArchive(folder=folder / "catalog", rng=rng)
    for zone in (32, 33):
        archive.grid = _grid(zone, size)
        archive.sentinel2("2021-07-10T10:00:00Z", name=f"S2_{zone}", cloud=10.0)
        archive.sentinel1("2021-07-11T05:00:00Z", name=f"S1_{zone}")
    archive.write_static()
    return FakeRegions(
        catalog=folder / "catalog", archive=archive, model=write_model(folder / "model"),
        regions=_write_outlines(folder / "regions.geojson", size, count),
    )  # fmt: skip


def write_model(folder: Path, *, seed: int = 0) -> Path:
    """Write a small network with random weights for bands as catalogs give them; return its folder."""
    torch.manual_seed(seed)
    spec = NetworkSpec(modalities=("eo", "sar"), in_channels=(4, 2), classes=3, depth=2, decoder_channels=(16, 8))
    bands = {"eo": (EO_KEYS, "reflectance", 0.2, 0.1), "sar": (("vv", "vh"), "linear_power", -10.0, 4.0)}
    modalities = tuple(
        {
            "name": name,
            "units": "",
            "bands": [{"name": band, "unit": unit} for band in names],
            "statistics": _statistics(len(names), mean, deviation),
        }
        for name, (names, unit, mean, deviation) in bands.items()
    )
    classes = tuple(
        {"value": value, "name": name, "color": colour}
        for value, (name, colour) in enumerate((("water", "#2b6cb0"), ("forest", "#2f855a"), ("field", "#d69e2e")))
    )
    card = ModelCard(
        network=spec.to_dict(), classes=classes, modalities=modalities, class_prior=(0.2, 0.4, 0.4),
        training={"strategy": ["subset_sampling"], "normalisation": "training"},
    )  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    save_model(folder, FusionUNet(spec), card)
    return folder


def _statistics(bands: int, mean: float, deviation: float) -> dict:
    return {"mean": [mean] * bands, "std": [deviation] * bands, "count": 1000}


def _grid(zone: int, size: int) -> GeoBox:
    """Return the grid of one side: ``size`` px from the border, and a fifth of that beyond it."""
    x, y = Transformer.from_crs("EPSG:4326", f"EPSG:{32600 + zone}", always_xy=True).transform(BORDER, LATITUDE)
    beyond = size // 5
    left = x - 10 * size if zone == 32 else x - 10 * beyond
    return north_up(size, size + beyond, left=round(left / 10) * 10.0, top=round(y / 10 + size / 2) * 10.0,
                    crs=f"EPSG:{32600 + zone}")  # fmt: skip


def _write_outlines(path: Path, size: int, count: int) -> Path:
    high, wide = 10 * size / 111_320, 10 * size / 111_320 / np.cos(np.radians(LATITUDE))
    middle, south, north = 0.15 * wide, LATITUDE - 0.4 * high, LATITUDE + 0.4 * high
    shapes = [("both sides", box(BORDER - middle, south, BORDER + middle, north))]
    step = (north - south) / max(1, count - 1)
    for number in range(count - 1):
        low, top = south + number * step, south + (number + 1) * step
        west = BORDER - 0.85 * wide if number % 2 == 0 else BORDER + middle
        east = BORDER - middle if number % 2 == 0 else BORDER + 0.85 * wide
        shapes.append((f"{'west' if number % 2 == 0 else 'east'} {number + 1}", box(west, low, east, top)))
    features = [{"type": "Feature", "properties": {"name": name}, "geometry": mapping(shape)} for name, shape in shapes]
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return path
