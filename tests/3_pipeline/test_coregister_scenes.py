"""Coregister: the planted misregistration is found, and what cannot be measured is left as it was."""

import json

import numpy as np
import pytest
import rasterio
from affine import Affine
from odc.geo.geobox import GeoBox

from equipoise.datasets.errors import SceneError
from equipoise.datasets.raster import cog_writer
from equipoise.datasets.stack import AlignedStack
from equipoise.pipeline.coregister_scenes import NOTHING_HERE, align_scene, coregister_scenes
from equipoise.pipeline.errors import AlignmentError
from equipoise.pipeline.scene_options import ModalityOptions
from equipoise.pipeline.scenes import SceneFiles
from equipoise.pipeline.stage_options import CoregisterOptions

GRID = GeoBox((96, 80), Affine(10.0, 0.0, 500_000.0, 0.0, -10.0, 5_000_000.0), "EPSG:32633")
PLAIN = ModalityOptions(unit="digital_number", bands=["value"])


def _write(path, values, grid=GRID):
    with cog_writer(path, grid, count=1, dtype="float32", nodata=float("nan"), overview_resampling="average") as writer:
        writer.write(values.astype(np.float32), 1)
    return path


def _noise(seed=0, shape=GRID.shape):
    return np.random.default_rng(seed).uniform(1, 2, shape)


def _align(folder, files, *, modalities=("eo", "sar"), resume="one", **options):
    scene = SceneFiles(name="place", files=files, missing={name: "away" for name in modalities if name not in files})
    return coregister_scenes(
        [scene], dict.fromkeys(modalities, PLAIN), reference=modalities[0], classes=[],
        options=CoregisterOptions(**options), folder=folder / "aligned", resume=resume,
    )  # fmt: skip


def test_the_planted_shifts_of_the_embedded_scene_are_found(trained_run, embedded_scene):
    """Radar within .2 px of its 10 m, infrared within .5 px of its 30 m."""
    found = trained_run.run.folder.stages["coregister"].figures["registrations"]["embedded"]
    assert found["eo"]["note"] == "reference"
    for name, metres in (("sar", 2.0), ("ir", 15.0)):
        east, north = embedded_scene.true_shift_m[name]
        assert found[name]["applied"]
        assert np.hypot(found[name]["east"] - east, found[name]["north"] - north) < metres, name


def test_the_aligned_rasters_share_the_reference_grid(trained_run, embedded_scene):
    with rasterio.open(embedded_scene.paths["eo"]) as source:
        grid = (source.crs, source.transform, source.shape)
    stack = trained_run.run.stacks["embedded"]
    assert stack.modalities == ("eo", "sar", "ir")
    for name, path in stack.present.items():
        with rasterio.open(path) as aligned:
            assert (aligned.crs, aligned.transform, aligned.shape) == grid
            assert np.isnan(aligned.nodata)
            assert aligned.tags()["source"] == embedded_scene.paths[name].name


def test_a_shift_in_one_direction_is_undone(tmp_path):
    """The file claims a place 20 m too far east: content and grid agree again afterwards."""
    values = np.kron(_noise(shape=(24, 20)), np.ones((4, 4)))
    moved = GeoBox(GRID.shape, Affine.translation(20, 0) * GRID.affine, GRID.crs)
    files = {"eo": _write(tmp_path / "eo.tif", values), "sar": _write(tmp_path / "sar.tif", values, moved)}
    result = _align(tmp_path, files, max_shift_m=60)
    assert result.registrations["place"]["sar"].east == pytest.approx(-20, abs=2)
    assert result.registrations["place"]["sar"].north == pytest.approx(0, abs=2)
    with rasterio.open(result.stacks[0].present["sar"]) as source:
        inside = source.read(1)[8:-8, 8:-8]
    assert np.abs(inside - values[8:-8, 8:-8]).mean() < 0.02


def test_a_shift_below_the_confidence_is_not_applied(tmp_path):
    files = {"eo": _write(tmp_path / "eo.tif", _noise(1)), "sar": _write(tmp_path / "sar.tif", _noise(2))}
    found = _align(tmp_path, files, max_shift_m=60).registrations["place"]["sar"]
    assert not found.applied
    assert (found.east, found.north, found.confidence) == (0, 0, 0)
    assert "chance" in found.note
    with rasterio.open(tmp_path / "aligned" / "place" / "sar.tif") as source:
        np.testing.assert_allclose(source.read(1), _noise(2), atol=1e-6)


def test_an_image_without_edges_keeps_its_position(tmp_path):
    files = {"eo": _write(tmp_path / "eo.tif", _noise(1)), "sar": _write(tmp_path / "sar.tif", np.full(GRID.shape, 2))}
    found = _align(tmp_path, files).registrations["place"]["sar"]
    assert (found.applied, found.east, found.north) == (False, 0, 0)
    assert "with edges" in found.note


def test_without_measuring_positions_are_as_given(tmp_path):
    files = {"eo": _write(tmp_path / "eo.tif", _noise(1)), "sar": _write(tmp_path / "sar.tif", _noise(1))}
    result = _align(tmp_path, files, method="none")
    found = result.registrations["place"]["sar"]
    assert (found.applied, found.east, found.north) == (True, 0, 0)
    assert set(result.stacks[0].confidence) == {"eo"}  # what was not measured is not doubtful


def test_files_of_two_places_are_refused(tmp_path):
    away = GeoBox(GRID.shape, Affine.translation(50_000, 0) * GRID.affine, GRID.crs)
    files = {"eo": _write(tmp_path / "eo.tif", _noise()), "sar": _write(tmp_path / "sar.tif", _noise(), away)}
    with pytest.raises(AlignmentError, match=r"sar\.tif \(sar\) outside the area of eo\.tif \(eo\)"):
        _align(tmp_path, files)
    assert not (tmp_path / "aligned" / "place" / "stack.json").exists()


