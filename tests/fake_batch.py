"""The folder of a finished batch run with invented maps: two zones, units that regions share, one failed, one empty."""

import hashlib
import json
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from pyproj import Transformer

from equipoise import __version__
from equipoise.datasets.patches import footprint
from equipoise.datasets.raster import cog_writer
from equipoise.datasets.stack import IGNORE, AlignedStack
from equipoise.pipeline.map_files import category_names
from equipoise.pipeline.qgis_style import write_style
from equipoise.pipeline.run_folder import write_text
from equipoise.pipeline.stac_item import MapAsset, write_item
from equipoise.pipeline.trust import DEFECTS, FLAG_COLOURS, FLAG_NAMES, Flag

#: Metres.
RESOLUTION = 10.0

MODALITIES = ("eo", "sar", "ir")

#: Value -> name and colour; one name needs escaping in XML and HTML.
CLASSES: Mapping[int, tuple[str, tuple[int, int, int]]] = {
    1: ("water", (0, 80, 200)),
    3: ("forest & <scrub>", (20, 120, 40)),
    7: ("built-up", (200, 30, 30)),
}

#: Region -> outline in longitude and latitude. The first has a hole and shares a slanted edge with the second, whose
#: name is no file name; the third lies on both sides of the border of two zones.
OUTLINES = {
    "alta": shapely.Polygon(
        [(12.101, 45.0), (12.117, 45.002), (12.116, 45.0105), (12.108, 45.013), (12.1, 45.011)],
        [[(12.105, 45.005), (12.108, 45.006), (12.106, 45.008)]],
    ),
    'Sü/d <b>&"1"': shapely.Polygon([(12.117, 45.002), (12.123, 45.003), (12.1225, 45.009), (12.116, 45.0105)]),
    "confine": shapely.Polygon([(11.994, 45.0), (12.007, 45.001), (12.005, 45.007), (11.995, 45.006)]),
}

#: Zone -> its CRS and the longitudes that belong to it.
ZONES = {32: ("EPSG:32632", (6.0, 12.0)), 33: ("EPSG:32633", (12.0, 18.0))}


@dataclass(frozen=True, kw_only=True)
class FakeUnit:
    """A unit and its truth.

    Attributes
    ----------
    name, regions, state
        As in the ledger.
    geobox
        Grid of the chunk.
    maps
        Map -> array as in its file, of a unit that is done; nothing for others. ``classes`` uint8 and ``confidence``
        float32 (y, x); ``reliance`` float32 (modality, tile y, tile x); ``trust`` uint8 (tile y, tile x); ``quality``
        uint8 (modality + 1, tile y, tile x).
    """

    name: str
    regions: tuple[str, ...]
    state: str
    geobox: GeoBox
    maps: Mapping[str, NDArray] = field(default_factory=dict)

    @property
    def crs(self) -> str:
        return f"EPSG:{self.geobox.crs.epsg}"


@dataclass(frozen=True, kw_only=True)
class FakeBatch:
    """What was written.

    Attributes
    ----------
    out
        The run's folder.
    regions
        Columns ``name`` and ``geometry``, EPSG:4326.
    units
        Name -> unit.
    tile
        Edge of a tile of the reliance map, px.
    """

    out: Path
    regions: gpd.GeoDataFrame
    units: Mapping[str, FakeUnit]
    tile: int

    def ledger(self) -> gpd.GeoDataFrame:
        """Rows of the ledger, as every reader gets them."""
        return gpd.read_file(self.out / "ledger.gpkg", layer="units")

    def done(self, region: str | None = None) -> list[FakeUnit]:
        """Units that have maps, those of a region or all."""
        found = [unit for unit in self.units.values() if unit.state == "done"]
        return [unit for unit in found if region is None or region in unit.regions]


