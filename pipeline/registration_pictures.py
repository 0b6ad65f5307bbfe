"""Registration pictures: reference and moving image woven or shown in turn, so that an eye sees how they fit."""

import io

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from .figures import bare, png
from .registration_views import Views
from .side_by_side import pair, scale_bar

#: Tiles along the shorter edge of a checkerboard.
TILES = 8

#: Milliseconds for which a picture of a flicker stays.
_STAY = 800

#: Greys of a flicker: more are not told apart, and make the file larger.
_GREYS = 32


def checkerboard(
    reference: NDArray[np.float32], moving: NDArray[np.float32], *, tiles: int = TILES
) -> NDArray[np.float32]:
    """Weave two images.

    Parameters
    ----------
    reference, moving
        float32 (y, x, 3), 0 to 1.
    tiles
        Along the shorter edge.

    Returns
    -------
    float32 (y, x, 3), the reference in the first tile.
    """
    edge = max(1, -(-min(reference.shape[:2]) // tiles))
    rows, cols = (np.arange(length) // edge for length in reference.shape[:2])
    first = ((rows[:, None] + cols[None]) % 2 == 0)[..., None]
    return np.where(first, reference, moving)


def checkerboards(views: Views, *, names: tuple[str, str], words: str) -> bytes:
    """Draw checkerboards before and after, side by side.

    Parameters
    ----------
    views
        One part of a scene.
    names
        Of the reference and of the moving image.
    words
        What part it is.
    """
    shape = views.reference.shape[:2]
    figure, panels = pair(shape)
    for axes, moment in zip(panels, ("before", "after"), strict=True):
        board = checkerboard(views.reference, getattr(views, moment))
        axes.imshow(board, interpolation="antialiased", extent=(0, shape[1], shape[0], 0))
        bare(axes, moment)
    text = f"tiles in turn: {names[0]} (the first, top left) and {names[1]}{' as a negative' if views.negative else ''}"
    scale_bar(panels[0], pixel=views.pixel, words=f"; {words}, {text}")
    return slim(png(figure))


def side_by_side(views: Views, *, names: tuple[str, str]) -> bytes:
    """Draw the reference beside the moving image at its own position, where there is nothing to compare.

    Parameters
    ----------
    views, names
        As in :func:`checkerboards`.
    """
    shape = views.reference.shape[:2]
    figure, panels = pair(shape)
    for axes, image, name in zip(panels, (views.reference, views.before), names, strict=True):
        axes.imshow(image, interpolation="antialiased", extent=(0, shape[1], shape[0], 0))
        bare(axes, name)
    scale_bar(panels[0], pixel=views.pixel)
    return slim(png(figure))


def flicker(views: Views, *, names: tuple[str, str]) -> bytes:
    """Return an animated GIF that shows reference and moving image in turn, before beside after.

    Parameters
    ----------
    views, names
        As in :func:`checkerboards`.
    """
    moving = f"{names[1]}, negative" if views.negative else names[1]
    frames = [
        _frame((views.reference, views.reference), f"now {names[0]}"),
        _frame((views.before, views.after), f"now {moving}"),
    ]
    buffer = io.BytesIO()
    frames[0].save(buffer, format="GIF", save_all=True, append_images=frames[1:], duration=_STAY, loop=0, optimize=True)
    return buffer.getvalue()


def slim(picture: bytes, *, colours: int = 160) -> bytes:
    """Return a PNG with a palette: imagery has noise in every bit, and takes a third of the bytes without."""
    buffer = io.BytesIO()
    with Image.open(io.BytesIO(picture)) as opened:
        # An octree keeps few pixels of a hue of their own, arrows, where median cuts give all to the greys.
        palette = opened.convert("RGB").quantize(colours, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
        palette.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def _frame(images: tuple[NDArray[np.float32], NDArray[np.float32]], words: str) -> Image.Image:
    """Draw one picture of a flicker, in grey: eyes follow edges better than changes of colour."""
    rows, cols = images[0].shape[:2]
    height, top = 4.8 * min(rows / cols, 2.0), 0.32
    figure = Figure(figsize=(9.7, height + top), dpi=100)
    canvas = FigureCanvasAgg(figure)
    grid = {"wspace": 0.1 / 4.8, "left": 0, "right": 1, "bottom": 0, "top": height / (height + top)}
    for axes, image, moment in zip(figure.subplots(1, 2, gridspec_kw=grid), images, ("before", "after"), strict=True):
        axes.imshow(image.mean(axis=2), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        bare(axes, f"{moment}: {words}")
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy()).convert("L").quantize(_GREYS)
