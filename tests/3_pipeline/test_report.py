"""The report: headline, methods, provenance; whether everybody can read it, on every screen and on paper."""

import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
import yaml
from browser import grave_findings
from colour_vision import LACKING, nearest
from matplotlib.colors import to_rgb

from equipoise.datasets.ground import CLASS_COLORS
from equipoise.pipeline import alternatives
from equipoise.pipeline.aligned_styles import QUALITY_COLOURS
from equipoise.pipeline.config import load_config
from equipoise.pipeline.figures import CLASS_COLOURS, MODALITY_COLOURS
from equipoise.pipeline.registration_page import write_registration_page
from equipoise.pipeline.report import write_report
from equipoise.pipeline.report_methods import SOURCES, methods
from equipoise.pipeline.summary import summary
from equipoise.pipeline.templates import template_record
from equipoise.pipeline.trust import FLAG_COLOURS
from equipoise.pipeline.verdict import useless_words

#: CIEDE2000 distance below which colours of one legend are not told apart at a glance.
APART = 10.0


@pytest.fixture(scope="module")
def report(trained_run, tmp_path_factory):
    path, run = tmp_path_factory.mktemp("report") / "report.html", trained_run.run
    write_report(run.folder, run.config, stacks=run.stacks, path=path)
    return path


@pytest.fixture(scope="module")
def registration(trained_run, tmp_path_factory):
    (folder,) = (trained_run.root / "aligned").iterdir()
    return write_registration_page(shutil.copytree(folder, tmp_path_factory.mktemp("registration") / "scene"))


@pytest.fixture(scope="module")
def words(report):
    return " ".join(re.sub(r"<style>.*?</style>|<[^>]+>", " ", report.read_text(), flags=re.DOTALL).split())


def test_it_begins_with_what_the_map_rests_on(words, trained_run):
    (figures,) = trained_run.run.folder.stages["predict"].figures["scenes"].values()
    top = max(figures["reliance"].values())
    assert re.search(rf"seed 0, 1 scene This map rests {100 * top:.0f} % on ", words)


def test_it_says_what_was_done_and_after_whom(words):
    assert (
        "Methods Data. The task is a class of each pixel out of 6, from optical data (eo), bands blue, green, red"
        in words
    )
    assert "each sample showed a random subset of its sensors" in words
    assert "Zhang, Y., et al. (2022). mmFormer" in words


def test_methods_are_those_of_the_run(trained_run):
    """Stages that were not done are not described, other options are; numbers run in the order of the text."""
    config, stages = trained_run.run.config, trained_run.run.folder.stages
    paragraphs, sources = methods(config, stages)
    assert [heading for heading, _ in paragraphs] == ["Data", "Alignment", "Patches", "Network", "Evaluation", "Maps"]
    numbers = [int(number) for _, text in paragraphs for number in re.findall(r"\[(\d+)\]", text)]
    assert list(dict.fromkeys(numbers)) == list(range(1, len(sources) + 1))
    few, _ = methods(config, {"coregister": stages["coregister"]})
    assert [heading for heading, _ in few] == ["Data", "Alignment"]
    other = config.model_copy(
        update={
            "coregister": config.coregister.model_copy(update={"method": "none"}),
            "train": config.train.model_copy(update={"strategy": ["greedy", "joint"], "network": "late"}),
            "predict": config.predict.model_copy(update={"reliance": "leave_one_out"}),
        }
    )
    texts, cited = methods(other, stages)
    told = dict(texts)
    assert "at their files' own positions" in told["Alignment"]
    assert "for each sensor (resnet18), whose answers are averaged" in told["Network"]
    assert "lagging" not in told["Network"]
    assert "learned more slowly" in told["Network"]
    assert "what is lost without each sensor" in told["Maps"]
    assert SOURCES["greedy"] in cited
    assert SOURCES["mmformer"] not in cited


def test_every_strategy_and_fusion_is_described(trained_run):
    config, stages = trained_run.run.config, trained_run.run.folder.stages
    for field, key in (("strategy", "strategy"), ("fusion", "fusion"), ("network", "network")):
        schema = type(config.train).model_json_schema()["properties"][field]
        allowed = schema.get("enum") or next(part["enum"] for part in schema["anyOf"] if "enum" in part)
        for name in allowed:
            update = {"train": config.train.model_copy(update={key: name})}
            assert methods(config.model_copy(update=update), {"train": stages["train"]})[0][1][0] == "Network"


def test_it_says_what_went_in(report, trained_run):
    page = report.read_text()
    for path, (_, _, digest) in trained_run.run.folder.hashes.items():
        assert digest in page
        assert path not in page, "where files lie on this machine is nobody's business"