def write_batch(
    folder: Path, rng: np.random.Generator, *, edge: int = 64, tile: int = 8, reliance: bool = True
) -> FakeBatch:
    """Write ``folder/out`` as a batch run of three regions leaves it; chunks of ``edge`` px, without regions' outputs.

    ``reliance`` False leaves out the maps of reliance, trust and quality.
    """
    out = folder / "out"
    regions = gpd.GeoDataFrame({"name": list(OUTLINES)}, geometry=list(OUTLINES.values()), crs="EPSG:4326")
    planned = _plan(edge)
    alone = [unit.name for unit in planned if unit.regions == ("alta",)]
    states = dict.fromkeys((unit.name for unit in planned), "done") | {alone[0]: "failed", alone[-1]: "empty"}
    units, rows = {}, []
    for plan in planned:
        maps = _invent(plan, rng, tile=tile, reliance=reliance) if states[plan.name] == "done" else {}
        unit = FakeUnit(
            name=plan.name, regions=plan.regions, state=states[plan.name], geobox=plan.geobox, maps=maps
        )  # fmt: skip
        units[unit.name] = unit
        rows.append(_row(unit, _write_unit(out / "units" / unit.name, unit, tile=tile), rng))
    frame = gpd.GeoDataFrame(pd.DataFrame(rows), geometry=[footprint(unit.geobox) for unit in planned], crs="EPSG:4326")
    frame.to_file(out / "ledger.gpkg", layer="units", driver="GPKG")
    with closing(sqlite3.connect(out / "ledger.gpkg")) as ledger:
        ledger.execute("PRAGMA journal_mode=WAL")
    write_text(out / "batch.json", json.dumps(_manifest(edge, tile), indent=2))
    return FakeBatch(out=out, regions=regions, units=units, tile=tile)


def centres(geobox: GeoBox) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Longitude and latitude of every pixel's centre, float64 (y, x) each."""
    cols, rows = np.meshgrid(np.arange(geobox.shape[1]) + 0.5, np.arange(geobox.shape[0]) + 0.5)
    x, y = geobox.affine.c + geobox.affine.a * cols, geobox.affine.f + geobox.affine.e * rows
    return Transformer.from_crs(str(geobox.crs), "EPSG:4326", always_xy=True).transform(x, y)


def inside(geobox: GeoBox, outline: shapely.Geometry) -> NDArray[np.bool_]:
    """Pixels whose centre lies in an outline in longitude and latitude, asked one by one, bool (y, x)."""
    return shapely.contains_xy(outline, *centres(geobox))


