"""Summaries of regions: every number is counted again by hand, pixel by pixel, in longitude and latitude."""

import json
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely
from affine import Affine
from fake_batch import CLASSES, MODALITIES, OUTLINES, RESOLUTION, FakeBatch, FakeUnit, inside, write_batch
from odc.geo.geobox import GeoBox

from equipoise.pipeline.batch import unit_counts as counting
from equipoise.pipeline.batch.region_summary import (
    summary_polygons,
    summary_table,
    unit_counts,
    unit_polygons,
    write_summary,
)
from equipoise.pipeline.batch.unit_counts import ellipsoid_km2, pixel_areas
from equipoise.pipeline.errors import PipelineError
from equipoise.pipeline.trust import DEFECTS, Flag

PIXEL_KM2 = RESOLUTION**2 / 1e6
ODD = 'Sü/d <b>&"1"'


@pytest.fixture(scope="module")
def batch(tmp_path_factory) -> FakeBatch:
    """A finished run; read it, do not write into it."""
    return write_batch(tmp_path_factory.mktemp("batch"), np.random.default_rng(23))


def counted(batch: FakeBatch, polygons: gpd.GeoDataFrame) -> list[dict]:
    """Counts of all units that are done."""
    return [
        unit_counts(batch.out / "units" / row["name"], row["name"], unit_polygons(polygons, row))
        for _, row in batch.ledger().iterrows() if row["state"] == "done"
    ]  # fmt: skip


def summed(batch: FakeBatch, areas: gpd.GeoDataFrame | None = None) -> pd.DataFrame:
    polygons = summary_polygons(batch.regions, areas)
    return summary_table(polygons, batch.ledger(), counted(batch, polygons)).set_index("name")


def pixels(units: list[FakeUnit], outline: shapely.Geometry, tile: int) -> pd.DataFrame:
    """One row a mapped pixel of an outline: class, confidence, flag and shares of its tile."""
    rows = []
    for unit in units:
        within = inside(unit.geobox, outline) & (unit.maps["classes"] != 255)
        spread = {
            name: np.kron(layer, np.ones((tile, tile), layer.dtype))[within]
            for name, layer in {
                "trust": unit.maps["trust"],
                **dict(zip(MODALITIES, unit.maps["reliance"], strict=True)),
            }.items()
        }
        rows.append(pd.DataFrame(
            {"class": unit.maps["classes"][within], "confidence": unit.maps["confidence"][within], **spread}
        ))  # fmt: skip
    return pd.concat(rows).astype(np.float64)


def assert_row(row: pd.Series, wanted: pd.DataFrame) -> None:
    def area(mask: pd.Series) -> float:
        return float(mask.sum()) * PIXEL_KM2

    assert row["mapped_km2"] == pytest.approx(len(wanted) * PIXEL_KM2, rel=1e-12)
    for value, (name, _) in CLASSES.items():
        assert row[f"class_{name}_km2"] == pytest.approx(area(wanted["class"] == value), rel=1e-12)
    assert row["untrusted_km2"] == pytest.approx(area(wanted["trust"].isin([int(flag) for flag in DEFECTS])), rel=1e-12)
    assert row["indeterminate_km2"] == pytest.approx(area(wanted["trust"] == Flag.INDETERMINATE), rel=1e-12)
    assert row["confidence"] == pytest.approx(wanted["confidence"].mean(), rel=1e-6)
    for name in MODALITIES:
        assert row[f"reliance_{name}"] == pytest.approx(wanted[name].mean(), rel=1e-6)
    assert sum(row[f"reliance_{name}"] for name in MODALITIES) == pytest.approx(1, abs=1e-6)


def test_regions_are_what_their_own_pixels_are(batch):
    table = summed(batch)
    assert list(table.index) == list(OUTLINES)
    for name, outline in OUTLINES.items():
        assert_row(table.loc[name], pixels(batch.done(name), outline, batch.tile))
        classes = [f"class_{label}_km2" for label, _ in CLASSES.values()]
        assert table.loc[name, classes].sum() == pytest.approx(table.loc[name, "mapped_km2"], rel=1e-12)


