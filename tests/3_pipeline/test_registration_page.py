"""The page of a registration: its pictures show what was measured, and what was refused is said with its reason."""

import io
import json
import re
from dataclasses import replace

import numpy as np
import pytest
from affine import Affine
from odc.geo.geobox import GeoBox
from PIL import Image
from scipy.ndimage import gaussian_filter

from equipoise.datasets.displacement import Displacement
from equipoise.datasets.modality import Band, Modality, Unit
from equipoise.datasets.opening import open_scene
from equipoise.datasets.raster import cog_writer
from equipoise.datasets.registration_layer import RegistrationLayer
from equipoise.datasets.warp import warp
from equipoise.pipeline.aligned_files import quicklook, save_quicklooks, write_aligned, write_record
from equipoise.pipeline.detail_place import DETAIL, detail_place
from equipoise.pipeline.errors import RunFolderError
from equipoise.pipeline.full_size import moved_back
from equipoise.pipeline.placement import Placement, Registration
from equipoise.pipeline.registered import Blocks
from equipoise.pipeline.registration_figures import residual_histogram, residual_vectors
from equipoise.pipeline.registration_folder import SavedScene
from equipoise.pipeline.registration_page import report_pictures, write_registration_page
from equipoise.pipeline.registration_pictures import checkerboard
from equipoise.pipeline.registration_views import detail, overview
from equipoise.pipeline.registration_words import direction, figures_of, refusal, summary_cells
from equipoise.pipeline.report import write_report

GRID = GeoBox((260, 340), Affine(10.0, 0.0, 500_000.0, 0.0, -10.0, 5_000_000.0), "EPSG:32633")
REASON = (
    "position as given: found an agreement that chance gives in one of 3 pairs of different places; wanted fewer than "
    "one of 10000; check that both show one place, or widen the area"
)


def _roads(rng):
    """Ground with two roads that cross at row 180, column 230, and nothing else of one direction."""
    ground = gaussian_filter(rng.normal(size=GRID.shape), 1.0)
    row, col = np.mgrid[: GRID.shape[0], : GRID.shape[1]]
    for tilt in (0.5, -0.8):
        ground[(np.abs(row - 180 - tilt * (col - 230)) < 2) & (np.abs(col - 230) < 60)] = 4
    return ground.astype(np.float32)


def _scene(folder, name, values, write_grid=GRID):
    path = folder / f"{name}.source.tif"
    with cog_writer(
        path, write_grid, count=1, dtype="float32", nodata=float("nan"), overview_resampling="average"
    ) as writer:
        writer.write(values.astype(np.float32), 1)
    return open_scene(path, Modality(name=name, bands=(Band(name="value", unit=Unit.DIGITAL_NUMBER),)))


def _field():
    """A correction of 40 m east and 20 m south that grows by a tenth over the scene."""
    lattice = GeoBox((4, 5), GRID.affine * Affine.scale(GRID.shape.x / 5, GRID.shape.y / 4), GRID.crs)
    grow = np.linspace(1, 1.1, 5, dtype=np.float32) * np.ones((4, 1), np.float32)
    return Displacement(lattice=lattice, east=40 * grow, north=-20 * grow)


def _measured(field, rng):
    x, y = (
        values.ravel() for values in np.meshgrid(np.arange(500_200, 503_300, 400), np.arange(4_997_600, 4_999_900, 400))
    )
    before = np.stack(field.at_places(x.astype(float), y.astype(float)), axis=1)
    blocks = Blocks(
        x=x, y=y, before=before + rng.normal(0, 2, before.shape), after=rng.normal(0, 2, before.shape),
        radius90=np.full(len(x), 5.0), weight=np.where(np.arange(len(x)) == 3, 0.01, 1.0),
    )  # fmt: skip
    layer = RegistrationLayer(
        grid=field.lattice, confidence=np.full((4, 5), 0.9), radius90=np.full((4, 5), 4.6), east=field.east,
        north=field.north,
    )  # fmt: skip
    numbers = Registration(
        kind="field", applied=True, note="moved 47.0 m, bent; true within 4.6 m (90 %)", through="eo", east=42.0,
        north=-21.0, largest=49.2, confidence=0.9, radius90=4.6, rmse_before=47.1, rmse_after=2.8, blocks=len(x),
        log10_false_alarms=-16.3,
    )  # fmt: skip
    return Placement(registration=numbers, displacement=field, layer=layer, blocks=blocks)


def _refused():
    none = Displacement.constant(GRID, east=0, north=0)
    zero = np.zeros((2, 2), np.float32)
    layer = RegistrationLayer(
        grid=none.lattice, confidence=zero, radius90=np.full_like(zero, np.nan), east=zero, north=zero
    )  # fmt: skip
    return Placement(registration=Registration(kind="refused", applied=False, note=REASON), layer=layer)


