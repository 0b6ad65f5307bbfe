"""Templates: configurations to start from, one YAML file each."""

from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from ..config import Config


def template_record(name: str) -> dict[str, Any]:
    """Return a template's plain values; file names in it are relative."""
    text = files(__package__).joinpath(f"{name}.yaml").read_text(encoding="utf-8")
    record: dict[str, Any] = yaml.safe_load(text)
    return record


def template_config(name: str) -> Config:
    """Return a template as a configuration whose paths are as written."""
    return Config.model_validate(template_record(name))


def write_record(record: dict[str, Any], path: Path) -> None:
    """Write plain values as YAML."""
    path.write_text(yaml.safe_dump(record, sort_keys=False, allow_unicode=True), encoding="utf-8")