def test_a_shared_unit_counts_for_each_region_by_its_own_pixels(batch):
    polygons = summary_polygons(batch.regions)
    shared = next(
        unit for unit in batch.done(ODD) if "alta" in unit.regions and (unit.maps["classes"] != 255).sum() > 500
    )
    row = next(row for _, row in batch.ledger().iterrows() if row["name"] == shared.name)
    found = unit_counts(batch.out / "units" / shared.name, shared.name, unit_polygons(polygons, row))
    mapped = {key: part["mapped"] for key, part in found["polygons"].items()}
    assert set(mapped) == {"0", "1"}
    assert min(mapped.values()) > 0
    assert sum(mapped.values()) == (shared.maps["classes"] != 255).sum()
    assert json.loads(json.dumps(found)) == found


def test_units_are_counted_by_state(batch):
    table = summed(batch)
    for name in OUTLINES:
        states = [unit.state for unit in batch.units.values() if name in unit.regions]
        for state in ("done", "empty", "failed"):
            assert table.loc[name, f"units_{state}"] == states.count(state)
    assert table[["units_failed", "units_empty", "units_pending"]].sum().tolist() == [1, 1, 0]
    ledger = batch.ledger()
    ledger["state"] = np.where(np.arange(len(ledger)) % 2, "running", "pending")
    waiting = summary_table(summary_polygons(batch.regions), ledger, []).set_index("name")
    assert waiting.loc["alta", "units_pending"] == sum("alta" in unit.regions for unit in batch.units.values())
    assert waiting.loc["alta", ["mapped_km2", "mapped_share"]].tolist() == [0, 0]
    assert waiting.loc["alta", ["confidence", "untrusted_km2"]].isna().all()


def test_polygons_that_tile_the_plane_add_up_to_the_whole(batch):
    rng = np.random.default_rng(3)
    points = np.column_stack([rng.uniform(11.99, 12.125, 60), rng.uniform(44.998, 45.014, 60)])
    cells = shapely.get_parts(
        shapely.voronoi_polygons(shapely.multipoints(points), extend_to=shapely.box(11.5, 44.5, 12.5, 45.5))
    )
    areas = gpd.GeoDataFrame(
        {"name": [f"cell {number}" for number in range(len(cells))]}, geometry=cells, crs="EPSG:4326"
    )
    table = summed(batch, areas)
    table = table[table["kind"] == "area"]
    whole = pixels(batch.done(), shapely.box(11, 44, 13, 46), batch.tile)
    assert table["mapped_km2"].sum() == pytest.approx(len(whole) * PIXEL_KM2, rel=1e-12)
    for value, (name, _) in CLASSES.items():
        wanted = float((whole["class"] == value).sum()) * PIXEL_KM2
        assert table[f"class_{name}_km2"].sum() == pytest.approx(wanted, rel=1e-12)
    weighted = (table["confidence"] * table["mapped_km2"]).sum() / table["mapped_km2"].sum()
    assert weighted == pytest.approx(whole["confidence"].mean(), rel=1e-6)


def test_other_areas_take_pixels_of_every_region_and_zone(batch):
    across = shapely.Polygon([(11.996, 44.99), (12.12, 44.995), (12.11, 45.008), (11.997, 45.02)])
    areas = gpd.GeoDataFrame({"name": ["across", "far"]}, geometry=[across, shapely.box(3, 3, 4, 4)], crs="EPSG:4326")
    table = summed(batch, areas)
    assert list(table.index) == [*OUTLINES, "across"]  # no unit meets the other one
    assert_row(table.loc["across"], pixels(batch.done(), across, batch.tile))


def test_the_mapped_share_is_that_of_the_pixels_within(batch):
    unit = max(batch.done("alta"), key=lambda unit: (unit.maps["classes"] != 255).sum())
    whole = shapely.box(12.1015, 45.0065, 12.1045, 45.0085)
    seen = pixels(batch.done(), whole, batch.tile)
    within = sum(int(inside(one.geobox, whole).sum()) for one in batch.done())
    areas = gpd.GeoDataFrame({"name": ["whole"]}, geometry=[whole], crs="EPSG:4326")
    row = summed(batch, areas).loc["whole"]
    assert within * unit.geobox.affine.a**2 / 1e6 == pytest.approx(row["polygon_km2"], rel=0.02)
    assert row["mapped_share"] == pytest.approx(len(seen) / within, rel=0.02)