@pytest.fixture
def saved(tmp_path):
    """A scene's folder as co-registration writes it: radar that was moved, dark where the reference is bright, and
    another file that was refused."""
    rng = np.random.default_rng(3)
    ground, field = _roads(rng), _field()
    wrong = {"sar": -ground, "other <b>": rng.normal(size=GRID.shape)}
    anchor = Placement(registration=Registration(kind="reference", applied=True, note="reference", confidence=1.0))
    placements = {"eo": anchor, "sar": _measured(field, rng), "other <b>": _refused()}
    scenes = {name: _scene(tmp_path, name, values) for name, values in {"eo": ground, **wrong}.items()}
    # What the radar's file claims: its content lies elsewhere, and the correction brings it back.
    back = Displacement(lattice=field.lattice, east=-field.east, north=-field.north)
    scenes["sar"] = _scene(tmp_path, "sar", warp(scenes["sar"], GRID, displacement=back)[0])
    folder = tmp_path / "place"
    folder.mkdir()
    pictures = {}
    for name, scene in scenes.items():
        write_aligned(scene, GRID, placements[name], path=folder / f"{name}.tif")
        pictures |= quicklook(scene, GRID, placements[name])
        if placements[name].layer is not None:
            placements[name].layer.save(folder / f"{name}.registration.tif")
    save_quicklooks(folder / "quicklooks.npz", pictures)
    write_record(folder / "coregistration.json", placements, resume="one")
    return folder, scenes


def test_the_page_holds_all_that_it_shows(saved):
    folder, _ = saved
    path = write_registration_page(folder, title="Place <i>")
    page = path.read_text(encoding="utf-8")
    assert path == folder / "registration.html"
    assert page.lower().startswith("<!doctype html>")
    assert "Place &lt;i&gt;" in page
    assert "other &lt;b&gt;" in page
    assert re.findall(r"""(?:src|href)=["'](?!data:|#)""", page) == []
    assert re.findall(r"<script|@import|url\(", page) == []
    assert page.count("data:image/") == 7
    for text in ("47.0 m (42.0 m east, 21.0 m south)", "47.1 m → 2.8 m", "one in 10¹⁶ pairs", "displacement field",
                 "WGS 84 / UTM zone 33N", "340 x 260 px of 10 m"):  # fmt: skip
        assert text in page, text
    assert [found.name for found in folder.iterdir() if found.name.startswith(".")] == []


def test_what_was_refused_is_there_with_its_reason_and_what_to_do(saved):
    page = write_registration_page(saved[0]).read_text(encoding="utf-8")
    assert "<b>Found:</b> an agreement that chance gives in one of 3 pairs of different places." in page
    assert "<b>Wanted:</b> fewer than one of 10000." in page
    assert "<b>What to do:</b> check that both show one place, or widen the area." in page


def test_pictures_are_of_a_size_to_look_at(saved):
    folder, _ = saved
    write_registration_page(folder)
    for kind in ("residuals", "checkerboard", "detail", "confidence", "histogram"):
        with Image.open(folder / f"sar.{kind}.png") as picture:
            assert picture.format == "PNG"
            assert 500 < picture.width < 1300, kind
            assert 200 < picture.height < 1200, kind
    with Image.open(folder / "sar.flicker.gif") as picture:
        assert (picture.format, picture.n_frames) == ("GIF", 2)
        assert picture.width > 600
    assert (folder / "sar.flicker.gif").stat().st_size < 400_000
    assert (folder / "other <b>.pictures.png").is_file()


def test_the_view_before_is_what_the_file_has(saved):
    """Oracle: the file itself. What was moved is moved back without it."""
    folder, scenes = saved
    rows, cols = np.arange(60, 200), np.arange(80, 240)
    found = moved_back(SavedScene.load(folder), "sar", rows, cols)[0]
    truth = scenes["sar"].read()[0][60:200, 80:240]
    lines = truth < -3
    assert np.isfinite(found).all()
    assert np.corrcoef(found.ravel(), truth.ravel())[0, 1] > 0.97
    assert found[lines].mean() < -2.5
    corner = moved_back(SavedScene.load(folder), "sar", np.arange(240, 260), np.arange(320, 340))
    assert np.isnan(corner[0, :, -1]).all()  # what the correction moved out of the grid is not there


def test_the_detail_lies_where_both_show_lines(saved):
    scene = SavedScene.load(saved[0])
    rows, cols = detail_place(scene, "sar")
    assert len(rows) == len(cols) == DETAIL
    assert rows[0] >= 0
    assert rows[-1] < GRID.shape.y
    assert cols[-1] < GRID.shape.x
    assert rows[20] < 180 < rows[-20]
    assert cols[20] < 230 < cols[-20]


def test_lines_fit_after_and_not_before(saved):
    """In the views that are drawn: the radar's greys are turned round, and follow the reference's after."""
    scene = SavedScene.load(saved[0])
    for views in (detail(scene, "sar"), overview(scene, "sar")):
        assert views.negative
        fits = [
            np.corrcoef(views.reference[20:-20, 20:-20, 0].ravel(), image[20:-20, 20:-20, 0].ravel())[0, 1]
            for image in (views.before, views.after)
        ]
        assert fits[1] > 0.8
        assert fits[0] < 0.5


