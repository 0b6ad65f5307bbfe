"""Encoders of tables: numbers that hold for a whole scene are not read as images are."""

from typing import Any

from ..models.values import ValuesEncoder
from .stage_options import TrainOptions


def with_table_encoders(record: dict[str, Any]) -> dict[str, Any]:
    """Give every modality that is a table the encoder of values, unless `train.encoder` names another.

    Parameters
    ----------
    record
        A configuration as plain values; not changed. Early fusion, whose one encoder reads all bands, stays as it is.
    """
    modalities, train = record.get("modalities"), record.get("train") or {}
    if not isinstance(modalities, dict) or not isinstance(train, dict) or train.get("network") == "early":
        return record
    tables = [name for name, item in modalities.items() if isinstance(item, dict) and item.get("table") is not None]
    named = train.get("encoder", TrainOptions.model_fields["encoder"].default)
    if not tables or not isinstance(named, str | dict):
        return record
    whole = {name: named for name in modalities if name not in tables} if isinstance(named, str) else named
    return {**record, "train": {**train, "encoder": dict.fromkeys(tables, ValuesEncoder.name) | whole}}
