"""`equipoise view` as people use it: the command, its server, and the page in a browser."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import psutil
import pytest
from browser import grave_findings
from placeless import write_placeless

COMMAND = Path(sys.executable).with_name("equipoise")

#: Longest wait for a page, ms.
PATIENCE = 60_000


@contextmanager
def viewed(folder: Path, *more: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Start the command; yield its page's address and its process."""
    with subprocess.Popen(
        [COMMAND, "view", folder, "--json", *more], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    ) as process:  # fmt: skip
        try:
            yield json.loads(process.stdout.readline())["page"], process
        finally:
            process.kill()


@pytest.fixture(scope="module")
def address(trained_run) -> Iterator[str]:
    with viewed(trained_run.root) as (found, _):
        yield found


@pytest.fixture
def page(chromium, address):
    """The page, loaded; fails where it asked anybody else, or complained."""
    opened = chromium.new_page(viewport={"width": 1280, "height": 860})
    yield from _watched(opened, address)


def _watched(opened, address):
    asked, said = [], []
    opened.set_default_timeout(PATIENCE)
    opened.on("request", lambda request: asked.append(request.url))
    opened.on("console", lambda message: said.append(message.text))
    opened.on("pageerror", lambda error: said.append(str(error)))
    opened.goto(address)
    opened.wait_for_selector("body[data-ready]")
    yield opened
    opened.close()
    assert said == []
    assert [url for url in asked if not url.startswith((address, "data:"))] == []


def _until(page, script: str) -> None:
    """Wait until a script gives true. Playwright's own way would need `eval`, which the page's policy refuses."""
    until = time.monotonic() + PATIENCE / 1000
    while not page.evaluate(script):
        assert time.monotonic() < until, f"never seen: {script}"
        page.wait_for_timeout(50)


def _answer(address: str, *, method: str = "GET", host: str | None = None) -> tuple[int, bytes, dict[str, str]]:
    request = Request(address, method=method, headers={} if host is None else {"Host": host})  # noqa: S310 (loopback)
    try:
        with urlopen(request) as answer:  # noqa: S310 (loopback)
            return answer.status, answer.read(), dict(answer.headers)
    except HTTPError as error:
        with error:
            return error.code, error.read(), dict(error.headers)


def test_the_layers_are_shown(page):
    _until(page, "document.querySelectorAll('.leaflet-images-pane img').length > 0")
    _until(page, "[...document.querySelectorAll('.leaflet-tile')].every(tile => tile.complete && tile.naturalWidth)")
    legend = page.inner_text("#legend")
    assert "Prediction" in legend
    assert "flooded_forest" in legend
    page.get_by_label("Reliance, all sensors").check()
    assert "rests on sar" in page.inner_text("#legend")
    _until(page, "document.querySelectorAll('.leaflet-maps-pane img').length > 0")
    page.locator("#maps").get_by_label("none").check()
    assert "rests on sar" not in page.inner_text("#legend")
    assert page.locator(".leaflet-maps-pane img").count() == 0


def test_a_click_tells_what_is_there(page):
    page.click("#map", position={"x": 460, "y": 430})
    page.wait_for_selector("#details svg")
    words = page.inner_text("#details")
    for wanted in ("Prediction: ", "confidence", "Trust: ", "What the tile rests on", "reliance", "reflectance", "dB"):
        assert wanted in words
    assert page.locator("#details svg").get_attribute("aria-label").startswith("The tile rests on eo ")
    page.click("#map", position={"x": 5, "y": 400})
    _until(page, "document.querySelector('#details').innerText.includes('Nothing of the scene is there')")


def test_the_keyboard_is_enough(page):
    before = page.inner_text(".leaflet-control-scale-line")
    page.focus("#map")
    for _ in range(3):
        page.keyboard.press("+")
        page.wait_for_timeout(400)
    assert page.inner_text(".leaflet-control-scale-line") != before
    page.focus("#middle")
    page.keyboard.press("Enter")
    page.wait_for_selector("#details svg")


def test_the_divider_parts_two_layers(page):
    page.get_by_label("Swipe between two layers").check()
    assert page.input_value("#left").endswith("-before")
    assert page.input_value("#right") == page.input_value("#left").removesuffix("-before")
    _until(page, "document.querySelectorAll('.leaflet-swipe-left-pane img').length > 0")
    box = page.locator("#divider").bounding_box()
    page.mouse.move(box["x"] + 2, 300)
    page.mouse.down()
    page.mouse.move(200, 300)
    page.mouse.up()
    width = page.locator("#map").bounding_box()["width"]
    assert abs(page.locator("#divider").bounding_box()["x"] + 2 - 200) < width / 100 + 1
    clip = page.evaluate("document.querySelector('.leaflet-swipe-left-pane').style.clipPath")
    assert clip.startswith("polygon(")
    page.get_by_label("Swipe between two layers").uncheck()
    assert page.locator(".leaflet-swipe-left-pane img").count() == 0
    assert page.locator("#divider").is_hidden()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("width", "height"), [(1280, 860), (390, 844)])
