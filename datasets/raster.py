"""Rasters on disk: tiled GeoTIFFs written under a temporary name, turned into COGs, then renamed."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import rasterio
from odc.geo.geobox import GeoBox
from rasterio.errors import NotGeoreferencedWarning
from rasterio.io import DatasetWriter
from rasterio.shutil import copy as copy_raster
from rasterio.shutil import delete as delete_raster

#: Edge in pixels of the internal tiles of every GeoTIFF that is written.
TILE = 256

#: Of compression. Measured on float32 confidence: level 6 takes half as long again for a file that is 1 % smaller;
#: a map of classes, which is small beside it, would be a quarter smaller.
LEVEL = 1


@contextmanager
def cog_writer(
    path: Path,
    geobox: GeoBox,
    *,
    count: int,
    dtype: str,
    nodata: float | None,
    overview_resampling: str,
    descriptions: Sequence[str] = (),
    tags: Mapping[str, str] | None = None,
    colours: Mapping[int, tuple[int, int, int]] | None = None,
) -> Iterator[DatasetWriter]:
    """Write a Cloud Optimized GeoTIFF block by block in bounded memory.

    Blocks go to a tiled GeoTIFF beside ``path``, which is not compressed; on a clean exit it becomes a COG with
    overviews and is renamed to ``path``. On an error nothing is left. (The COG driver alone buffers the whole raster:
    626 MB against 135 MB for 20000 x 20000 uint8.)

    Parameters
    ----------
    path, geobox
        Target and its grid; ``geobox.crs`` may be None for chips without a position.
    count, dtype, nodata
        Bands, data type name, nodata value.
    overview_resampling
        ``mode`` for classes, ``average`` for continuous values.
    descriptions, tags
        One band description a band; dataset tags.
    colours
        Palette: value -> (red, green, blue), 0-255.

    Yields
    ------
    The open writer of the temporary tiled GeoTIFF.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    tiled, cog = path.with_name(f".{path.name}.tiled.tif"), path.with_name(f".{path.name}.cog.tif")
    predictor = "no" if dtype == "uint8" else "yes"
    profile = {
        "driver": "GTiff", "height": geobox.shape[0], "width": geobox.shape[1], "count": count, "dtype": dtype,
        "crs": None if geobox.crs is None else geobox.crs.to_wkt(), "transform": geobox.affine, "nodata": nodata,
        "tiled": True, "blockxsize": TILE, "blockysize": TILE, "interleave": "band", "BIGTIFF": "IF_SAFER",
    }  # fmt: skip
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)  # chips have no position, by declaration
            with rasterio.open(tiled, "w", **profile) as writer:
                for number, text in enumerate(descriptions, start=1):
                    writer.set_band_description(number, text)
                if colours:
                    writer.write_colormap(1, {value: (*rgb, 255) for value, rgb in colours.items()})
                writer.update_tags(**(tags or {}))
                yield writer
            copy_raster(
                tiled, cog, driver="COG", compress="deflate", level=LEVEL, predictor=predictor, blocksize=TILE,
                overview_resampling=overview_resampling, num_threads="ALL_CPUS", bigtiff="IF_SAFER",
            )  # fmt: skip
        cog.replace(path)
    finally:
        for leftover in (tiled, cog):
            if leftover.exists():
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", NotGeoreferencedWarning)
                    delete_raster(leftover)
