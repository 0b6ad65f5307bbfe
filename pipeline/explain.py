"""Explain: which reader tells what a file or folder is."""

from collections.abc import Callable
from pathlib import Path

from .errors import PipelineError
from .explanation import Explanation


def explain(path: Path) -> Explanation:
    """Return what a file or folder is, from what it contains.

    Raises
    ------
    PipelineError
        If it is not there, or holds nothing that can be told.
    SceneError
        If it is a raster that does not open.
    """
    if not path.exists():
        raise PipelineError(f"{path}: found no file; wanted an output of Equipoise, a raster or a folder; correct it")
    return _reader(path)(path)


def _reader(path: Path) -> Callable[[Path], Explanation]:
    # Only what is needed: rasters take half a second to import, and a file of figures needs none of that.
    if path.is_dir():
        from .explanation_folder import folder

        return folder
    if path.suffix.lower() == ".json":
        from .explanation_record import record

        return record
    if path.suffix.lower() == ".html":
        return _page
    if path.suffix.lower() in (".parquet", ".gpkg"):
        from .explanation_table import table

        return table
    from .explanation_raster import raster

    return raster


def _page(path: Path) -> Explanation:
    return Explanation(
        path=path, kind="page", what="A page for people, with its pictures inside.", read=("open it in a browser",)
    )