def test_everybody_can_use_it(chromium, address, scheme, width, height):
    opened = chromium.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
    for page in _watched(opened, address):
        page.click("#middle")
        page.wait_for_selector("#details svg")
        page.get_by_label("Reliance, all sensors").check()
        page.get_by_label("Swipe between two layers").check()
        assert grave_findings(page) == []
        assert page.evaluate("document.documentElement.scrollWidth") == width


def test_a_scene_without_position_is_shown_by_rows_and_columns(chromium, trained_run, tmp_path):
    root = write_placeless(trained_run.root, tmp_path / "run")
    with viewed(root) as (address, _):
        for page in _watched(chromium.new_page(viewport={"width": 1280, "height": 860}), address):
            _until(page, "document.querySelector('.leaflet-images-pane img')?.naturalWidth > 0")
            page.click("#middle")
            page.wait_for_selector("#details svg")
            assert page.inner_text("#details").startswith("row 19")


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("scenes", 200), ("scenes/0", 200), ("scenes/9", 404), ("scenes/0/layers/99/picture.png", 404),
        ("scenes/0/layers/eo/picture.png", 404),
        ("scenes/0/layers/0/picture.png", 200), ("scenes/0/layers/0/3/9/9.png", 404),
        ("scenes/0/layers/0/99/1/1.png", 404), ("scenes/0/layers/0/14/1/1.png", 204),
        ("scenes/0/at?x=nan&y=1", 400), ("scenes/0/at?x=10&y=95", 422), ("scenes/0/at", 400),
        ("static/app.py", 404), ("static/__init__.py", 404),
        ("static/../app.py", 404), ("static/%2e%2e%2fapp.py", 404), ("../../../../etc/hostname", 404), ("docs", 404),
    ],
)  # fmt: skip
def test_only_what_is_listed_is_served(address, path, code):
    assert _answer(address + path)[0] == code


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_it_only_reads(address, method):
    assert _answer(f"{address}scenes", method=method)[0] == 405


def test_no_other_name_and_no_other_page_reaches_it(address):
    assert _answer(f"{address}scenes", host="maps.example")[0] == 400
    headers = {name.lower(): value for name, value in _answer(address)[2].items()}
    assert "default-src 'none'" in headers["content-security-policy"]
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert "access-control-allow-origin" not in headers


def test_it_listens_on_this_machine_only(trained_run):
    with viewed(trained_run.root) as (_, process):
        listening = [item for item in psutil.Process(process.pid).net_connections("inet") if item.status == "LISTEN"]
        assert [item.laddr.ip for item in listening] == ["127.0.0.1"]


def test_a_file_that_goes_is_told(trained_run, tmp_path):
    shutil.copytree(trained_run.root / "predictions", tmp_path / "maps")
    with viewed(tmp_path / "maps") as (address, _):
        layers = json.loads(_answer(f"{address}scenes/0")[1])["layers"]
        (number,) = [layer["number"] for layer in layers if layer["key"] == "confidence"]
        for path in (tmp_path / "maps").glob("*.confidence.tif"):
            path.write_bytes(b"no longer a map")
        code, body, _ = _answer(f"{address}scenes/0/layers/{number}/picture.png")
        assert (code, "Traceback" in body.decode()) == (422, False)
        assert "confidence.tif" in json.loads(body)["error"]


def test_ctrl_c_ends_it_well(trained_run):
    with viewed(trained_run.root) as (address, process):
        assert _answer(address)[0] == 200
        process.send_signal(signal.SIGINT)
        out, error = process.communicate(timeout=60)
    assert (process.returncode, out, error) == (0, "", "")


def test_a_port_that_is_taken(trained_run, forked, address):
    port = address.rstrip("/").rpartition(":")[2]
    done = forked("view", trained_run.root, "--port", port)
    assert done.returncode == 1
    assert "found an address that cannot be used" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    with viewed(trained_run.root) as (another, _):
        assert another != address


def test_a_folder_without_maps(tmp_path, forked):
    done = forked("view", tmp_path)
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
    assert "found no aligned scene and no GeoTIFF; wanted" in done.stderr
