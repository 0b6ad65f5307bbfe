"""What STAC says of a file: its kind, its size and checksum; of a raster also its grid, its bands and its classes."""

import hashlib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rasterio.io import DatasetReader

COG = "image/tiff; application=geotiff; profile=cloud-optimized"

#: Type of an item, wherever a link names one.
GEOJSON = "application/geo+json"

#: Ending of a file that Equipoise writes -> its type. A VRT is XML; it has no type of its own.
MEDIA_TYPES: Mapping[str, str] = {
    ".tif": COG, ".vrt": "application/xml", ".parquet": "application/vnd.apache.parquet",
    ".gpkg": "application/geopackage+sqlite3", ".html": "text/html", ".json": "application/json",
    ".md": "text/markdown", ".safetensors": "application/octet-stream",
}  # fmt: skip

#: Prefix of a field -> schema of the extension that it belongs to.
EXTENSION_OF: Mapping[str, str] = {
    prefix: f"https://stac-extensions.github.io/{name}/schema.json"
    for prefix, name in (
        ("proj", "projection/v2.0.0"), ("raster", "raster/v2.0.0"), ("classification", "classification/v2.0.0"),
        ("file", "file/v2.1.0"), ("processing", "processing/v1.2.0"), ("mlm", "mlm/v1.4.0"),
    )
}  # fmt: skip


def file_fields(path: Path) -> dict[str, Any]:
    """Return size and SHA-256 of a file, as the file extension writes them: code and length before the hash."""
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return {"file:size": path.stat().st_size, "file:checksum": f"1220{digest}"}


def raster_fields(source: DatasetReader) -> dict[str, Any]:
    """Return bands, grid and pixel size of a raster that is open."""
    bands: list[dict[str, Any]] = []
    for name, scale, nodata, kind in zip(
        source.descriptions, source.scales, source.nodatavals, source.dtypes, strict=True
    ):
        band: dict[str, Any] = ({"name": name} if name else {}) | {"data_type": kind}
        if nodata is not None:
            band["nodata"] = "nan" if nodata != nodata else int(nodata) if float(nodata).is_integer() else nodata
        bands.append(band | ({"raster:scale": scale, "raster:offset": 0} if scale != 1 else {}))
    return {
        "bands": bands, "proj:shape": list(source.shape), "proj:transform": list(source.transform)[:6],
        "raster:spatial_resolution": abs(source.transform.a),
    }  # fmt: skip


def class_fields(classes: Mapping[int, tuple[str, tuple[int, int, int]]]) -> list[dict[str, Any]]:
    """Return the classes of a map, value -> (name, (red, green, blue)), as the classification extension writes them."""
    return [
        {"value": value, "name": slug(name), "title": name, "color_hint": "".join(f"{x:02X}" for x in colour)}
        for value, (name, colour) in classes.items()
    ]


def slug(name: str) -> str:
    """Return the name of a class in the letters that the classification extension allows."""
    return re.sub(r"[^0-9A-Za-z_-]+", "_", name).strip("_") or "class"


def relative_href(path: Path, folder: Path) -> str:
    """Return the way from a folder to a file as both lie on the disk: no ``..`` leads through a symbolic link."""
    return Path(os.path.relpath(path.resolve(), folder.resolve())).as_posix()
