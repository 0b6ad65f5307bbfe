"""Raster kind: which stage wrote a raster, told by its bands and tags."""

from collections.abc import Mapping, Sequence
from enum import StrEnum


class RasterKind(StrEnum):
    """What a raster is; the words are those that users read."""

    CLASSES = "class map"
    CONFIDENCE = "confidence map"
    RELIANCE = "reliance map"
    CONTRIBUTION = "contribution map"
    TRUST = "trust map"
    QUALITY = "quality map"
    PROBABILITY = "probability map"
    ALIGNED = "aligned stack"
    LABELS = "label raster"
    REGISTRATION = "registration layer"


def raster_kind(tags: Mapping[str, str], names: Sequence[str], dtype: str) -> RasterKind | None:
    """Return what a raster is; None where no stage writes such.

    Parameters
    ----------
    tags
        Of the dataset.
    names
        Descriptions of the bands.
    dtype
        Of the first band.
    """
    if "metric" in tags:
        return RasterKind.CONTRIBUTION if "synergy" in names else RasterKind.RELIANCE
    if "equipoise" in tags and (kind := _map(tags, names, dtype)) is not None:
        return kind
    if "source_kind" in tags and "unit" in tags:
        return RasterKind.ALIGNED
    if list(names) == ["class"]:
        return RasterKind.LABELS
    if names and names[0] == "confidence" and len(names) > 1:
        return RasterKind.REGISTRATION
    return None


def category_tags(tags: Mapping[str, str]) -> dict[int, str]:
    """Return value -> name from tags ``class_<value>``, in the order of the values."""
    named = {name.removeprefix("class_"): text for name, text in tags.items() if name.startswith("class_")}
    return dict(sorted((int(key), text) for key, text in named.items() if key.isdecimal()))


def _map(tags: Mapping[str, str], names: Sequence[str], dtype: str) -> RasterKind | None:
    if list(names) == ["trust"]:
        return RasterKind.TRUST
    if list(names) == ["class"]:
        return RasterKind.CLASSES
    if list(names) == ["confidence"] and dtype == "float32":
        return RasterKind.CONFIDENCE
    if names and names[-1] == "prediction":
        return RasterKind.QUALITY
    if len(names) > 1 and any(name.startswith("class_") for name in tags):
        return RasterKind.PROBABILITY
    return None