def test_areas_of_polygons_are_those_of_an_equal_area_projection():
    shapes = [*OUTLINES.values(), shapely.box(-3, 50, 9, 61), shapely.box(170, -20, 180, -10)]
    for shape in shapes:
        dense = gpd.GeoSeries([shapely.segmentize(shape, 0.01)], crs="EPSG:4326")
        # An edge of 0.01 degrees along a parallel lies about a centimetre from the geodesic.
        assert ellipsoid_km2(shape) == pytest.approx(dense.to_crs("EPSG:6933").area.iloc[0] / 1e6, rel=1e-5)


@pytest.mark.parametrize(
    ("crs", "corner", "size", "wanted"),
    [
        ("EPSG:32633", (500_000.0, 5_000_000.0), 10.0, 100.0 / 1e6),
        ("EPSG:2263", (1_000_000.0, 200_000.0), 10.0, (10 * 1200 / 3937) ** 2 / 1e6),
        # A sphere of the ellipsoid's authalic radius, at 45 degrees north: within half a percent.
        ("EPSG:4326", (12.0, 45.0), 1e-4, (np.radians(1e-4) * 6371.007) ** 2 * np.cos(np.radians(45))),
    ],
)
def test_a_pixel_has_the_area_of_its_grid(crs, corner, size, wanted):
    grid = GeoBox((50, 80), Affine(size, 0, corner[0], 0, -size, corner[1]), crs)
    on_grid, on_ellipsoid = pixel_areas(grid)
    assert on_grid == pytest.approx(wanted, rel=5e-3 if crs == "EPSG:4326" else 1e-6)
    assert on_ellipsoid == pytest.approx(wanted, rel=5e-3)
    if crs == "EPSG:32633":
        assert on_ellipsoid == pytest.approx(wanted / 0.9996**2, rel=1e-6)


def test_the_order_of_units_and_the_height_of_strips_do_not_matter(batch, monkeypatch):
    polygons, ledger = summary_polygons(batch.regions), batch.ledger()
    counts = counted(batch, polygons)
    first = summary_table(polygons, ledger, counts)
    pd.testing.assert_frame_equal(first, summary_table(polygons, ledger, counts[::-1]), check_exact=True)
    monkeypatch.setattr(counting, "TILE", 11)
    pd.testing.assert_frame_equal(first, summary_table(polygons, ledger, counted(batch, polygons)), rtol=1e-12)


def test_without_reliance_what_is_not_known_is_not_zero(tmp_path):
    table = summed(write_batch(tmp_path, np.random.default_rng(2), reliance=False))
    assert table[["untrusted_km2", "indeterminate_km2"]].isna().all(axis=None)
    assert not [name for name in table.columns if name.startswith("reliance_")]
    assert (table["mapped_km2"] > 0).all()


def test_the_table_is_geoparquet_and_comes_whole_or_not_at_all(batch, tmp_path):
    table = summed(batch).reset_index()
    path = write_summary(tmp_path / "regions.parquet", table)
    again = gpd.read_parquet(path)
    pd.testing.assert_frame_equal(
        pd.DataFrame(again.drop(columns="geometry")), pd.DataFrame(table.drop(columns="geometry"))
    )
    assert again.crs == "EPSG:4326"
    assert again.geometry.geom_equals(table.geometry).all()
    before = path.read_bytes()
    with pytest.raises(Exception, match="object"):
        write_summary(path, table.assign(confidence=[object()] * len(table)))
    assert path.read_bytes() == before
    assert [item.name for item in tmp_path.iterdir()] == ["regions.parquet"]


def test_a_unit_without_its_maps_is_named(tmp_path: Path):
    with pytest.raises(PipelineError, match=r"found a unit whose maps do not open .*; wanted complete maps") as raised:
        unit_counts(tmp_path / "utm33n_e0000_n0000", "utm33n_e0000_n0000", [])
    assert "\n" not in str(raised.value)


def test_a_region_that_is_elsewhere_has_nothing_of_a_unit(batch):
    regions = batch.regions.assign(geometry=shapely.box(-60, -10, -50, 10))
    counts = counted(batch, summary_polygons(regions))
    assert {part["mapped"] for unit in counts for part in unit["polygons"].values()} == {0}
    table = summary_table(summary_polygons(regions), batch.ledger(), counts)
    assert (table["mapped_share"] == 0).all()
    assert table[["confidence", *(f"reliance_{name}" for name in MODALITIES)]].isna().all(axis=None)