def _plan(edge: int) -> list[FakeUnit]:
    """Chunks of the world grid that regions need, in the order of their names."""
    found = []
    size = edge * RESOLUTION
    for zone, (crs, (west, east)) in ZONES.items():
        parts = {name: area & shapely.box(west, -80, east, 84) for name, area in OUTLINES.items()}
        to_plane = Transformer.from_crs("EPSG:4326", crs, always_xy=True).transform
        planes = {name: shapely.transform(part, to_plane, interleaved=False) for name, part in parts.items() if part}
        left, bottom, right, top = (int(value // size) for value in shapely.total_bounds(list(planes.values())))
        for row in range(bottom, top + 1):
            for col in range(left, right + 1):
                square = shapely.box(col * size, row * size, (col + 1) * size, (row + 1) * size)
                regions = tuple(name for name, plane in planes.items() if plane.intersection(square).area > 0)
                corner = Affine(RESOLUTION, 0.0, col * size, 0.0, -RESOLUTION, (row + 1) * size)
                name = f"utm{zone:02d}n_e{col:04d}_n{row:04d}"
                if regions:
                    grid = GeoBox((edge, edge), corner, crs)
                    found.append(FakeUnit(name=name, regions=regions, state="pending", geobox=grid))
    return sorted(found, key=lambda unit: unit.name)


def _invent(unit: FakeUnit, rng: np.random.Generator, *, tile: int, reliance: bool) -> dict[str, NDArray]:
    """Draw the maps of a unit: nothing outside its regions and zone, nor at a few pixels and in one whole tile."""
    west, east = ZONES[int(unit.name[3:5])][1]
    longitude, _ = centres(unit.geobox)
    seen = np.any([inside(unit.geobox, OUTLINES[name]) for name in unit.regions], axis=0)
    seen &= (longitude >= west) & (longitude < east) & (rng.random(unit.geobox.shape) > 0.05)
    row, col = rng.integers(0, np.array(unit.geobox.shape) // tile) * tile
    seen[row : row + tile, col : col + tile] = False
    classes = np.where(seen, rng.choice(list(CLASSES), p=[0.2, 0.5, 0.3], size=seen.shape), IGNORE).astype(np.uint8)
    confidence = np.where(seen, rng.uniform(0.3, 1.0, seen.shape), np.nan).astype(np.float32)
    maps: dict[str, NDArray] = {"classes": classes, "confidence": confidence}
    if not reliance:
        return maps
    rows, cols = seen.shape[0] // tile, seen.shape[1] // tile
    observed = seen.reshape(rows, tile, cols, tile).any(axis=(1, 3))
    known = observed & (rng.random(observed.shape) > 0.1)
    shares = np.moveaxis(rng.dirichlet(np.ones(len(MODALITIES)), size=observed.shape), -1, 0)
    flags = rng.choice([Flag.SOUND, *DEFECTS], p=[0.6, 0.1, 0.1, 0.1, 0.1], size=observed.shape)
    good = rng.integers(0, 101, size=(len(MODALITIES) + 1, *observed.shape))
    maps["reliance"] = np.where(known, shares, np.nan).astype(np.float32)
    maps["trust"] = np.where(observed, np.where(known, flags, Flag.INDETERMINATE), IGNORE).astype(np.uint8)
    maps["quality"] = np.where(np.stack([observed] * len(MODALITIES) + [known]), good, IGNORE).astype(np.uint8)
    return maps


def _write_unit(folder: Path, unit: FakeUnit, *, tile: int) -> dict | None:
    """Write the files of a unit and return its record; None for a unit that failed."""
    if unit.state == "failed":
        return None
    folder.mkdir(parents=True)
    for kind, values in unit.maps.items():
        _write_map(folder / f"{unit.name}.{kind}.tif", unit, kind, values, tile=tile)
    if unit.maps:
        _write_companions(folder, unit)
    files = {
        path.name: [path.stat().st_size, hashlib.sha256(path.read_bytes()).hexdigest()]
        for path in sorted(folder.iterdir())
    }
    done = unit.state == "done"
    record = {
        "unit": unit.name, "state": unit.state, "reason": None if done else "no sensor saw it", "files": files,
        "fingerprint": hashlib.sha256(unit.name.encode()).hexdigest(),
        "timings": {"acquire": 2.5, "coregister": 1.0, "predict": 4.0, "trust": 0.5, "write": 0.25},
        "sources": [{"id": "S2A_1", "collection": "sentinel-2-l2a", "href": "https://invented.example/S2A_1"}] * done,
        "acquired": {"eo": "2024-06-01T10:00:00Z", "sar": "2024-06-02T05:30:00Z"} if done else {},
        "figures": _figures(unit) if done else {}, "host": "invented", "peak_mib": 812.5, "threads": 1,
    }  # fmt: skip
    write_text(folder / "unit.json", json.dumps(record, indent=2))
    return record


def _write_map(path: Path, unit: FakeUnit, kind: str, values: NDArray, *, tile: int) -> None:
    names = {value: name for value, (name, _) in CLASSES.items()} if kind == "classes" else dict(FLAG_NAMES)
    palette = {value: colour for value, (_, colour) in CLASSES.items()} if kind == "classes" else dict(FLAG_COLOURS)
    layers = values if values.ndim == 3 else values[None]
    descriptions = {
        "classes": ("class",), "confidence": ("confidence",), "reliance": MODALITIES, "trust": ("trust",),
        "quality": (*MODALITIES, "prediction"),
    }[kind]  # fmt: skip
    step, named = 1 if kind in ("classes", "confidence") else tile, kind in ("classes", "trust")
    grid = GeoBox(layers.shape[1:], unit.geobox.affine * Affine.scale(step), unit.geobox.crs)
    tags = {"equipoise": __version__, "scene": unit.name, "model": "0123456789abcdef"}
    tags |= {} if step == 1 else {"tile_px": str(tile)}
    tags |= {f"class_{int(value)}": name for value, name in names.items()} if named else {}
    with cog_writer(
        path, grid, count=len(layers), dtype=str(values.dtype), descriptions=descriptions, tags=tags,
        nodata=IGNORE if values.dtype == np.uint8 else np.nan, colours=palette if named else None,
        overview_resampling="mode" if named else "average",
    ) as writer:  # fmt: skip
        if kind == "quality":
            writer.scales = (0.01,) * len(layers)
        writer.write(layers)
    if named:
        write_text(path.with_name(f"{path.name}.aux.xml"), category_names({int(key): names[key] for key in names}))
        write_style(path, names, colours=palette)


def _write_companions(folder: Path, unit: FakeUnit) -> None:
    times = {"eo": "2024-06-01T10:00:00Z", "sar": "2024-06-02T05:30:00Z"}
    stack = AlignedStack(
        name=unit.name, geobox=unit.geobox, modalities=MODALITIES, acquired=times,
        present={name: folder / f"{name}.tif" for name in ("eo", "sar")}, missing={"ir": "no item at that time"},
    )  # fmt: skip
    kinds = {"classes": CLASSES, "trust": {int(flag): (FLAG_NAMES[flag], FLAG_COLOURS[flag]) for flag in FLAG_NAMES}}
    assets = [
        MapAsset(path=folder / f"{unit.name}.{kind}.tif", title=kind, classes=kinds.get(kind, {})) for kind in unit.maps
    ]
    write_item(folder / f"{unit.name}.json", stack, assets, model=None)


def _figures(unit: FakeUnit) -> dict:
    classes, confidence = unit.maps["classes"], unit.maps["confidence"]
    figures: dict = {
        "class_pixels": {name: int((classes == value).sum()) for value, (name, _) in CLASSES.items()},
        "confidence": float(np.nanmean(confidence)) if np.isfinite(confidence).any() else None,
        "reliance": dict.fromkeys(MODALITIES),
    }
    if "reliance" in unit.maps and (seen := classes != IGNORE).any():
        tiles = unit.geobox.shape[0] // unit.maps["trust"].shape[0]
        flags = np.kron(unit.maps["trust"], np.ones((tiles, tiles), np.uint8))[seen]
        shares = unit.maps["reliance"].reshape(len(MODALITIES), -1)
        known = np.isfinite(shares).all(axis=0)
        figures["reliance"] = dict(zip(MODALITIES, shares[:, known].mean(axis=1).astype(float).tolist(), strict=True))
        figures["trust"] = {
            "doubt": 0.2, "mapped_px": int(seen.sum()), "unknown": ["the position of sar (not measured)"],
            "shares": {name: float((flags == flag).mean()) for flag, name in FLAG_NAMES.items()},
            "sensors": {FLAG_NAMES[flag]: {"eo": float((flags == flag).mean())} for flag in DEFECTS},
            "quality": dict.fromkeys(MODALITIES, 0.5),
        }  # fmt: skip
    return figures


def _row(unit: FakeUnit, record: dict | None, rng: np.random.Generator) -> dict:
    mapped = int((unit.maps["classes"] != IGNORE).sum()) if unit.maps else 0
    failed = unit.state == "failed"
    return {
        "name": unit.name, "crs": unit.crs, "regions": "\n".join(unit.regions), "state": unit.state,
        "attempts": 3 if failed else 1, "losses": 0, "worker": f"worker-{rng.integers(2)}",
        "started": f"2024-07-01T12:{rng.integers(10, 30)}:00+00:00",
        "finished": f"2024-07-01T12:{rng.integers(30, 60)}:00+00:00",
        "seconds": float(rng.uniform(5, 20)), "pixels": mapped,
        "km2": unit.geobox.shape[0] * unit.geobox.shape[1] * RESOLUTION**2 / 1e6,
        "error": {"failed": "found no memory; wanted 2 GiB; lower --edge", "empty": "no sensor saw it"}.get(unit.state),
        "fingerprint": hashlib.sha256(unit.name.encode()).hexdigest(),
        "record": None if record is None else json.dumps(record), "payload": json.dumps({"unit": unit.name}),
    }  # fmt: skip


def _manifest(edge: int, tile: int) -> dict:
    classes = [
        {"value": value, "name": name, "color": "#" + "".join(f"{part:02x}" for part in rgb)}
        for value, (name, rgb) in CLASSES.items()
    ]
    return {
        "equipoise": __version__, "versions": {"numpy": np.__version__}, "seed": 0, "regions": list(OUTLINES),
        "options": {"reliance": "shapley", "reliance_tile": tile, "dates": "2024-06-01/2024-06-30"},
        "model": {
            "folder": "model", "digest": "0123456789abcdef", "modalities": list(MODALITIES), "classes": classes,
        },
        "grid": {"resolution": RESOLUTION, "edge": edge},
    }  # fmt: skip
