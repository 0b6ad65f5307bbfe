"""Region summary: areas, classes, confidence, reliance and trust of regions and other polygons, from units' counts."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from shapely.geometry.base import BaseGeometry

from ..trust import DEFECTS, Flag
from .outlines import outline_on
from .unit_counts import ellipsoid_km2, unit_counts

__all__ = ["summary_polygons", "summary_table", "unit_counts", "unit_polygons", "write_summary"]

#: Plain numbers, as :func:`~.unit_counts.unit_counts` gives them: of a unit, or of a polygon in it.
Counts = Mapping[str, Any]

#: Kinds of polygons.
REGION, AREA = "region", "area"

#: States of units that are counted, and what is counted with them.
STATES = {"done": ("done",), "empty": ("empty",), "failed": ("failed",), "pending": ("pending", "running")}


def summary_polygons(regions: gpd.GeoDataFrame, areas: gpd.GeoDataFrame | None = None) -> gpd.GeoDataFrame:
    """Return what is summed up, one row a polygon: first the regions, then other areas.

    Parameters
    ----------
    regions, areas
        Columns ``name`` and ``geometry``, polygons in EPSG:4326.

    Returns
    -------
    Columns ``kind`` (``region`` or ``area``), ``name`` and ``geometry``; a row's position, as text, is its key.
    """
    parts = [(REGION, regions), *([] if areas is None else [(AREA, areas)])]
    return gpd.GeoDataFrame(
        {
            "kind": [kind for kind, frame in parts for _ in range(len(frame))],
            "name": [str(name) for _, frame in parts for name in frame["name"]],
        },
        geometry=[shapely.make_valid(shape) for _, frame in parts for shape in frame.geometry],
        crs="EPSG:4326",
    )


def unit_polygons(polygons: gpd.GeoDataFrame, unit: Mapping[str, Any] | pd.Series) -> list[tuple[str, bytes]]:
    """Return the polygons that a unit counts for, as :func:`~.unit_counts.unit_counts` takes them.

    Parameters
    ----------
    polygons
        As :func:`summary_polygons` gives them.
    unit
        Its row of the ledger: ``regions``, ``crs`` and ``geometry`` (outline, EPSG:4326).

    Returns
    -------
    Key and outline (WKB, on the plane of ``crs``) of the regions that the unit belongs to, and of the other areas that
    it meets.
    """
    found = []
    for position in _met(polygons, unit):
        shape = outline_on(polygons.geometry.iloc[position], unit["crs"], near=unit["geometry"])
        found.append((str(position), shapely.to_wkb(shape)))
    return found


def summary_table(polygons: gpd.GeoDataFrame, units: gpd.GeoDataFrame, counts: Iterable[Counts]) -> gpd.GeoDataFrame:
    """Add up the counts of units to one row a polygon.

    Areas are numbers of pixels times the area of a pixel on the grid of the maps: on a UTM grid within 0.1 % of the
    ellipsoid's, and the same number that anyone gets who counts pixels of the maps. Only ``mapped_share`` compares
    areas on the ellipsoid. Where maps of two grids overlap, what both have counts twice.

    Parameters
    ----------
    polygons
        As :func:`summary_polygons` gives them; areas that no unit meets are left out.
    units
        Rows of the ledger.
    counts
        As :func:`~.unit_counts.unit_counts` gives them, one a unit that is done, in any order.

    Returns
    -------
    EPSG:4326, columns: ``kind``, ``name``; ``polygon_km2``: area on the ellipsoid; ``mapped_km2``; ``mapped_share``:
    the part of the polygon that was mapped, which may pass 1 by half a pixel along its edge; ``confidence``: mean over
    mapped pixels; ``untrusted_km2``: in tiles that rest on input that was not good; ``indeterminate_km2``: in tiles
    where nobody can tell; ``class_<name>_km2`` for each class; ``reliance_<modality>``: mean share, tiles weighted by
    their mapped pixels within the polygon; ``units_done``, ``units_empty``, ``units_failed``, ``units_pending``;
    ``geometry``. What no map tells is NaN.
    """
    by_key: dict[str, list[tuple[Counts, Counts]]] = {}
    # In one order, whatever worker was first: sums depend on it in their last bits.
    for record in sorted(counts, key=lambda item: str(item["unit"])):
        for key, part in record["polygons"].items():
            by_key.setdefault(key, []).append((record, part))
    met = _states(polygons, units)
    rows = []
    for position, (kind, name, shape) in enumerate(
        zip(polygons["kind"], polygons["name"], polygons.geometry, strict=True)
    ):
        if kind == REGION or met[position]:
            row = {"kind": kind, "name": name, **_sums(by_key.get(str(position), []), ellipsoid_km2(shape))}
            row |= {f"units_{key}": sum(met[position][state] for state in states) for key, states in STATES.items()}
            rows.append(row | {"geometry": shape})
    table = gpd.GeoDataFrame(pd.DataFrame(rows), geometry="geometry", crs="EPSG:4326")
    classes = [name for name in table.columns if name.startswith("class_")]
    # A class that a polygon has nothing of has no area there; a share that nothing tells remains NaN.
    table[classes] = table[classes].fillna(0.0)
    last = [name for name in table.columns if name.startswith(("class_", "reliance_", "units_"))]
    last.sort(key=lambda name: ("class_", "reliance_", "units_").index(f"{name.split('_')[0]}_"))
    return table[[*(name for name in table.columns if name not in {*last, "geometry"}), *last, "geometry"]]


def write_summary(path: Path, table: gpd.GeoDataFrame) -> Path:
    """Write a summary as GeoParquet, renamed into place, and return ``path``."""
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        table.to_parquet(temporary, index=False)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def _met(polygons: gpd.GeoDataFrame, unit: Mapping[str, Any] | pd.Series) -> list[int]:
    """Return positions of the regions that a unit belongs to, and of the other areas that it meets."""
    regions = set(str(unit["regions"]).split("\n"))
    member = np.flatnonzero(((polygons["kind"] == REGION) & polygons["name"].isin(regions)).to_numpy())
    outline: BaseGeometry = unit["geometry"]
    near = polygons.sindex.query(outline, predicate="intersects")
    areas = near[(polygons["kind"] == AREA).to_numpy()[near]]
    return sorted([*member.tolist(), *areas.tolist()])


def _states(polygons: gpd.GeoDataFrame, units: gpd.GeoDataFrame) -> list[Counter[str]]:
    found: list[Counter[str]] = [Counter() for _ in range(len(polygons))]
    for regions, state, shape in zip(units["regions"], units["state"], units.geometry, strict=True):
        for position in _met(polygons, {"regions": regions, "geometry": shape}):
            found[position][str(state)] += 1
    return found


def _sums(parts: Sequence[tuple[Counts, Counts]], polygon_km2: float) -> dict[str, float]:
    """Return the areas and means of a polygon from what each unit has of it."""

    def km2(pixels: Callable[[Counts], int], area: str = "pixel_km2") -> float:
        return math.fsum(unit[area] * pixels(part) for unit, part in parts)

    def flagged(*flags: Flag) -> float:
        known = any(part["trust"] for _, part in parts)
        return km2(lambda part: sum(part["trust"].get(str(int(flag)), 0) for flag in flags)) if known else math.nan

    confidence = [part["confidence"] for _, part in parts]
    row = {
        "polygon_km2": polygon_km2, "mapped_km2": km2(lambda part: part["mapped"]),
        "mapped_share": km2(lambda part: part["mapped"], "ellipsoid_km2") / polygon_km2,
        "confidence": _ratio((total for total, _ in confidence), (pixels for _, pixels in confidence)),
        "untrusted_km2": flagged(*DEFECTS), "indeterminate_km2": flagged(Flag.INDETERMINATE),
    }  # fmt: skip
    for unit, part in parts:
        for value in {**unit["names"], **part["classes"]}:
            column = f"class_{unit['names'].get(value, value)}_km2"
            row[column] = row.get(column, 0.0) + unit["pixel_km2"] * part["classes"].get(value, 0)
    for name in dict.fromkeys(name for _, part in parts for name in part["reliance"]):
        known = [part for _, part in parts if name in part["reliance"]]
        row[f"reliance_{name}"] = _ratio(
            (part["reliance"][name] for part in known), (part["reliance_px"] for part in known)
        )  # fmt: skip
    return row


def _ratio(sums: Iterable[float], pixels: Iterable[int]) -> float:
    count = sum(pixels)
    return math.fsum(sums) / count if count else math.nan