def test_files_whose_data_do_not_overlap_are_refused(tmp_path):
    """The frames overlap by one column, the data in them do not: nothing would be left of the second."""
    values = _noise()
    values[:, :2] = np.nan
    away = GeoBox(GRID.shape, Affine.translation(790, 0) * GRID.affine, GRID.crs)
    files = {"eo": _write(tmp_path / "eo.tif", _noise()), "sar": _write(tmp_path / "sar.tif", values, away)}
    with pytest.raises(AlignmentError, match="no valid pixel on the common grid"):
        _align(tmp_path, files)
    assert not (tmp_path / "aligned" / "place" / "sar.tif").exists()
    assert list((tmp_path / "aligned" / "place").glob(".*")) == []


def _align_part(folder, files, part):
    align_scene(
        SceneFiles(name="place", files=files, missing={}), dict.fromkeys(("eo", "sar"), PLAIN), reference="eo",
        classes=[], options=CoregisterOptions(method="none"), folder=folder / "part", part=part, with_pictures=False,
    )  # fmt: skip
    return AlignedStack.load(folder / "part" / "stack.json")


def test_a_part_of_a_scene_has_the_pixels_of_the_whole(tmp_path):
    files = {"eo": _write(tmp_path / "eo.tif", _noise(1)), "sar": _write(tmp_path / "sar.tif", _noise(2))}
    part = GRID[30:70, 10:50]
    stack = _align_part(tmp_path, files, part)
    assert (stack.geobox, set(stack.present), stack.missing) == (part, {"eo", "sar"}, {})
    for name, path in stack.present.items():
        with rasterio.open(path) as found, rasterio.open(files[name]) as whole:
            np.testing.assert_array_equal(found.read(1), whole.read(1)[30:70, 10:50])


@pytest.mark.parametrize("empty", [{"eo"}, {"sar"}, {"eo", "sar"}])
@pytest.mark.parametrize("everywhere", [True, False], ids=["clouds over all", "none in this part"])
def test_what_has_no_valid_pixel_in_a_part_is_missing_there(tmp_path, empty, everywhere):
    files = {}
    for name in ("eo", "sar"):
        values = _noise(3)
        if name in empty:
            values[:] = np.nan if everywhere else values
            values[:48] = np.nan
        files[name] = _write(tmp_path / f"{name}.tif", values)
    stack = _align_part(tmp_path, files, GRID[:40, :])
    assert set(stack.present) == {"eo", "sar"} - empty
    assert stack.missing == dict.fromkeys(empty, NOTHING_HERE)
    assert {path.stem for path in (tmp_path / "part").glob("*.tif")} == {"eo", "sar"} - empty


def test_a_scene_without_the_reference_uses_its_own_grid(tmp_path):
    stack = _align(tmp_path, {"sar": _write(tmp_path / "sar.tif", _noise())}).stacks[0]
    assert (list(stack.present), dict(stack.missing)) == (["sar"], {"eo": "away"})
    assert stack.geobox == GRID


def test_a_geographic_reference_becomes_a_metric_grid(tmp_path):
    degrees = GeoBox((64, 64), Affine(1e-4, 0.0, 15.0, 0.0, -1e-4, 45.0), "EPSG:4326")
    stack = _align(tmp_path, {"eo": _write(tmp_path / "eo.tif", _noise(shape=(64, 64)), degrees)}).stacks[0]
    assert stack.geobox.crs == "EPSG:32633"
    assert abs(stack.geobox.resolution.x) == pytest.approx(9.5, abs=2)


def test_a_finished_scene_is_kept_and_another_mark_does_it_again(tmp_path):
    files = {"eo": _write(tmp_path / "eo.tif", _noise())}
    first = _align(tmp_path, files)
    aligned = tmp_path / "aligned" / "place"
    before = (aligned / "eo.tif").stat().st_mtime_ns
    again = _align(tmp_path, files)
    assert (aligned / "eo.tif").stat().st_mtime_ns == before
    assert again.registrations == first.registrations
    assert again.outputs == first.outputs
    _align(tmp_path, files, resume="two")
    assert (aligned / "eo.tif").stat().st_mtime_ns > before
    (aligned / "coregistration.json").write_text("{")
    assert _align(tmp_path, files, resume="two").registrations == first.registrations


def test_a_broken_file_leaves_no_half_written_raster(tmp_path):
    path = _write(tmp_path / "sar.tif", _noise(shape=(600, 600)), GeoBox((600, 600), GRID.affine, GRID.crs))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(SceneError, match=r"sar\.tif"):
        _align(tmp_path, {"eo": _write(tmp_path / "eo.tif", _noise()), "sar": path})
    left = [found.name for found in (tmp_path / "aligned").rglob("*") if found.is_file()]
    assert set(left) <= {"eo.tif"}


def test_every_modality_has_a_picture_for_the_report(trained_run):
    folder = trained_run.root / "aligned" / "embedded"
    with np.load(folder / "quicklooks.npz", allow_pickle=False) as pictures:
        assert set(pictures) == {"eo after", "sar after", "sar before", "ir after", "ir before"}
        assert all(max(picture.shape) <= 480 for picture in pictures.values())
    stack = AlignedStack.load(folder / "stack.json")
    assert stack.labels == folder / "labels.tif"
    assert json.loads((folder / "coregistration.json").read_text())["registrations"]["sar"]["confidence"] > 0.2