def test_a_run_that_has_only_begun_has_a_report(trained_run, tmp_path):
    run = trained_run.run
    begun = replace(run.folder, stages={"coregister": run.folder.stages["coregister"]})
    write_report(begun, run.config, stacks=run.stacks, path=tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert "No map has been made: stage predict was not done." in page
    assert "How good it is" not in page


def test_a_map_of_a_part_says_so(trained_run, equipoise, tmp_path):
    """`predict --bbox`, then `report`."""
    root = tmp_path / "run"
    shutil.copytree(trained_run.root, root)
    (stack,) = trained_run.run.stacks.values()
    west, south, east, north = stack.geobox.extent.boundingbox
    half = f"{west},{south},{(west + east) / 2},{north}"
    done = equipoise("predict", trained_run.config, "-o", root, "--bbox", half)
    assert done.returncode == 0, done.stderr
    assert f"the maps in {root / 'predictions'} are of that part alone" in done.stdout
    done = equipoise("report", trained_run.config, "-o", root)
    assert done.returncode == 0, done.stderr
    page = (root / "report.html").read_text()
    assert f"Only a part was asked for: the box {west:g}, {south:g}, {(west + east) / 2:g}, {north:g}." in page


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("kind", ["report", "registration"])
def test_everybody_can_read_it(chromium, request, kind, scheme, width):
    path = request.getfixturevalue(kind)
    page = chromium.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page.route("http*://**", lambda route: pytest.fail(f"asked for {route.request.url}"))
    page.goto(path.as_uri())
    for details in page.locator("details").all():
        details.evaluate("element => { element.open = true }")
    assert grave_findings(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate("[...document.images].every(image => image.complete && image.naturalWidth > 0)")
    alternatives_ = page.evaluate("[...document.images].map(image => image.alt)")
    assert all(len(text.split()) > 2 for text in alternatives_), alternatives_
    page.close()


def test_paper_is_light_and_has_no_navigation(chromium, report):
    page = chromium.new_page(viewport={"width": 794, "height": 1123}, color_scheme="dark")
    page.goto(report.as_uri())
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.evaluate("getComputedStyle(document.body).color") == "rgb(31, 41, 51)"
    assert page.locator("nav").is_hidden()
    assert page.pdf(format="A4")[:5] == b"%PDF-"
    page.close()


@pytest.mark.parametrize("lacking", ["", *LACKING])
def test_colours_are_told_apart_with_any_colour_vision(lacking):
    legends = {
        "sensors": [to_rgb(colour) for colour in MODALITY_COLOURS],
        "trust": [tuple(part / 255 for part in rgb) for rgb in FLAG_COLOURS.values()],
        "quality": [tuple(part / 255 for part in rgb) for rgb in QUALITY_COLOURS.values()],
    }
    legends["classes without a colour"] = [to_rgb(colour) for colour in CLASS_COLOURS]
    legends["embedded scene"] = [to_rgb(colour) for colour in CLASS_COLORS]
    for name in ("demo", "landcover", "flood", "chips", "terramesh"):
        legends[name] = [to_rgb(item["color"]) for item in template_record(name)["classes"]]
    for name, colours in legends.items():
        distance, pair = nearest(colours, lacking)
        assert distance >= APART, f"{name}: {pair}, {distance:.1f}"


def test_what_pictures_show_is_said_with_numbers():
    assert alternatives.scores({"fusion": 0.8234, "eo": None}, label="mean IoU") == (
        "Bar chart of mean IoU: fusion 0.823, eo not measured"
    )
    assert alternatives.confusion([[9, 1, 0], [0, 0, 0], [2, 1, 1]], names=["a", "b", "c"]) == (
        "Confusion matrix, shares of each true class: a 90% found, most often taken for b; b does not occur; c 25% "
        "found, most often taken for a"
    )
    meters = {
        "Brier": {"share": [0.25, 0.75], "share_interval": [[0.2, 0.3], [0.7, 0.8]]},
        "cross entropy": {"share": None, "share_interval": None},
    }
    assert alternatives.shares(meters, modalities=["eo", "sar"]).endswith(
        "Brier: eo 25% (20% to 30%), sar 75% (70% to 80%); cross entropy: indeterminate"
    )
    found = alternatives.classes({"modalities": ["eo", "sar"], "share": [None, [0.4, 0.6]]}, names=["a", "b"])
    assert found.endswith("a: indeterminate; b: eo 40%, sar 60%")
    assert alternatives.maps("here", {"class_shares": {"a": None, "b": 0.5}})["prediction"] == (
        "Predicted classes of here: a indeterminate, b 50%"
    )
    assert np.all([len(text) > 5 for text in alternatives.maps("here", None).values()])


def test_a_network_that_is_no_better_than_none_is_told_first(trained_run, tmp_path):
    run = trained_run.run
    found = run.folder.stages["evaluate"].figures
    useless = {**found, "majority": {**found["majority"], "mean_iou": found["fusion"]["mean_iou"]}}
    stages = {**run.folder.stages, "evaluate": replace(run.folder.stages["evaluate"], figures=useless)}
    write_report(replace(run.folder, stages=stages), run.config, stacks=run.stacks, path=tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert page.index("Not worth looking at: mean IoU 0.") < page.index("This map rests")
    assert "; not worth looking at: mean IoU" in summary("evaluate", useless)
    unknown = {**useless, "majority": {"mean_iou": None}}
    assert useless_words(unknown) is None


def test_a_title_is_escaped(trained_run, tmp_path):
    record = yaml.safe_load(trained_run.config.read_text()) | {"report": {"title": "<script>alert(1)</script>"}}
    path = trained_run.config.with_name("titled.yaml")
    path.write_text(yaml.safe_dump(record))
    run = trained_run.run
    write_report(run.folder, load_config(path), stacks=run.stacks, path=tmp_path / "report.html")
    assert "<script" not in (tmp_path / "report.html").read_text()
