"""App: what the viewer's server answers. It only reads, names files by number, and its page loads nothing from afar."""

import functools
import logging
import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio._err import CPLE_BaseError
from rasterio.errors import RasterioError
from rasterio.warp import transform_bounds
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ...datasets.errors import DatasetError
from ..errors import PipelineError
from .folder import SceneFiles
from .layers import Layer, ViewedScene, open_scene
from .place import corners, place
from .rasters import PICTURE, png

#: Files of the page, and what they are.
STATIC = {
    "viewer.html": "text/html; charset=utf-8",
    "viewer.css": "text/css",
    "viewer.js": "text/javascript",
    "chart.js": "text/javascript",
    "legend.js": "text/javascript",
    "swipe.js": "text/javascript",
    "leaflet.js": "text/javascript",
    "leaflet.css": "text/css",
}

#: Scenes that stay open: their stretches are known.
OPEN_SCENES = 32

#: Deepest zoom level of the Web Mercator pyramid.
DEEPEST = 24

#: What browsers are told: nothing from elsewhere, nothing kept, no page around it.
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Viewed:
    """What a server shows.

    Attributes
    ----------
    root
        Folder; nothing out of it is read.
    scenes
        Its scenes.
    """

    root: Path
    scenes: Sequence[SceneFiles]


def make_app(viewed: Viewed, *, hosts: Sequence[str]) -> Starlette:
    """Make the app.

    Parameters
    ----------
    viewed
        What is shown.
    hosts
        Names under which it may be asked, so that no other page's script reaches it by a name of its own.
    """
    answers = _Answers(viewed)
    return Starlette(
        routes=[
            Route("/", answers.page),
            Route("/static/{name}", answers.static),
            Route("/scenes", answers.scenes),
            Route("/scenes/{scene:int}", answers.scene),
            Route("/scenes/{scene:int}/at", answers.place),
            Route("/scenes/{scene:int}/layers/{layer:int}/picture.png", answers.picture),
            Route("/scenes/{scene:int}/layers/{layer:int}/{z:int}/{x:int}/{y:int}.png", answers.tile),
        ],
        middleware=[
            Middleware(TrustedHostMiddleware, allowed_hosts=list(hosts), www_redirect=False),
            Middleware(BaseHTTPMiddleware, dispatch=_with_headers),
        ],
        exception_handlers={
            HTTPException: _refusal,
            **dict.fromkeys((PipelineError, DatasetError, RasterioError, CPLE_BaseError, OSError), _unreadable),
            Exception: _failure,
        },
    )


class _Answers:
    """What is answered at each address."""

    def __init__(self, viewed: Viewed) -> None:
        self._viewed = viewed
        self._opened = functools.lru_cache(OPEN_SCENES)(lambda number: open_scene(viewed.scenes[number], viewed.root))

    def page(self, _: Request) -> Response:
        return _static("viewer.html")

    def static(self, request: Request) -> Response:
        return _static(request.path_params["name"])

    def scenes(self, _: Request) -> Response:
        names = [scene.name for scene in self._viewed.scenes]
        return JSONResponse({"title": self._viewed.root.resolve().name, "scenes": names})

    def scene(self, request: Request) -> Response:
        return JSONResponse(_record(self._scene(request)))

    def tile(self, request: Request) -> Response:
        scene, layer = self._layer(request)
        z, x, y = (request.path_params[name] for name in "zxy")
        if scene.box is None or z > DEEPEST or max(x, y) >= 2**z:
            raise HTTPException(404, "found no such tile")
        values = layer.raster.tile(z, x, y, nearest=layer.is_sharp, bands=layer.drawing.reads)
        return Response(status_code=204) if values is None else _picture(layer, values)

    def picture(self, request: Request) -> Response:
        _, layer = self._layer(request)
        values = layer.raster.thinned(PICTURE, nearest=layer.is_sharp, bands=layer.drawing.reads)
        return _picture(layer, values)

    def place(self, request: Request) -> Response:
        try:
            x, y = float(request.query_params["x"]), float(request.query_params["y"])
        except (KeyError, ValueError):
            x = y = math.nan
        if not (math.isfinite(x) and math.isfinite(y)):
            raise HTTPException(400, "found no place; wanted ?x=...&y=... in numbers")
        return JSONResponse({"found": place(self._scene(request), x, y)})

    def _scene(self, request: Request) -> ViewedScene:
        number = request.path_params["scene"]
        if number >= len(self._viewed.scenes):
            raise HTTPException(404, f"found no scene {number}; wanted one below {len(self._viewed.scenes)}")
        return self._opened(number)

    def _layer(self, request: Request) -> tuple[ViewedScene, Layer]:
        scene, number = self._scene(request), request.path_params["layer"]
        if number >= len(scene.layers):
            raise HTTPException(404, f"found no layer {number}; wanted one below {len(scene.layers)}")
        return scene, scene.layers[number]


async def _with_headers(request: Request, answer: Callable[[Request], Awaitable[Response]]) -> Response:
    response = await answer(request)
    response.headers.update(HEADERS)
    return response


def _refusal(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 (for the type checker: it is registered for these)
    return JSONResponse({"error": error.detail}, status_code=error.status_code, headers=error.headers)


def _unreadable(_: Request, error: Exception) -> Response:
    log.info("not shown: %s", error)
    return JSONResponse({"error": " ".join(str(error).split())}, status_code=422)


def _failure(_: Request, error: Exception) -> Response:
    words = f"found an unexpected {type(error).__name__} ({error}); this is a fault of Equipoise"
    return JSONResponse({"error": " ".join(words.split())}, status_code=500, headers=HEADERS)


def _picture(layer: Layer, values: NDArray[np.float32]) -> Response:
    return Response(png(layer.drawing(values)), media_type="image/png")


def _static(name: str) -> Response:
    if name not in STATIC:
        raise HTTPException(404, f"found no file '{name}'")
    content = files("equipoise.pipeline.viewer.static").joinpath(name).read_bytes()
    return Response(content, media_type=STATIC[name])


def _record(scene: ViewedScene) -> dict[str, Any]:
    """Return what the page is told of a scene."""
    return {
        "name": scene.files.name,
        "crs": scene.crs_name,
        "shape": scene.shape,
        "box": scene.box,
        "zoom": scene.zoom,
        "layers": [
            {
                "number": number, "key": layer.key, "title": layer.title, "role": layer.role, "note": layer.note,
                "legend": layer.drawing.legend(), "corners": _outline(scene, layer),
            }
            for number, layer in enumerate(scene.layers)
        ],
    }  # fmt: skip


def _outline(scene: ViewedScene, layer: Layer) -> list[tuple[float, float]]:
    """Return opposite corners of the box around a layer: its edges are curves on the map."""
    with layer.raster.opened() as source:
        if scene.box is None:
            return corners(scene, source.transform, (0, 0, *source.shape))
        west, south, east, north = transform_bounds(source.crs, "EPSG:4326", *source.bounds)
    return [(south, west), (north, east + 360 * (east < west))]
