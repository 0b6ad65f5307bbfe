"""The readable side of a model folder: a short Markdown page for people."""

from collections.abc import Mapping
from typing import Any

_KINDS = {
    "fusion": "that fuses", "early": "(early fusion) over the stacked bands of",
    "late": "(late fusion) that joins the answers of", "i2m2": "(I2M2) that joins the answers to and between",
}  # fmt: skip


def card_markdown(card: Mapping[str, Any]) -> str:
    """Describe a model in Markdown.

    Parameters
    ----------
    card
        :meth:`ModelCard.to_dict <equipoise.models.checkpoint.ModelCard.to_dict>`.

    Returns
    -------
    str
        A page with inputs, classes, training and metrics.
    """
    network = card["network"]
    inputs = [
        [modality["name"], str(bands), str(modality.get("units", ""))]
        for modality, bands in zip(card["modalities"], network["in_channels"], strict=True)
    ]
    classes = [
        [str(entry.get("value", "")), str(entry.get("name", "")), f"{prior:.4f}"]
        for entry, prior in zip(card["classes"], card["class_prior"], strict=True)
    ]
    kind = _KINDS[network.get("kind", "fusion")]
    parts = [
        "# Equipoise model",
        f"A {network['task']} network {kind} {len(inputs)} modalities, any of which may be missing. "
        f"Encoder `{network['encoder']}`, depth {network['depth']}, fusion `{network['fusion']}`.",
        "`model.safetensors` holds the weights and `model.json` everything else that a prediction needs; "
        "load both with `equipoise.models.checkpoint.load_model`.",
        "## Inputs",
        _table(["modality", "bands", "units"], inputs),
        "## Classes",
        _table(["value", "name", "share in training"], classes),
    ]
    for title in ("training", "metrics"):
        rows = [
            [key, _figure(value)] for key, value in card[title].items() if not isinstance(value, dict | list | tuple)
        ]
        if rows:
            parts += [f"## {title.capitalize()}", _table(["item", "value"], rows)]
    return "\n\n".join(parts) + "\n"


def _table(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _figure(value: object) -> str:
    return f"{value:.4f}" if isinstance(value, float) else str(value)
