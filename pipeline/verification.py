"""Verification: products compared with the checksums that they carry, before a pixel of them is used."""

from collections.abc import Iterable
from pathlib import Path

from ..datasets.integrity import checksums_of
from .progress import gauge


def verify_checksums(paths: Iterable[Path]) -> dict[Path, str]:
    """Compare products with their own checksums, each once; shows progress.

    Plain rasters, Landsat folders and tars carry none and are passed over: `equipoise validate` decodes them.

    Returns
    -------
    Path -> phrase that tells what was compared, for those that carry checksums.

    Raises
    ------
    SceneError
        Naming the first file that is damaged or missing.
    """
    found = {path: carried for path in dict.fromkeys(paths) if (carried := checksums_of(path)) is not None}
    if not found:
        return {}
    with gauge("verify", total=sum(carried.size for carried in found.values())) as report:
        return {path: carried.compare(report=report) for path, carried in found.items()}
