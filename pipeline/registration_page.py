"""Registration page: one self-contained HTML page, and pictures, of how the images of a scene were brought together."""

import base64
import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import __version__
from ..datasets.lattice import at_places
from ..datasets.scene import Scene
from .errors import RunFolderError
from .evaluation_page import embed
from .page import rendered
from .registration_figures import confidence_maps, residual_histogram, residual_vectors
from .registration_folder import SavedScene
from .registration_pictures import checkerboards, flicker, side_by_side, slim
from .registration_views import Views, detail, overview
from .registration_words import figures_of, refusal, summary_cells
from .run_folder import write_text

log = logging.getLogger(__name__)

#: The page's file.
PAGE = "registration.html"


def write_registration_page(
    folder: Path, *, title: str | None = None, record: Path | None = None, reference: Scene | None = None
) -> Path:
    """Write the page of a scene, and its pictures as files, into the scene's folder.

    Parameters
    ----------
    folder
        As co-registration wrote it; nothing but what is saved there is used.
    title
        Of the page; None takes the folder's name.
    record
        File of the numbers, where it does not have its final name yet.
    reference
        The reference, opened, where its raster is not in the folder since it lies on the grid as it is.

    Returns
    -------
    The HTML file; it holds its pictures and needs no other file and no network.

    Raises
    ------
    RunFolderError
        If something in the folder is missing or damaged.
    """
    scene = SavedScene.load(folder, record=record, reference=reference)
    page = rendered(
        "registration.html",
        title=title or folder.resolve().name, version=__version__, reference=scene.reference,
        size=f"{scene.shape[1]} x {scene.shape[0]} px of {scene.pixel:g} m", crs=scene.crs,
        summary={name: summary_cells(asdict(item)) for name, item in scene.registrations.items()},
        parts=[_part(scene, name) for name in scene.registrations if name != scene.reference],
    )  # fmt: skip
    write_text(folder / PAGE, page)
    return folder / PAGE


def report_pictures(folder: Path) -> list[tuple[str, str, str]]:
    """Return name, checkerboard and residual vectors of every measured modality, as addresses that hold them.

    Parameters
    ----------
    folder
        Of a scene; one of an older version, which says less, gives none.
    """
    try:
        scene = SavedScene.load(folder)
    except RunFolderError as error:
        log.warning("no pictures of the registration: %s", error)
        return []
    return [(name, embed(_woven(scene, name)), embed(_vectors(scene, name))) for name in scene.blocks]


def _part(scene: SavedScene, name: str) -> dict[str, Any]:
    """Return what the page shows of one image, and write its pictures."""
    item = scene.registrations[name]
    part: dict[str, Any] = {"name": name, "kind": item.kind, "note": item.note, "figures": [], "pictures": {}}
    names = (scene.reference, name)
    if name in scene.blocks:
        part["figures"] = figures_of(asdict(item))
        close = detail(scene, name)
        pictures = {
            "residuals.png": _vectors(scene, name),
            "histogram.png": residual_histogram(scene.blocks[name], circle=item.radius90),
            "checkerboard.png": checkerboards(overview(scene, name), names=names, words="whole scene"),
            "confidence.png": _confidence(scene, name),
        }
        if close is not None:
            pictures["detail.png"] = _close(close, names)
            pictures["flicker.gif"] = flicker(close, names=names)
    else:
        part |= {"refusal": refusal(item.note)}
        pictures = {"pictures.png": side_by_side(overview(scene, name), names=names)}
    for kind, picture in pictures.items():
        _write(scene.folder / f"{name}.{kind}", picture)
        part["pictures"][kind.split(".")[0]] = _address(picture, kind)
    return part


def _vectors(scene: SavedScene, name: str) -> bytes:
    ground = overview(scene, name).reference
    return slim(residual_vectors(scene.blocks[name], affine=scene.affine, shape=scene.shape, ground=ground))


def _woven(scene: SavedScene, name: str) -> bytes:
    """Draw the detail, in which a shift of a few pixels is seen; the whole scene where there is no raster."""
    close, names = detail(scene, name), (scene.reference, name)
    if close is None:
        return checkerboards(overview(scene, name), names=names, words="whole scene")
    return _close(close, names)


def _close(views: Views, names: tuple[str, str]) -> bytes:
    return checkerboards(views, names=names, words="a detail at full size")


def _confidence(scene: SavedScene, name: str) -> bytes:
    layer, blocks = scene.layers[name], scene.blocks[name]
    shape = scene.picture(scene.reference, "after").shape[1:]
    confidence, radius = at_places(layer.grid, (layer.confidence, layer.radius90), *scene.places(shape))
    cols, rows = scene.on_grid(blocks.x, blocks.y)
    zoom = np.array([shape[1] / scene.shape[1], shape[0] / scene.shape[0]])
    places: NDArray[np.float64] = np.stack([cols, rows], axis=1) * zoom - 0.5
    return slim(confidence_maps(confidence, radius, places=places), colours=256)


def _address(picture: bytes, kind: str) -> str:
    if kind.endswith(".png"):
        return embed(picture)
    return "data:image/gif;base64," + base64.b64encode(picture).decode("ascii")


def _write(path: Path, content: bytes) -> None:
    """Write a file under a temporary name and rename it."""
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_bytes(content)
    temporary.replace(path)
