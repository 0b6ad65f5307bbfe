"""A run whose scenes have no position, as those of airborne or simulated imagery that came without one."""

import json
import shutil
import warnings
from pathlib import Path

import rasterio
from affine import Affine
from rasterio.errors import NotGeoreferencedWarning


def write_placeless(run: Path, root: Path, *, pixel: float = 10.0) -> Path:
    """Copy aligned rasters and maps of a run to ``root``, without CRS, in pixels of the scene; return ``root``.

    Parameters
    ----------
    run, root
        Folder of a run whose scenes have square pixels of ``pixel`` m, and one that is not there yet.
    """
    for name in ("aligned", "predictions"):
        shutil.copytree(run / name, root / name)
    for path in root.rglob("*.tif"):
        # That the transform of one pixel to one is no position is what is wanted here.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with rasterio.open(path, "r+", IGNORE_COG_LAYOUT_BREAK="YES") as target:
                scale = target.transform.a / pixel
                target.crs, target.transform = rasterio.CRS(), Affine.scale(scale)
    for path in root.rglob("stack.json"):
        record = json.loads(path.read_text()) | {"crs": None, "transform": [1, 0, 0, 0, 1, 0]}
        path.write_text(json.dumps(record))
    return root
