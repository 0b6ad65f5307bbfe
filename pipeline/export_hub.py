"""A model folder as model hubs hold it: the same files, a README whose front matter machines read, and config.json."""

import json
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from ..models.checkpoint import ModelCard, load_model
from ..models.model_card import card_markdown
from .errors import PipelineError
from .export_format import description
from .model_folder import load_predictor

#: Copied byte for byte, so that the hash of the model stays.
_COPIED = ("model.safetensors", "model.json")

#: Task -> what hubs call it.
_PIPELINES = {"segmentation": "image-segmentation", "classification": "image-classification"}

#: Licence of a model whose training data nobody named.
_UNKNOWN = "unknown"

_USE = """## Use

```python
from pathlib import Path

from equipoise.pipeline.model_folder import load_predictor

predictor = load_predictor(Path("."), device="cpu")  # of this folder
```

or `equipoise predict`, `equipoise batch --model FOLDER`, `equipoise export onnx FOLDER`.
"""


def export_hub(folder: Path, output: Path, *, name: str | None = None, licence: str | None = None) -> list[Path]:
    """Write a model folder in the layout of Hugging Face's hub; files only, nothing is sent anywhere.

    Parameters
    ----------
    folder
        As written by :func:`~equipoise.pipeline.train.train`.
    output
        New folder, which :func:`~equipoise.pipeline.model_folder.load_predictor` reads as it does ``folder``.
    name
        Of the model; None: that of the run that trained it.
    licence
        Identifier of the hub's list (``apache-2.0``, ``cc-by-4.0``); None: ``unknown``.

    Returns
    -------
    The files.

    Raises
    ------
    PipelineError
        If ``output`` holds anything.
    CheckpointError
        If the model is missing or damaged.
    """
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise PipelineError(f"{output}: found something there; wanted a new or empty folder; choose another -o")
    card = load_model(folder)[1]
    record = description(load_predictor(folder, device="cpu"))
    title = name or str(card.training.get("run", folder.name))
    text = yaml.safe_dump(front_matter(card, name=title, licence=licence), sort_keys=False, allow_unicode=True)
    page = card_markdown(card.to_dict()).replace("# Equipoise model", f"# {title}", 1)
    output.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=output.parent, prefix=f".{output.name}.") as temporary:
        place = Path(temporary) / "folder"
        place.mkdir()
        for part in _COPIED:
            shutil.copyfile(folder / part, place / part)
        config = {"library_name": "equipoise", "model_type": "equipoise", "network": card.network, **record}
        (place / "config.json").write_text(json.dumps(config, indent=2, allow_nan=False) + "\n", encoding="utf-8")
        (place / "README.md").write_text(f"---\n{text}---\n\n{page}\n{_USE}", encoding="utf-8")
        # Over an empty folder, too; it appears complete or not at all.
        place.replace(output)
    return sorted(output.iterdir())


def front_matter(card: ModelCard, *, name: str, licence: str | None) -> dict[str, Any]:
    """Return what a hub reads of a model, in the order in which it is written."""
    modalities = [str(item["name"]) for item in card.modalities]
    task = _PIPELINES[card.spec.task]
    numbers = {key: value for key, value in card.metrics.items() if isinstance(value, float) and key != "temperature"}
    metrics = [{"type": key, "value": value, "name": key.replace("_", " ")} for key, value in numbers.items()]
    found: dict[str, Any] = {
        "library_name": "equipoise",
        "license": licence or _UNKNOWN,
        "pipeline_tag": task,
        "tags": ["remote-sensing", "earth-observation", "sensor-fusion", "missing-modality", *modalities],
    }
    if metrics:
        found["metrics"] = list(numbers)
        dataset = {"type": name, "name": name, "split": "validation"}
        found["model-index"] = [{
            "name": name,
            "results": [{"task": {"type": task}, "dataset": dataset, "metrics": metrics}],
        }]  # fmt: skip
    return found
