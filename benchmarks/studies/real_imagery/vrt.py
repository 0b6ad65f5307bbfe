"""Virtual rasters: bands of several files on the grid of the first one."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from xml.sax.saxutils import escape

import rasterio
from rasterio.errors import NotGeoreferencedWarning

#: GDAL's names of the types that the samples have.
TYPES = {"uint8": "Byte", "uint16": "UInt16"}


def stack_bands(layers: Sequence[tuple[Path, int]], path: Path) -> None:
    """Write a VRT with one band for each (file, band number); coarser ones are brought to the first one's grid."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)  # chips have no position
        with rasterio.open(layers[0][0]) as first:
            width, height, crs, transform = first.width, first.height, first.crs, first.transform
        rows = "".join(_band(number, *layer, width, height) for number, layer in enumerate(layers, start=1))
    place = ""
    if crs is not None:
        numbers = ", ".join(map(str, transform.to_gdal()))
        place = f"<SRS>{escape(crs.to_wkt())}</SRS><GeoTransform>{numbers}</GeoTransform>"
    text = f'<VRTDataset rasterXSize="{width}" rasterYSize="{height}">{place}{rows}</VRTDataset>'
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def _band(number: int, path: Path, band: int, width: int, height: int) -> str:
    with rasterio.open(path) as source:
        own, kind = (source.width, source.height), TYPES[source.dtypes[0]]
    return (
        f'<VRTRasterBand dataType="{kind}" band="{number}"><SimpleSource resampling="bilinear">'
        f"<SourceFilename>{escape(str(path))}</SourceFilename><SourceBand>{band}</SourceBand>"
        f'<SrcRect xOff="0" yOff="0" xSize="{own[0]}" ySize="{own[1]}"/>'
        f'<DstRect xOff="0" yOff="0" xSize="{width}" ySize="{height}"/></SimpleSource></VRTRasterBand>'
    )