def test_a_reference_that_was_not_copied_is_read_where_it_is(saved):
    folder, scenes = saved
    whole = detail(SavedScene.load(folder), "sar")
    (folder / "eo.tif").unlink()
    with pytest.raises(RunFolderError):
        SavedScene.load(folder)
    (folder / "coregistration.json").rename(folder / ".record")
    scene = SavedScene.load(folder, record=folder / ".record", reference=scenes["eo"])
    np.testing.assert_allclose(detail(scene, "sar").reference, whole.reference, atol=1e-5)
    assert write_registration_page(folder, record=folder / ".record", reference=scenes["eo"]).is_file()


def test_without_the_moved_raster_the_whole_scene_is_shown(saved):
    folder, _ = saved
    (folder / "sar.tif").unlink()
    assert detail(SavedScene.load(folder), "sar") is None
    page = write_registration_page(folder).read_text(encoding="utf-8")
    assert "In turn" not in page
    assert "The whole scene" in page
    assert len(report_pictures(folder)) == 1


@pytest.mark.parametrize("damage", ["json", "columns", "pictures", "layer", "reference", "missing"])
def test_a_damaged_folder_is_one_clear_error(saved, damage):
    folder, _ = saved
    record = json.loads((folder / "coregistration.json").read_text())
    if damage == "json":
        (folder / "coregistration.json").write_text("{")
    elif damage == "columns":
        record["blocks"]["sar"]["x"].pop()
        (folder / "coregistration.json").write_text(json.dumps(record))
    elif damage == "pictures":
        (folder / "quicklooks.npz").write_bytes(b"PK\x03\x04 no archive")
    elif damage == "layer":
        (folder / "sar.registration.tif").write_bytes(b"no raster")
    elif damage == "reference":
        del record["registrations"]["eo"]
        (folder / "coregistration.json").write_text(json.dumps(record))
    else:
        (folder / "coregistration.json").unlink()
    with pytest.raises(RunFolderError, match="found no whole registration"):
        write_registration_page(folder)
    assert not (folder / "registration.html").exists()
    assert report_pictures(folder) == []


def test_a_run_of_an_older_version_has_a_row_and_no_pictures(saved):
    folder, _ = saved
    old = {"east": 1.0, "north": 2.0, "confidence": 0.5, "applied": True, "note": "shift measured"}
    (folder / "coregistration.json").write_text(json.dumps({"resume": "", "registrations": {"sar": old}}))
    assert report_pictures(folder) == []
    assert summary_cells(old) == {
        "kind": "shift measured", "correction": "-", "rmse": "-", "circle": "-", "confidence": "0.50", "through": "-",
        "note": "shift measured",
    }  # fmt: skip


def test_the_report_shows_every_measured_modality(trained_run, tmp_path):
    run = trained_run.run
    write_report(run.folder, run.config, stacks=run.stacks, path=tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    for name in ("sar", "ir"):
        assert f"{name}: how it was aligned, in pictures" in page
        assert f'alt="what blocks of {name} ask for' in page
    assert "RMSE before → after" in page


def test_numbers_are_said_in_words():
    assert direction(-3, 4) == "5.0 m (3.0 m west, 4.0 m north)"
    assert refusal("position as given, not measured") == {"reason": "position as given, not measured"}
    numbers = {
        "kind": "shift", "east": 1.0, "north": 0.0, "largest": 1.0, "rmse_before": 2.0, "rmse_after": 1.0,
        "radius90": 1.0, "confidence": 1.0, "through": "eo", "blocks": 9, "log10_false_alarms": -4.3,
    }  # fmt: skip
    assert ("false alarms", "one in 19 953 pairs") in [row[:2] for row in figures_of(numbers)]
    assert "false alarms" not in [row[0] for row in figures_of(numbers | {"log10_false_alarms": None})]


def test_a_checkerboard_takes_its_tiles_in_turn():
    black, white = np.zeros((16, 24, 3), np.float32), np.ones((16, 24, 3), np.float32)
    board = checkerboard(black, white, tiles=8)
    assert board.mean() == 0.5
    assert (board[0, 0, 0], board[0, 2, 0], board[2, 2, 0]) == (0, 1, 0)


@pytest.mark.parametrize("length", [0.0, 1e-3, 40.0])
def test_vectors_and_histogram_are_drawn_whatever_their_length(length):
    where = np.array([500_400.0, 502_000.0, 503_000.0])
    vectors = np.full((3, 2), length)
    blocks = Blocks(
        x=where, y=where + 4_496_800, before=vectors, after=vectors / 10, radius90=np.ones(3), weight=np.ones(3)
    )  # fmt: skip
    for picture in (
        residual_vectors(blocks, affine=GRID.affine, shape=tuple(GRID.shape)),
        residual_histogram(replace(blocks, after=0 * vectors), circle=None),
    ):
        with Image.open(io.BytesIO(picture)) as opened:
            assert min(opened.size) > 150
