"""The synthetic scene as a catalog: STAC items on disk, as an archive has them, for runs that begin with a search."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from odc.geo.geobox import GeoBox
from shapely.geometry import box, mapping

from .clouds import CLEAR, SHADOW, THICK, THIN
from .sensing import write_raster
from .synthetic import SyntheticScene

#: Values of Sentinel-2's scene classification: no data, shadow, vegetation, cloud, thin cirrus.
_SCENE_CLASSES: Mapping[int, int] = {255: 0, SHADOW: 3, CLEAR: 4, THICK: 9, THIN: 10}


def write_catalog(scene: SyntheticScene, *, day: str = "2024-07-10") -> Path:
    """Write a static STAC catalog of a scene's optical and radar file beside them.

    The items are of the collections ``sentinel-2-l2a`` and ``sentinel-1-rtc``, a few hours apart, with the bands of the
    archives (``blue``, ``green``, ``red``, ``nir``, ``scl``; ``vv``, ``vh``): what is looked for by default. They are
    invented, as the scene is, and say so.

    Parameters
    ----------
    scene
        As :func:`~equipoise.datasets.synthetic.write_scene` wrote it.
    day
        Of both acquisitions, ``YYYY-MM-DD``.

    Returns
    -------
    The scene's folder, which is the catalog.
    """
    with rasterio.open(scene.clouds) as source:
        clouds, grid = source.read(), GeoBox(source.shape, source.transform, source.crs)
    classes = np.zeros(256, dtype=np.uint8)
    classes[list(_SCENE_CLASSES)] = list(_SCENE_CLASSES.values())
    scl = write_raster(scene.folder / "scl.tif", classes[clouds], box=grid, names=("scl",), nodata=0)
    hidden = np.isin(clouds, (THICK, THIN, SHADOW)).mean()
    numbers = {"raster:scale": 1e-4, "raster:offset": 0.0}
    optical = {
        "image": _asset(scene.paths["eo"], "blue", "green", "red", "nir", **numbers), "scl": _asset(scl, "scl")
    }  # fmt: skip
    radar = {"image": _asset(scene.paths["sar"], "vv", "vh")}
    items = {
        "sentinel-2-l2a": _item("optical", scene, f"{day}T10:00:00Z", optical, **{"eo:cloud_cover": 100 * hidden}),
        "sentinel-1-rtc": _item("radar", scene, f"{day}T05:30:00Z", radar),
    }
    for collection, item in items.items():
        link = {"rel": "item", "href": f"./{item['id']}.json"}
        _write(scene.folder, item["id"], {**item, "collection": collection})
        extent = {"spatial": {"bbox": [item["bbox"]]}, "temporal": {"interval": [[item["properties"]["datetime"]] * 2]}}
        about = {"type": "Collection", "id": collection, "license": "Apache-2.0", "extent": extent, "links": [link]}
        _write(scene.folder, collection, about)
    links = [{"rel": "child", "href": f"./{collection}.json"} for collection in items]
    _write(scene.folder, "catalog", {"type": "Catalog", "id": "invented", "links": links})
    return scene.folder


def _item(
    name: str, scene: SyntheticScene, moment: str, assets: Mapping[str, Any], **properties: object
) -> dict[str, Any]:
    with rasterio.open(scene.paths["eo"]) as source:
        grid = GeoBox(source.shape, source.transform, source.crs)
    outline = box(*grid.extent.to_crs("EPSG:4326").boundingbox)
    return {
        "type": "Feature", "id": name, "geometry": mapping(outline), "bbox": list(outline.bounds), "links": [],
        "properties": {"datetime": moment, "platform": "invented", **properties}, "assets": dict(assets),
    }  # fmt: skip


def _asset(path: Path, *bands: str, **numbers: float) -> dict[str, Any]:
    return {
        "href": f"./{path.name}", "type": "image/tiff; application=geotiff", "roles": ["data"],
        "bands": [{"name": band, **numbers} for band in bands],
    }  # fmt: skip


def _write(folder: Path, name: str, record: Mapping[str, Any]) -> None:
    text = json.dumps({"stac_version": "1.1.0", "description": "invented: no place on Earth", **record}, indent=2)
    (folder / f"{name}.json").write_text(text, encoding="utf-8")
