"""Styles for QGIS: one beside each map, in the shape that QGIS reads."""

import shutil
from xml.etree import ElementTree

import numpy as np
import pytest
import rasterio

from equipoise.pipeline.aligned_styles import write_aligned_styles
from equipoise.pipeline.qgis_style import DIVERGING, RAMP, write_composite, write_picture, write_ramp, write_style


def _renderer(path):
    root = ElementTree.parse(path).getroot()  # noqa: S314 (written by this test)
    assert root.tag == "qgis"
    (renderer,) = root.findall("./pipe/rasterrenderer")
    assert (renderer.get("opacity"), renderer.get("alphaBand")) == ("1", "-1")
    return renderer


def test_a_palette_names_its_values(tmp_path):
    path = write_style(tmp_path / "a.classes.tif", {3: "a <b> & c"}, colours={3: (1, 2, 255)})
    assert path.name == "a.classes.qml"
    (entry,) = _renderer(path).findall("./colorPalette/paletteEntry")
    assert entry.attrib == {"value": "3", "color": "#0102ff", "alpha": "255", "label": "a <b> & c"}


@pytest.mark.parametrize(("low", "high", "colours"), [(0.0, 1.0, RAMP), (-1.0, 1.0, DIVERGING)])
def test_a_ramp_goes_from_low_to_high(tmp_path, low, high, colours):
    renderer = _renderer(write_ramp(tmp_path / "a.tif", band=2, low=low, high=high, colours=colours))
    assert (renderer.get("type"), renderer.get("band")) == ("singlebandpseudocolor", "2")
    (shader,) = renderer.findall("./rastershader/colorrampshader")
    assert shader.get("colorRampType") == "INTERPOLATED"
    values = [float(item.get("value")) for item in shader]
    assert (values[0], values[-1], values) == (low, high, sorted(values))
    assert [item.get("color") for item in shader] == list(colours)


@pytest.mark.parametrize(("bands", "shown"), [(2, ["1", "2", "-1"]), (3, ["1", "2", "3"]), (5, ["1", "2", "3"])])
def test_a_composite_shows_three_bands(tmp_path, bands, shown):
    renderer = _renderer(write_composite(tmp_path / "a.tif", bands=bands))
    assert renderer.get("type") == "multibandcolor"
    assert [renderer.get(f"{name}Band") for name in ("red", "green", "blue")] == shown
    assert len(list(renderer)) == min(bands, 3)
    assert {stretch.findtext("maxValue") for stretch in renderer} == {"1"}


def test_a_composite_of_one_band_is_a_ramp(tmp_path):
    assert _renderer(write_composite(tmp_path / "a.tif", bands=1)).get("type") == "singlebandpseudocolor"


def test_every_map_of_a_run_has_a_style_of_bands_that_it_has(trained_run):
    maps = sorted((trained_run.root / "predictions").glob("*.tif"))
    kinds = {}
    for path in maps:
        renderer = _renderer(path.with_suffix(".qml"))
        kinds[path.name.split(".")[-2]] = renderer.get("type")
        with rasterio.open(path) as source:
            shown = [int(value) for name, value in renderer.attrib.items() if name.lower().endswith("band")]
            assert all(value == -1 or 1 <= value <= source.count for value in shown)
            if path.name.endswith("quality.tif"):
                assert source.descriptions[shown[-1] - 1] == "prediction"
    assert kinds == {
        "classes": "paletted", "confidence": "singlebandpseudocolor", "quality": "singlebandpseudocolor",
        "reliance": "multibandcolor", "trust": "paletted",
    }  # fmt: skip


def test_one_band_is_grey_between_its_limits(tmp_path):
    renderer = _renderer(write_picture(tmp_path / "a.tif", bands=[2], limits=[(-20.0, -5.0)]))
    assert (renderer.get("type"), renderer.get("grayBand")) == ("singlebandgray", "2")
    (stretch,) = renderer
    assert (stretch.tag, stretch.findtext("minValue"), stretch.findtext("maxValue")) == (
        "contrastEnhancement",
        "-20",
        "-5",
    )


def test_every_raster_of_an_aligned_scene_has_a_style(trained_run):
    (folder,) = (trained_run.root / "aligned").iterdir()
    kinds = {}
    for path in sorted(folder.glob("*.tif")):
        renderer = _renderer(path.with_suffix(".qml"))
        kinds[path.stem] = renderer.get("type")
        with rasterio.open(path) as source:
            shown = {name: int(value) for name, value in renderer.attrib.items() if name.lower().endswith("band")}
            assert all(value == -1 or 1 <= value <= source.count for value in shown.values())
            if path.stem == "eo":
                assert source.descriptions[shown["redBand"] - 1] == "red"
                low, high = (float(renderer.findtext(f"redContrastEnhancement/{end}Value")) for end in ("min", "max"))
                red = source.read(shown["redBand"])
                assert np.nanmin(red) < low < np.nanmedian(red) < high < np.nanmax(red)
    assert kinds == {
        "eo": "multibandcolor", "sar": "singlebandgray", "ir": "singlebandgray", "labels": "paletted",
        "sar.registration": "singlebandpseudocolor", "ir.registration": "singlebandpseudocolor",
    }  # fmt: skip


def test_quality_codes_are_named(tmp_path):
    with rasterio.open(
        tmp_path / "eo.quality.tif", "w", driver="GTiff", width=4, height=4, count=1, dtype="uint8", crs="EPSG:32632",
        transform=rasterio.Affine(10, 0, 0, 0, -10, 0),
    ) as writer:  # fmt: skip
        writer.set_band_description(1, "quality")
    (style,) = write_aligned_styles(tmp_path.glob("*.tif"))
    names = [entry.get("label") for entry in _renderer(style).iter("paletteEntry")]
    assert names == ["clear", "cloud", "shadow", "unusable"]


def test_labels_without_classes_keep_the_style_that_they_have(trained_run, tmp_path):
    (labels,) = (trained_run.root / "aligned").glob("*/labels.tif")
    target = shutil.copy(labels, tmp_path / "labels.tif")
    assert write_aligned_styles([target, tmp_path / "gone.tif"]) == []
    assert not (tmp_path / "labels.qml").exists()
