"""A model as STAC tells of it (MLM extension): fields and asset of an item, and an item of its own."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from .run_folder import write_text
from .stac_asset import EXTENSION_OF, MEDIA_TYPES, file_fields, relative_href, slug
from .stac_check import check_written


@dataclass(frozen=True, kw_only=True)
class ModelSource:
    """The model that maps were made with, as its own folder says.

    Attributes
    ----------
    folder
        Holds weights and card.
    digest
        Hash of its files.
    network
        The network's description, plain values.
    modalities
        Name -> names of its bands.
    classes
        Value -> name, in the order of the network's outputs.
    parameters
        Number of its weights.
    """

    folder: Path
    digest: str
    network: Mapping[str, Any]
    modalities: Mapping[str, Sequence[str]]
    classes: Mapping[int, str]
    parameters: int


def model_name(digest: str) -> str:
    """Return the name of a model in items: ``mlm:name``, and the identifier of its own item."""
    return f"equipoise-{digest}"


def model_fields(model: ModelSource) -> dict[str, Any]:
    """Return the properties by which an item describes a model."""
    import torch

    network, dims = model.network, ["batch", "bands", "height", "width"]
    return {
        "mlm:name": model_name(model.digest),
        "mlm:architecture": f"{network['kind']} network, encoder {network['encoder']}, depth {network['depth']}, "
        f"fusion {network['fusion']}",
        "mlm:tasks": ["semantic-segmentation"], "mlm:framework": "PyTorch", "mlm:framework_version": torch.__version__,
        "mlm:total_parameters": model.parameters,
        "mlm:input": [
            {"name": name, "bands": list(names), "input": {
                "shape": [-1, len(names), -1, -1], "dim_order": dims, "data_type": "float32"}}
            for name, names in model.modalities.items()
        ],
        "mlm:output": [
            {"name": "classes", "tasks": ["semantic-segmentation"], "result": {
                "shape": [-1, len(model.classes), -1, -1], "dim_order": dims, "data_type": "float32"},
             "classification:classes": [
                 {"value": value, "name": slug(name), "title": name} for value, name in model.classes.items()]}
        ],
        # The extension asks for them here, and STAC allows them here where an asset has bands too.
        "bands": _bands(model),
    }  # fmt: skip


def model_asset(model: ModelSource, folder: Path) -> dict[str, Any]:
    """Return the asset of a model's weights, for an item in ``folder``."""
    weights = model.folder / "model.safetensors"
    return {
        "href": relative_href(weights, folder), "type": MEDIA_TYPES[weights.suffix], "title": "weights",
        "roles": ["mlm:model", "mlm:weights"], "mlm:artifact_type": "safetensors.torch.save", "bands": _bands(model),
        **file_fields(weights),
    }  # fmt: skip


def write_model_item(path: Path, model: ModelSource, *, collection: Path) -> Path:
    """Write the item of a model, to which the items of its maps point, and return its path.

    It has no outline: where a model holds is not known. Its time is that of the model's card.

    Parameters
    ----------
    path
        JSON file.
    model
        Its folder is linked, relative to the item's, and not copied.
    collection
        File of the collection that the item is kept with. It is not one of its items, which are maps.

    Raises
    ------
    PipelineError
        If what was written is not an item.
    """
    card, readme = model.folder / "model.json", model.folder / "README.md"
    assets = {"model": model_asset(model, path.parent)}
    for key, file, title in (("card", card, "bands, statistics, classes, metrics"), ("readme", readme, "model card")):
        if file.is_file():
            assets[key] = {"href": relative_href(file, path.parent), "type": MEDIA_TYPES[file.suffix], "title": title,
                           "roles": ["metadata"], **file_fields(file)}  # fmt: skip
    newest = (card if card.is_file() else model.folder / "model.safetensors").stat().st_mtime
    time = datetime.fromtimestamp(newest, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    record = {
        "type": "Feature", "stac_version": "1.1.0",
        "stac_extensions": [EXTENSION_OF[name] for name in ("mlm", "classification", "file")],
        "id": model_name(model.digest), "geometry": None,
        "properties": {"datetime": time, "title": "Model of the maps", **model_fields(model)},
        "links": [{"rel": "root", "href": relative_href(collection, path.parent), "type": "application/json"}],
        "assets": assets,
    }  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(record, indent=2))
    check_written(path, record)
    return path


def _bands(model: ModelSource) -> list[dict[str, str]]:
    """Return the bands of all inputs, each name once."""
    return [{"name": name} for name in dict.fromkeys(band for names in model.modalities.values() for band in names)]
