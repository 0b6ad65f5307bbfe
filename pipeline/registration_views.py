"""Registration views: reference and moving image, before and after, of the whole scene and of a detail at full size."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rasterio.errors import RasterioError
from scipy.ndimage import gaussian_filter

from ..datasets.errors import SceneError
from .detail_place import detail_place
from .figures import UNKNOWN, display
from .full_size import moved_back, read_image, read_reference
from .registration_folder import SavedScene


@dataclass(frozen=True, kw_only=True, eq=False)
class Views:
    """One part of a scene, ready to be drawn.

    Attributes
    ----------
    reference, before, after
        float32 (y, x, 3), 0 to 1: the reference, and the moving image at its file's own position and corrected.
    pixel
        Edge of the pixels, m.
    negative
        Whether the moving image's greys are turned round.
    """

    reference: NDArray[np.float32]
    before: NDArray[np.float32]
    after: NDArray[np.float32]
    pixel: float
    negative: bool


def rgb_of(bands: Sequence[str]) -> tuple[int, int, int] | None:
    """Positions of the bands that make a natural or at least a coloured picture; None for fewer than three."""
    names = [band.lower() for band in bands]
    if {"red", "green", "blue"} <= set(names):
        return names.index("red"), names.index("green"), names.index("blue")
    return (0, 1, 2) if len(names) >= 3 else None


def overview(scene: SavedScene, name: str) -> Views:
    """Return the whole scene, as small as its pictures were saved."""
    reference = scene.picture(scene.reference, "after")
    return _comparable(
        reference, scene.picture(name, "before"), scene.picture(name, "after"), bands=scene.bands,
        pixel=scene.pixel * scene.shape[1] / reference.shape[2],
    )  # fmt: skip


def detail(scene: SavedScene, name: str) -> Views | None:
    """Return the part of full size in which both images have strong edges; None where rasters are missing.

    The view before is the aligned raster, moved back by the correction that was applied to it, so that the source
    is not needed.
    """
    rows, cols = detail_place(scene, name)
    try:
        reference = read_reference(scene, rows, cols)
        after = read_image(scene.folder / f"{name}.tif", rows, cols)
        before = moved_back(scene, name, rows, cols)
    except (RasterioError, OSError, SceneError):
        return None
    return _comparable(reference, before, after, bands=scene.bands, pixel=scene.pixel)


def _comparable(
    reference: NDArray[np.float32],
    before: NDArray[np.float32],
    after: NDArray[np.float32],
    *,
    bands: Sequence[str],
    pixel: float,
) -> Views:
    """Stretch images (band, y, x) in network units so that eyes follow lines from one to the other."""
    shown = display(reference, rgb=rgb_of(bands))
    own = display(before), display(after)
    negative = _opposed(shown, own[1])
    toned = [_toned(image, float(np.median(shown)), negative) for image in own]
    return Views(reference=shown, before=toned[0], after=toned[1], pixel=pixel, negative=negative)


def _opposed(reference: NDArray[np.float32], moving: NDArray[np.float32]) -> bool:
    """Whether lines that are bright in one image are dark in the other, as roads in optics and radar."""
    lines = []
    for image in (reference, moving):
        grey = image.mean(axis=2)
        band = gaussian_filter(grey, 1.0) - gaussian_filter(grey, 4.0)
        lines.append(np.clip(band, *np.percentile(band, [5, 95])))  # a cloud has the strongest edges, and is no line
    return float(np.multiply(*lines).sum()) < 0


def _toned(image: NDArray[np.float32], middle: float, negative: bool) -> NDArray[np.float32]:
    """Bring an image's middle grey to that of the reference: tiles, or flashes, would be seen before lines are."""
    unknown = image == np.float32(UNKNOWN)
    greys = 1 - image if negative else image
    own = float(np.median(greys[~unknown])) if not unknown.all() else middle
    power = np.log(np.clip(middle, 0.05, 0.95)) / np.log(np.clip(own, 0.05, 0.95))
    return np.where(unknown, image, greys ** np.clip(power, 0.3, 3)).astype(np.float32)
