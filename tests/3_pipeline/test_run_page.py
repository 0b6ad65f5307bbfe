"""The page of a batch run: its figures are the ledger's, it needs nothing else, and strangers' texts stay texts."""

import io
import json
import re
import time
from html.parser import HTMLParser

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import rasterio
import shapely
from affine import Affine
from browser import grave_findings
from fake_batch import MODALITIES, RESOLUTION, write_batch
from PIL import Image

from equipoise.pipeline.batch import run_figures, run_words
from equipoise.pipeline.batch.map_places import place_words, places
from equipoise.pipeline.batch.progress_map import LOOKS, write_progress_map
from equipoise.pipeline.batch.run_page import write_run_page
from equipoise.pipeline.batch.run_units import STATES, RunUnits
from equipoise.pipeline.batch.unit_outlines import Outlines, degrees, plain_text
from equipoise.pipeline.trust import DEFECTS

#: A region whose name is a script, a formula and signs that the font lacks.
HOSTILE = '<script>alert("$x^")</script> \U0001f30d'

VOID = {"meta", "img", "br", "link", "input"}


class Page(HTMLParser):
    """A page taken apart; tags that are not closed in order are an error."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.open, self.words, self.rows = [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] in ("td", "th"):
            self.rows[-1][-1] += data
        if self.open and self.open[-1] != "style":
            self.words.append(data.replace("\N{NO-BREAK SPACE}", " "))

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())

    def images(self):
        return [attributes for tag, attributes in self.tags if tag == "img"]


def _square(number, across, *, west=14.0, north=50.0, edge=0.09):
    row, col = divmod(number, across)
    return shapely.box(west + col * edge, north - (row + 1) * edge, west + (col + 1) * edge, north - row * edge)


def _ledger(states, rng, *, modalities=("eo", "sar"), trust=True, confidence=True, regions=("Low land",), **place):
    """A ledger of units in a square, one an hour and worker; those done are mapped by half."""
    across, rows = int(np.ceil(np.sqrt(len(states)))), []
    for number, state in enumerate(states):
        done, begun = state == "done", state not in ("pending", "empty")
        hour = number // 4 % 24
        shares = rng.dirichlet(np.ones(len(modalities))) if modalities else ()
        doubt = float(rng.uniform(0, 0.4))
        figures = {"confidence": float(rng.uniform(0.4, 1)) if confidence else None,
                   "reliance": dict(zip(modalities, map(float, shares), strict=True))}  # fmt: skip
        if trust:
            figures["trust"] = {"shares": {"sound": 1 - doubt, "rests on clouded data": doubt}}
        record = {"timings": {"acquire": 600, "predict": 1200.0}, "figures": figures, "peak_mib": 2048.0 + number % 7}
        rows.append({
            "name": f"unit_{number}", "crs": "EPSG:32633", "regions": "\n".join(regions), "state": state,
            "attempts": 3 if state == "failed" else 1, "losses": 2 if state == "failed" else 0,
            "worker": f"worker-{number % 4}" if begun else "",
            "started": f"2024-05-{1 + number // 96 % 28:02d}T{hour:02d}:00:00.000+00:00" if begun else "",
            "finished": f"2024-05-{1 + number // 96 % 28:02d}T{hour:02d}:40:00.000+00:00" if begun else "",
            "seconds": 2400.0 if done else 0.0, "pixels": 32 * 64 if done else 0, "km2": 40.0,
            "error": {"failed": f"found <b>{number}</b>\nline", "empty": f"unit_{number}: no scene"}.get(state, ""),
            "fingerprint": "", "record": json.dumps(record) if done else "",
            "payload": json.dumps({"geobox": {"shape": [64, 64]}}),
        })  # fmt: skip
    return gpd.GeoDataFrame(
        rows, geometry=[_square(number, across, **place) for number in range(len(states))], crs="EPSG:4326"
    )


MANIFEST = {
    "equipoise": "0.1.0", "versions": {"numpy": "2.3.4"}, "seed": 5, "regions": ["Low land"],
    "options": {"dates": "2024-05-01/2024-05-31", "predict": {"overlap": 32}},
    "model": {"folder": "m", "digest": "0123abcd", "modalities": ["eo", "sar"],
              "classes": [{"value": 1, "name": "water", "color": "red; background: url(http://x)"}]},
    "grid": {"resolution": 10.0, "edge": 64},
}  # fmt: skip


def _write(out, ledger, *, manifest=MANIFEST, summaries=None, mosaics=(), name="A run"):
    path = write_run_page(
        out, name=name, ledger=ledger, manifest=manifest, summaries=summaries or {}, mosaics=list(mosaics)
    )
    return path, Page(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def fake(tmp_path_factory):
    return write_batch(tmp_path_factory.mktemp("batch"), np.random.default_rng(2))


def test_the_figures_are_those_of_the_units_maps(fake):
    """Oracle: the arrays that the maps were made of."""
    manifest = json.loads((fake.out / "batch.json").read_text())
    path, page = _write(fake.out, fake.ledger(), manifest=manifest, summaries={"administrative units": fake.regions})
    done = fake.done()
    mapped = np.array([(unit.maps["classes"] != 255).sum() for unit in done])
    km2 = mapped.sum() * RESOLUTION**2 / 1e6
    shares, doubts = [], []
    for unit, pixels in zip(done, mapped, strict=True):
        known = np.isfinite(unit.maps["reliance"]).all(axis=0)
        shares.append(unit.maps["reliance"][:, known].mean(axis=1) if known.any() else [np.nan] * 3)
        seen = unit.maps["classes"] != 255
        flags = np.kron(unit.maps["trust"], np.ones((fake.tile, fake.tile), np.uint8))[seen]
        doubts.append(np.isin(flags, DEFECTS).sum() / max(pixels, 1))
    shares = np.ma.masked_invalid(np.asarray(shares, dtype=float))
    means = np.ma.average(shares, axis=0, weights=mapped)
    top = int(means.argmax())
    doubt = np.average(doubts, weights=mapped)
    assert path == fake.out / "report.html"
    assert (
        f"Mapped {km2:.3g} km² in {len(done)} of {len(fake.units)} units; the maps rest {100 * means[top]:.0f} % on "
        f"{MODALITIES[top]}; {100 * doubt:.0f} % of the area rests on doubtful input; 1 unit was empty; 1 unit failed."
    ) in page.text
    assert "Administrative units" in page.text
    assert ["no sensor saw it", "1"] in page.rows
    [failed] = [unit.name for unit in fake.units.values() if unit.state == "failed"]
    [row] = [row for row in page.rows if row[0] == failed]
    assert row[2:5] == ["found no memory; wanted 2 GiB; lower --edge", "3", "0"]
    for name in ("digest", "options.dates", "grid.edge", "numpy"):
        assert name.removeprefix("options.") in [row[0] for row in page.rows if row]


def test_a_page_holds_all_that_it_shows(fake):
    first, *_ = fake.done()
    cogs = [*fake.out.glob(f"units/{first.name}/*.tif"), *sorted(fake.out.glob("units/*/*.classes.tif"))]
    manifest = json.loads((fake.out / "batch.json").read_text())
    _, page = _write(fake.out, fake.ledger(), manifest=manifest, summaries={"region": fake.regions}, mosaics=cogs)
    pictures = page.images()
    assert len(pictures) == 6 + 4 + 5  # of six regions at most
    for picture in pictures:
        assert picture["alt"].strip()
        assert picture["src"].startswith("data:image/png;base64,")
    raw = (fake.out / "report.html").read_text(encoding="utf-8")
    assert [tag for tag, _ in page.tags if tag in ("script", "link", "iframe", "object")] == []
    assert re.findall(r"@import|url\(", raw) == []
    assert [value for _, attributes in page.tags for key, value in attributes.items() if key in ("src", "href")
            and not value.startswith("data:")] == []  # fmt: skip
    assert "forest & <scrub>" in page.text
    assert 'Sü/d <b>&"1"' in page.text
    assert [path.name for path in fake.out.iterdir() if path.name.startswith(".")] == []


def test_mosaics_that_cannot_be_shown_are_left_out(tmp_path, fake, caplog):
    """One that is no raster, and one without overviews, which would be read whole."""
    (tmp_path / "alta.32633.classes.tif").write_bytes(b"no raster")
    (tmp_path / "other.txt").touch()
    profile = {"driver": "GTiff", "width": 5000, "height": 2, "count": 1, "dtype": "uint8", "crs": "EPSG:32633"}
    with rasterio.open(tmp_path / "long.classes.tif", "w", **profile, transform=Affine.scale(10, -10)):
        pass
    found = sorted(fake.out.glob("units/*/*.classes.tif"))[0]
    _, page = _write(tmp_path, fake.ledger().iloc[:0], mosaics=[*sorted(tmp_path.iterdir()), found])
    assert [picture["alt"] for picture in page.images()] == [f"classes of {found.name.split('.')[0]}"]
    assert "alta.32633.classes.tif is not shown" in caplog.text
    assert "long.classes.tif is not shown: it has no overviews" in caplog.text


def test_what_strangers_wrote_stays_text(tmp_path):
    rng = np.random.default_rng(0)
    ledger = _ledger(["done", "failed", "empty", "running"], rng, regions=(HOSTILE, "b"), modalities=(HOSTILE, "sar"))
    ledger["worker"] = [HOSTILE, HOSTILE, "", HOSTILE]
    ledger["error"] = HOSTILE
    model = MANIFEST["model"] | {"modalities": [HOSTILE, "sar"]}
    manifest = MANIFEST | {"regions": [HOSTILE], "options": {HOSTILE: HOSTILE}, "model": model}
    areas = gpd.GeoDataFrame({"name": [HOSTILE], f"class_{HOSTILE}_km2": [1.0]}, geometry=[_square(0, 1)], crs=4326)
    path, page = _write(tmp_path, ledger, manifest=manifest, summaries={HOSTILE: areas}, name=HOSTILE)
    assert "<script" not in path.read_text(encoding="utf-8")
    assert [tag for tag, _ in page.tags if tag == "script"] == []
    assert page.text.count(HOSTILE) >= 8
    styles = [attributes["style"] for _, attributes in page.tags if "style" in attributes]
    assert all(re.fullmatch(r"background: rgb\(\d+, \d+, \d+\)", style) for style in styles)


@pytest.mark.parametrize(
    ("states", "said"),
    [
        (["pending"] * 3, "Nothing is mapped yet: none of 3 units is done; 3 units are to do."),
        (["running"], "Nothing is mapped yet: none of 1 unit is done; 1 unit is to do."),
        (["failed"] * 60, "Nothing is mapped: none of 60 units is done; 60 units failed."),
        (["empty"], "Nothing is mapped: none of 1 unit is done; 1 unit was empty."),
        (["done"], "Mapped 20 km² in 1 of 1 unit; the maps rest"),
        ([], "Nothing is mapped: none of 0 units is done."),
    ],
)
def test_every_state_of_a_run_has_its_page(tmp_path, states, said):
    _, page = _write(tmp_path, _ledger([*states, "done"], np.random.default_rng(1)).iloc[: len(states)])
    assert said in page.text
    assert len([row for row in page.rows if row and row[0].startswith("unit_")]) == min(states.count("failed"), 50)
    assert ("And 10 more" in page.text) == (states.count("failed") == 60)
    assert len(page.images()) == (0 if not states else {"done": 6, "failed": 2, "running": 2}.get(states[0], 1))


@pytest.mark.parametrize(
    "less", [{"modalities": ()}, {"trust": False}, {"confidence": False}, {"modalities": ("sar",)}]
)
def test_what_was_not_measured_is_left_out(tmp_path, less):
    ledger = _ledger(["done"] * 5, np.random.default_rng(1), **less)
    model = MANIFEST["model"] | {"modalities": less.get("modalities", ("eo", "sar"))}
    _, page = _write(tmp_path, ledger, manifest=MANIFEST | {"model": model})
    assert ("the maps rest" in page.text) == (less.get("modalities") != ())
    assert ("the maps rest 100 % on sar" in page.text) == (less.get("modalities") == ("sar",))
    assert ("doubtful input;" in page.text or "doubtful input." in page.text) == less.get("trust", True)
    assert ("How sure it is" in page.text) == less.get("confidence", True)


def test_a_manifest_and_records_of_another_version_are_no_error(tmp_path):
    ledger = _ledger(["done"] * 3, np.random.default_rng(1))
    ledger["record"] = ["{", "[1]", None]
    ledger["payload"] = ["", "{}", None]
    _, page = _write(tmp_path, ledger, manifest={"model": None})
    # How many pixels a chunk has is not known: all of it counts.
    assert "Mapped 120 km² in 3 of 3 units." in page.text


def test_ten_thousand_units_take_bounded_time_and_bytes(tmp_path):
    rng = np.random.default_rng(4)
    states = rng.choice(STATES, p=[0.8, 0.01, 0.1, 0.05, 0.04], size=10_000).tolist()
    ledger = _ledger(states, rng, modalities=("eo", "sar", "ir"))
    begin = time.process_time()
    write_progress_map(tmp_path, ledger)
    middle = time.process_time()
    path, page = _write(tmp_path, ledger)
    # Seconds of the processor, some times what it takes: machines differ.
    assert middle - begin < 4
    assert time.process_time() - middle < 25
    assert path.stat().st_size < 3e6
    done = states.count("done")
    assert f"Mapped {20 * done:,} km² in {done:,} of 10,000 units".replace(",", " ") in page.text
    assert f"And {states.count('failed') - 50} more" in page.text
    [(reason, count)] = run_words.empty_reasons(ledger)
    assert (reason, count) == ("the unit: no scene", states.count("empty"))


def test_the_progress_map_shows_each_state_in_its_colour(tmp_path):
    """Oracle: areas on the map against the numbers of units."""
    ledger = _ledger(["done"] * 60 + ["pending"] * 20 + ["failed"] * 20, np.random.default_rng(0))
    path = write_progress_map(tmp_path, ledger)
    assert path == tmp_path / "progress.png"
    assert [found.name for found in tmp_path.iterdir()] == ["progress.png"]
    with Image.open(path) as picture:
        pixels = np.asarray(picture.convert("RGB")).reshape(-1, 3)
    counts = {}
    for state in ("done", "pending", "failed"):
        colour = np.array([int(LOOKS[state][0][place : place + 2], 16) for place in (1, 3, 5)])
        counts[state] = (np.abs(pixels - colour).max(axis=1) <= 1).sum()
    assert counts["done"] / counts["pending"] == pytest.approx(3, rel=0.1)
    # A cross lies upon each that failed, so that no eye depends on the colour.
    assert 0.75 < counts["failed"] / counts["pending"] < 0.99


def test_a_map_across_the_date_line_is_no_map_of_the_world():
    parts = [shapely.box(179.0, 0, 180.0, 1), shapely.box(-180.0, 0, -179.0, 1)]
    torn = shapely.MultiPolygon([shapely.box(179.5, 1, 180.0, 2), shapely.box(-180.0, 1, -179.5, 2)])
    ledger = gpd.GeoDataFrame(geometry=[*parts, torn, None, shapely.Point(0, 0)], crs="EPSG:4326")
    outlines = Outlines.of(ledger)
    assert outlines.owner.tolist() == [0, 1, 2, 2]
    west, south, east, north = outlines.box
    assert (west, east) == pytest.approx((178.94, 181.06))
    assert (south, north) == pytest.approx((-0.06, 2.06))
    assert [degrees(value, "EW") for value in (179.5, 180.5, -10, 0)] == ["179.5°E", "179.5°W", "10°W", "0°"]
    assert degrees(-2.25, "NS") == "2.25°S"


def test_regions_far_apart_are_drawn_place_by_place(tmp_path):
    rng = np.random.default_rng(0)
    near = _ledger(["done"] * 9, rng, modalities=("sar",))
    far = _ledger(["done"] * 4, rng, modalities=("sar",), west=-64.0, north=-3.0)
    both = gpd.GeoDataFrame(pd.concat([near, far], ignore_index=True), crs=4326)
    found = places(Outlines.of(both))
    assert [np.unique(place.owner).tolist() for place in found] == [[*range(9)], [*range(9, 13)]]
    assert [place_words(place) for place in found] == ["around 49.9°N 14.1°E", "around 3.1°S 63.9°W"]
    assert len(places(Outlines.of(near))) == 1
    _, page = _write(tmp_path, both)
    assert page.text.count("around 3.1°S 63.9°W") == 2
    # Many places are one map of the whole.
    scattered = gpd.GeoDataFrame(geometry=[_square(0, 1, west=20.0 * number) for number in range(8)], crs=4326)
    assert [len(place.rings) for place in places(Outlines.of(scattered))] == [8]


def test_pauses_and_attempts_before_do_not_count_as_work():
    ledger = _ledger(["done", "done", "running", "pending"], np.random.default_rng(0))
    ledger["started"] = ["2024-05-01T00:00:00+00:00", "2024-05-03T00:00:00Z", "2024-05-03T01:00:00Z", ""]
    ledger["finished"] = ["2024-05-01T01:00:00+00:00", "2024-05-03T00:30:00Z", "2024-05-02T00:00:00Z", ""]
    units = RunUnits.read(ledger, MANIFEST)
    assert units.hours_at_work() == pytest.approx(1.5)
    assert units.charted.tolist() == [True, True, True, False]
    assert run_words.hours_by_part(units)["other"] == pytest.approx(2 * 600 / 3600)
    assert "mapped 26.7 km² an hour" in " ".join(run_words.time_words(units)).replace("\N{NO-BREAK SPACE}", " ")


def test_tables_take_the_columns_that_there_are():
    frame = gpd.GeoDataFrame(
        {"kind": ["region"] * 2, "name": ["a", None], "mapped_km2": [12345.6, 0.5], "mapped_share": [0.004, 1.0],
         "class_open water_km2": [1.0, np.nan], "reliance_sar": [0.61, np.nan], "units_done": [1200, 1],
         "confidence": [0.5, 1.0], "by": [{"x": 0.25}, {}], "none": [None, None]},
        geometry=[_square(0, 1)] * 2, crs=4326,
    )  # fmt: skip
    table = run_words.summary_table(frame)
    texts = [[text.replace("\N{NO-BREAK SPACE}", " ") for text, _ in row] for row in (table["header"], *table["rows"])]
    assert texts == [
        ["name", "mapped km²", "mapped share", "open water, km²", "rests on sar", "units done", "confidence", "by"],
        ["a", "12 346", "less than 1 %", "1", "61 %", "1 200", "0.50", "x 0.25"],
        ["-", "0.5", "100 %", "-", "-", "1", "1.00", ""],
    ]
    assert [numeric for _, numeric in table["header"]] == [False, *[True] * 6, False]
    assert run_words.summary_table(frame.iloc[[0] * 300])["hidden"] == 100


def test_numbers_are_said_in_words():
    said = [run_words.duration(hours).replace("\N{NO-BREAK SPACE}", " ") for hours in (0.01, 0.5, 3, 250)]
    assert said == ["36 s", "30 min", "3.0 h", "250 h"]
    assert plain_text("$a$\nb" + "c" * 90).replace(r"\$", "$") == "$a$ b" + "c" * 22 + "…"
    assert plain_text("\U0001f30d") == "?"


def test_a_picture_has_room_for_many_sensors():
    names = tuple(f"sensor {number}" for number in range(7))
    ledger = _ledger(["done", "pending"], np.random.default_rng(0), modalities=names)
    picture = run_figures.reliance_maps(RunUnits.read(ledger, {}), Outlines.of(ledger))
    with Image.open(io.BytesIO(picture)) as opened:
        assert opened.width > 900
        assert opened.height > 600


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_everybody_can_read_it(chromium, fake, tmp_path, scheme, width):
    first, *_ = fake.done()
    manifest = json.loads((fake.out / "batch.json").read_text())
    path, _ = _write(
        tmp_path, fake.ledger(), manifest=manifest, summaries={"region": fake.regions},
        mosaics=fake.out.glob(f"units/{first.name}/*.tif"),
    )  # fmt: skip
    page = chromium.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page.goto(path.as_uri())
    assert grave_findings(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.close()
