"""The map of a notebook: it works in a browser, alone, and whoever cannot see or point can use it."""

import re

import numpy as np
import pytest
import xarray as xr
from affine import Affine
from browser import grave_findings
from odc.geo.geobox import GeoBox
from odc.geo.xr import wrap_xr

from equipoise.pipeline.errors import PipelineError
from equipoise.pipeline.notebook_map import EDGE, NotebookMap, notebook_map
from equipoise.pipeline.prediction import Prediction
from equipoise.pipeline.scene_options import ClassOptions

TILE = 8

LEGEND = (
    ClassOptions(value=0, name="water", color="#2b6cb0"),
    ClassOptions(value=1, name="<b>wood", color="#1b5e20"),
    ClassOptions(value=2, name="nowhere", color="#ffffff"),
)


def _grid(rows: int, columns: int, *, pixel: float = 10.0) -> GeoBox:
    return GeoBox((rows, columns), Affine(pixel, 0, 500_000, 0, -pixel, 5_000_000), "EPSG:32633")


def _prediction(rng: np.random.Generator, *, rows: int = 60, columns: int = 80, scene: str = "place") -> Prediction:
    """Return invented maps: left half water, right half wood, the first row not observed."""
    classes = np.zeros((rows, columns), dtype=np.uint8)
    classes[:, columns // 2 :] = 1
    classes[0] = 255
    confidence = rng.uniform(0.4, 1, (rows, columns)).astype(np.float32)
    confidence[0] = np.nan
    tiles = -(-rows // TILE), -(-columns // TILE)
    shares = rng.dirichlet([1, 1], tiles).astype(np.float32).transpose(2, 0, 1)
    shares[:, 0, 0] = np.nan
    trust = np.where(shares[0] > 0.5, 1, 3).astype(np.uint8)
    coarse = _grid(*tiles, pixel=10.0 * TILE)
    reliance = wrap_xr(shares, coarse, axis=1, dims=("modality", "y", "x")).assign_coords(modality=["eo", "sar"])
    return Prediction(
        scene=scene, classes=wrap_xr(classes, _grid(rows, columns)), legend=LEGEND, reliance=reliance,
        confidence=wrap_xr(confidence, _grid(rows, columns)), trust=wrap_xr(trust, coarse),
    )  # fmt: skip


def _image(rng: np.random.Generator, *names: str, rows: int = 60, columns: int = 80) -> xr.DataArray:
    values = rng.uniform(0, 0.3, (len(names), rows, columns)).astype(np.float32)
    image = wrap_xr(values, _grid(rows, columns), axis=1, dims=("band", "y", "x"))
    return image.assign_attrs(long_name=names)


@pytest.fixture
def made() -> NotebookMap:
    rng = np.random.default_rng(0)
    return _prediction(rng).map(background=_image(rng, "blue", "green", "red"))


@pytest.fixture
def page(chromium, made, tmp_path):
    """The saved page, opened; whatever it complains of or fetches fails the test."""
    opened = chromium.new_page(viewport={"width": 1000, "height": 520})
    trouble: list[str] = []
    opened.on("console", lambda message: trouble.append(message.text))
    opened.on("pageerror", lambda error: trouble.append(str(error)))
    opened.on("request", lambda request: trouble.append(request.url) if request.url.startswith("http") else None)
    opened.goto(made.save(tmp_path / "map.html").as_uri())
    yield opened
    opened.close()
    assert trouble == []


def _shown(page) -> list[str]:
    """Return what the pictures on the map say that they are."""
    return [picture.get_attribute("alt") for picture in page.locator("#map img").all()]


def test_a_layer_is_chosen_by_keyboard_and_brings_its_legend(page):
    assert _shown(page) == ["Map of place: image", "Map of place: classes"]
    page.get_by_label("classes", exact=True).focus()
    page.keyboard.press("ArrowDown")
    assert _shown(page) == ["Map of place: image", "Map of place: confidence"]
    assert page.get_by_label("Legend of confidence").is_visible()
    assert not page.get_by_label("Legend of classes").is_visible()
    page.get_by_label("image alone").check()
    assert _shown(page) == ["Map of place: image"]


def test_opacity_is_of_the_layer_alone_and_stays(page):
    page.get_by_role("slider").focus()
    page.keyboard.press("Home")
    page.get_by_label("trust", exact=True).check()
    opacities = page.locator("#map img").evaluate_all("pictures => pictures.map((p) => getComputedStyle(p).opacity)")
    assert opacities == ["1", "0"]


def test_the_map_moves_by_keyboard_and_tells_where_the_pointer_is(page):
    before = page.locator("#map img").first.bounding_box()
    page.locator("#map").focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_function(
        "x => document.querySelector('#map img').getBoundingClientRect().x < x - 40", arg=before["x"]
    )  # fmt: skip
    page.reload()
    box = page.get_by_alt_text("Map of place: classes").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    x, y, crs = re.fullmatch(r"x (\d+), y (\d+) \((.*)\)", page.locator("#where").inner_text()).groups()
    assert (float(x), float(y)) == pytest.approx((500_400, 4_999_700), abs=10)
    assert crs == "EPSG:32633"


@pytest.mark.parametrize("layer", ["classes", "confidence", "reliance", "trust"])
def test_nobody_is_left_out(page, layer):
    page.get_by_label(layer, exact=True).check()
    assert grave_findings(page) == []


def test_tiles_lie_where_their_pixels_lie(page):
    classes = page.get_by_alt_text("Map of place: classes").bounding_box()
    page.get_by_label("reliance", exact=True).check()
    tiles = page.get_by_alt_text("Map of place: reliance").bounding_box()
    assert (tiles["x"], tiles["y"]) == pytest.approx((classes["x"], classes["y"]), abs=1.5)
    assert tiles["width"] == pytest.approx(classes["width"], abs=1.5)  # 10 tiles of 8 px
    assert tiles["height"] == pytest.approx(classes["height"] * 64 / 60, abs=1.5)  # 8 tiles reach over 60 px


def test_a_notebook_shows_it_in_a_frame_that_reaches_nothing(chromium, made, tmp_path):
    frame = tmp_path / "notebook.html"
    frame.write_text(f"<!doctype html><html lang='en'><title>n</title><body>{made._repr_html_()}")
    page = chromium.new_page()
    page.goto(frame.as_uri())
    inside = page.frame_locator("iframe[title='Map of place']")
    inside.get_by_label("reliance", exact=True).check()
    assert inside.get_by_alt_text("Map of place: reliance").is_visible()
    assert page.locator("iframe").get_attribute("sandbox") == "allow-scripts"
    page.close()


def test_colours_and_legend_are_those_of_the_classes(page):
    items = page.get_by_label("Legend of classes").locator("li").all_inner_texts()
    assert items == ["water", "<b>wood"], "classes that are not on the map are not in the legend"
    colours = page.get_by_alt_text("Map of place: classes").evaluate(
        """picture => {
            const canvas = Object.assign(document.createElement("canvas"), {width: 80, height: 60});
            const brush = canvas.getContext("2d", {willReadFrequently: true});
            brush.drawImage(picture, 0, 0);
            return [[10, 30], [70, 30], [10, 0]].map(([x, y]) => [...brush.getImageData(x, y, 1, 1).data]);
        }"""
    )
    assert colours == [[0x2B, 0x6C, 0xB0, 255], [0x1B, 0x5E, 0x20, 255], [0, 0, 0, 0]]


def test_names_end_no_script():
    made = _prediction(np.random.default_rng(0), scene="</script><script>alert(1)").map()
    assert "</script><script>alert" not in made.page
    assert "image alone" not in made.page


def test_large_maps_are_thinned():
    rng = np.random.default_rng(0)
    large = _prediction(rng, rows=40, columns=2 * EDGE + 1)
    sizes = {int(width) for width in re.findall(r'"columns": (\d+)', large.map().page)}
    # 683 columns stand for 3 each; tiles are not thinned and reach over the edge.
    assert sizes == {2 * EDGE + 1, 683 * 3, -(-(2 * EDGE + 1) // TILE) * TILE}


def test_layers_that_are_not_there_are_left_out():
    whole = _prediction(np.random.default_rng(0))
    made = notebook_map(whole.classes, whole.confidence, None, None, legend=LEGEND, title="two")
    assert "Legend of confidence" in made.page
    assert "Legend of reliance" not in made.page
    assert "Legend of trust" not in made.page


def test_a_background_of_another_place_is_refused():
    rng = np.random.default_rng(0)
    with pytest.raises(PipelineError, match="background on another grid; wanted that of the prediction"):
        _prediction(rng).map(background=_image(rng, "red", rows=30))
