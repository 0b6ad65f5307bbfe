"""Invented catalogs: Sentinel-2, Sentinel-1 and Landsat items with files, on disk or behind real loopback servers."""

import hashlib
import http.server
import json
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from shapely.geometry import box, mapping
from strategies import north_up, write_tiff

#: Grid of every invented file: 10 m pixels at multiples of 10 m, UTM 33N, near 15 degrees east.
GRID = north_up(160, 200, left=500_000.0, top=5_300_000.0)

EO_KEYS = ("blue", "green", "red", "nir")


def write_area(path: Path, grid: GeoBox = GRID, *, shrink: int = 20) -> Path:
    """Write the grid's outline, less ``shrink`` pixels on each side, as GeoJSON."""
    rows, cols = grid.shape
    outline = grid[shrink : rows - shrink, shrink : cols - shrink].extent.to_crs("EPSG:4326")
    path.write_text(json.dumps({"type": "Feature", "properties": {}, "geometry": outline.json}))
    return path


def multihash(path: Path) -> str:
    """sha2-256 of a file as the STAC file extension writes it."""
    return "1220" + hashlib.sha256(path.read_bytes()).hexdigest()


@dataclass
class FakeArchive:
    """Files in one folder and the items that describe them; hrefs are ``base`` + file name.

    Attributes
    ----------
    folder
        Where the files are.
    rng
        Source of the numbers.
    grid
        Grid of every file.
    items
        Records so far.
    truth
        Item id -> band -> the numbers in its file.
    """

    folder: Path
    rng: np.random.Generator
    grid: GeoBox = GRID
    base: str = "./"
    items: list[dict[str, Any]] = field(default_factory=list)
    truth: dict[str, dict[str, NDArray[Any]]] = field(default_factory=dict)

    def sentinel2(
        self, when: str, *, cloud: float = 10.0, name: str | None = None, **properties: Any
    ) -> dict[str, Any]:
        """Four 10 m bands (uint16, 1 and more), SCL at 20 m with a cloud in the upper left quarter."""
        fields = {"eo:cloud_cover": cloud, "platform": "sentinel-2b", "s2:processing_baseline": "03.01", **properties}
        identifier = name or f"S2B_{when[:10].replace('-', '')}"
        shape = self.grid.shape
        bands = {key: self.rng.integers(200, 4000, shape).astype(np.uint16) for key in EO_KEYS}
        item = self._item(identifier, "sentinel-2-l2a", when, fields)
        for key, values in bands.items():
            self._add(item, key, values, self.grid, nodata=0)
        classes = np.full((shape[0] // 2, shape[1] // 2), 4, dtype=np.uint8)
        classes[: shape[0] // 4, : shape[1] // 4] = 9
        self._add(item, "scl", classes, self.grid.zoom_out(2), nodata=0)
        return item

    def sentinel1(self, when: str, *, name: str | None = None, **properties: Any) -> dict[str, Any]:
        """VV and VH in linear power, float32, -32768 at the right edge."""
        item = self._item(
            name or f"S1A_{when[:10].replace('-', '')}_rtc", "sentinel-1-rtc", when,
            {"platform": "sentinel-1a", "sat:relative_orbit": 44, **properties},
        )  # fmt: skip
        for key in ("vv", "vh"):
            power = self.rng.gamma(4.0, 0.03, self.grid.shape).astype(np.float32)
            power[:, -5:] = -32768
            self._add(item, key, power, self.grid, nodata=-32768)
        return item

    def landsat(self, when: str, *, name: str | None = None, **properties: Any) -> dict[str, Any]:
        """Surface temperature at 30 m (uint16 with scale and offset in the item), QA_PIXEL all clear."""
        coarse = GeoBox.from_bbox(self.grid.boundingbox, self.grid.crs, resolution=30)
        item = self._item(
            name or f"LC08_{when[:10].replace('-', '')}", "landsat-c2-l2", when,
            {"platform": "landsat-8", "eo:cloud_cover": 0.0, **properties},
        )  # fmt: skip
        counts = self.rng.integers(40_000, 44_000, coarse.shape).astype(np.uint16)
        self._add(item, "lwir11", counts, coarse, nodata=0, scale=0.00341802, offset=149.0)
        self._add(item, "qa_pixel", np.full(coarse.shape, 21824, dtype=np.uint16), coarse, nodata=1)
        return item

    def tile(self, folder: Path, tile: str) -> None:
        """Add one real TerraMesh tile: Sentinel-2 as one file a band, Sentinel-1 in decibels as it comes."""
        with rasterio.open(folder / "S2L2A" / f"{tile}.tif") as source:
            counts, self.grid = source.read(), GeoBox(source.shape, source.transform, source.crs)
        with rasterio.open(folder / "LULC" / f"{tile}.tif") as source:
            when = source.tags()["datetime"]
        optical = self._item(f"S2_{tile}", "sentinel-2-l2a", when[:19] + "Z", {"s2:processing_baseline": "03.01"})
        for key, index in {"blue": 1, "green": 2, "red": 3, "nir": 7}.items():
            self._add(optical, key, counts[index].astype(np.uint16), self.grid, nodata=0)
        self._add(optical, "scl", np.full(self.grid.shape, 4, dtype=np.uint8), self.grid, nodata=0)
        with rasterio.open(folder / "S1RTC" / f"{tile}.tif") as source:
            decibels, when = source.read().astype(np.float32), source.tags()["datetime"]
            self.grid = GeoBox(source.shape, source.transform, source.crs)
        radar = self._item(f"S1_{tile}", "sentinel-1-rtc", when[:19] + "Z", {})
        for key, values in zip(("vv", "vh"), decibels, strict=True):
            self._add(radar, key, values, self.grid, nodata=-9999)

    def _item(self, name: str, collection: str, when: str, properties: dict[str, Any]) -> dict[str, Any]:
        outline = box(*self.grid.extent.to_crs("EPSG:4326").boundingbox)
        item = {
            "type": "Feature", "stac_version": "1.0.0", "stac_extensions": [], "id": name, "collection": collection,
            "geometry": mapping(outline), "bbox": list(outline.bounds), "links": [], "assets": {},
            "properties": {"datetime": when, **properties},
        }  # fmt: skip
        self.items.append(item)
        self.truth[name] = {}
        return item

    def _add(
        self, item: dict[str, Any], key: str, values: NDArray[Any], grid: GeoBox, *, nodata: float, **calibration: float
    ) -> None:
        path = write_tiff(
            self.folder / f"{item['id']}.{key}.tif", values[None], grid, nodata=nodata, compress="deflate"
        )
        self.truth[item["id"]][key] = values
        item["assets"][key] = {
            "href": self.base + path.name, "type": "image/tiff; application=geotiff", "roles": ["data"],
            "file:size": path.stat().st_size, "file:checksum": multihash(path),
        }  # fmt: skip
        if calibration:
            item["assets"][key]["raster:bands"] = [calibration]

    def write_static(self) -> Path:
        """Write a catalog with one collection a sensor and one file an item beside the files; return its path."""
        for collection in sorted({item["collection"] for item in self.items}):
            names = [item["id"] for item in self.items if item["collection"] == collection]
            links = [{"rel": "item", "href": f"./{name}.json"} for name in names]
            self._write(f"{collection}.json", {"type": "Collection", "id": collection, "links": links})
        for item in self.items:
            self._write(f"{item['id']}.json", item)
        collections = sorted({item["collection"] for item in self.items})
        links = [{"rel": "child", "href": f"./{name}.json"} for name in collections]
        return self._write("catalog.json", {"type": "Catalog", "id": "invented", "links": links})

    def _write(self, name: str, record: dict[str, Any]) -> Path:
        path = self.folder / name
        path.write_text(json.dumps({"stac_version": "1.0.0", "description": "invented", **record}))
        return path


@dataclass
class FileServer:
    """Files over HTTP on loopback, with ranges and entity tags; counts what it sends and can misbehave.

    Attributes
    ----------
    requests, sent
        File name -> requests, bytes of bodies.
    pause
        Seconds before each block of ``block`` bytes.
    break_after
        File name -> bytes after which the connection is cut, once.
    failures
        File name -> answers to give first.
    tags
        Whether entity tags are sent, and ranges honoured only if they match.
    chunked
        Whether the length is kept to itself (transfer coding "chunked").
    """

    folder: Path
    url: str = ""
    requests: Counter[str] = field(default_factory=Counter)
    sent: Counter[str] = field(default_factory=Counter)
    pause: float = 0.0
    block: int = 4096
    break_after: dict[str, int] = field(default_factory=dict)
    failures: dict[str, list[int]] = field(default_factory=dict)
    tags: bool = True
    chunked: bool = False


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    state: FileServer

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        name, state = self.path.split("?")[0].rsplit("/", 1)[-1], self.state
        state.requests[name] += 1
        if state.failures.get(name):
            self._answer(state.failures[name].pop(0), {"Content-Length": "0"})
            return
        path = state.folder / name
        if not path.is_file():
            self._answer(404, {"Content-Length": "0"})
            return
        body = path.read_bytes()
        tag = f'"{hashlib.md5(body).hexdigest()}"'  # noqa: S324 - a name for the bytes, nothing more
        start, headers = 0, {"ETag": tag} if state.tags else {}
        asked = self.headers.get("Range")
        if asked and (not state.tags or self.headers.get("If-Range") in (tag, None)):
            start = int(asked.removeprefix("bytes=").split("-")[0])
        if start >= len(body) and start:
            self._answer(416, {"Content-Range": f"bytes */{len(body)}", "Content-Length": "0"})
            return
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
        length = {"Transfer-Encoding": "chunked"} if state.chunked else {"Content-Length": str(len(body) - start)}
        self._answer(206 if start else 200, {**headers, **length})
        cut = state.break_after.pop(name, None)
        self._send(name, body[start:] if cut is None else body[start : start + cut], cut=cut is not None)
        self.close_connection = cut is not None

    def _answer(self, code: int, headers: dict[str, str]) -> None:
        self.send_response(code)
        for key, value in headers.items():
            self.send_header(key, value)
        self.end_headers()

    def _send(self, name: str, body: bytes, *, cut: bool) -> None:
        for first in range(0, len(body), self.state.block):
            time.sleep(self.state.pause)
            piece = body[first : first + self.state.block]
            try:
                self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece) if self.state.chunked else piece)
            except OSError:  # the other side was killed
                self.close_connection = True
                return
            self.state.sent[name] += len(piece)
        if self.state.chunked and not cut:
            self.wfile.write(b"0\r\n\r\n")


@contextmanager
def file_server(folder: Path) -> Iterator[FileServer]:
    """Serve a folder on a free loopback port."""
    state = FileServer(folder)
    handler = type("Handler", (_Handler,), {"state": state})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        state.url = f"http://127.0.0.1:{server.server_address[1]}/"
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield state
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def stac_server(items: list[dict[str, Any]], folder: Path) -> Iterator[str]:
    """Serve items by a real STAC search API (rustac) on a free loopback port; yield its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    path = folder / "served.json"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": items}))
    command = Path(sys.executable).with_name("rustac")
    url = f"http://127.0.0.1:{port}"
    process = subprocess.Popen(
        [command, "serve", "--addr", url, "--bind", f"127.0.0.1:{port}", "--create-collections", path],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        _wait_for(url, process)
        yield url
    finally:
        process.terminate()
        process.wait(timeout=20)


def _wait_for(url: str, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + 30
    while time.monotonic() < until:
        try:
            with urllib.request.urlopen(url, timeout=5):  # noqa: S310 - our own loopback address
                return
        except OSError:
            if process.poll() is not None:
                raise RuntimeError(f"the STAC server ended with {process.returncode}") from None
            time.sleep(0.05)
    raise RuntimeError("the STAC server did not answer")
