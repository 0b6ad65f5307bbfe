"""Pages that the site makes from the code: nothing of the schema and of the command line is missing in them."""

import importlib
import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, get_args

import pytest
import typer
from pydantic import BaseModel

from equipoise.pipeline.cli import app
from equipoise.pipeline.config import Config

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def hooks() -> ModuleType:
    pytest.importorskip("mkdocs", reason="the site's own requirements are not installed")
    specification = importlib.util.spec_from_file_location("site_hooks", ROOT / "docs" / "site_hooks.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def _sections(page: str) -> dict[str, str]:
    """The text of each section by its heading."""
    return {heading: text for heading, _, text in (part.partition("\n") for part in page.split("\n## ")[1:])}


def _options(annotation: Any) -> Iterator[type[BaseModel]]:
    """Every options class inside a type, however deep: `dict[str, tuple[Options, ...] | None]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _options(inner)


def _reached(options: type[BaseModel]) -> Iterator[type[BaseModel]]:
    yield options
    for field in options.model_fields.values():
        for inner in _options(field.annotation):
            yield from _reached(inner)


def test_every_key_of_the_schema_is_on_the_page_with_its_description(hooks: ModuleType):
    sections = list(_sections(hooks.configuration_page()).values())
    reached = list(_reached(Config))
    assert len(sections) == len(reached) > 20
    for options in reached:
        rows = [hooks._cell(field.description) for field in options.model_fields.values()]
        assert any(
            all(f"| `{name}` |" in text and row in text for name, row in zip(options.model_fields, rows, strict=True))
            for text in sections
        ), f"found no section with all keys of {options.__name__}"


def test_a_key_is_told_with_type_default_bounds_and_choices(hooks: ModuleType):
    sections = _sections(hooks.configuration_page())
    assert "| `seed` | integer, at least 0 | `0` |" in sections["The file"]
    assert '| `method` | `structure`, `none` | `"structure"` |' in sections["`coregister`"]
    assert "| `max_shift_m` | number, more than 0 | `250.0` |" in sections["`coregister`"]
    assert "| `unit` | `reflectance`, " in sections["`modalities.<name>`"]
    assert "| required |" in sections["`scenes[]`"]


def _commands(command: Any, path: str) -> Iterator[tuple[str, Any]]:
    yield path, command
    for name, below in getattr(command, "commands", {}).items():
        yield from _commands(below, f"{path} {name}")


def test_every_command_is_on_the_page_with_every_option(hooks: ModuleType):
    sections = _sections(hooks.commands_page())
    commands = dict(_commands(typer.main.get_command(app), "equipoise"))
    assert set(sections) == {path for path, command in commands.items() if not command.hidden}
    assert "equipoise export onnx" in sections
    for path, text in sections.items():
        for parameter in commands[path].params:
            if not parameter.hidden:
                assert ", ".join(f"`{name}`" for name in parameter.opts) in text, f"{path} {parameter.name}"
                assert hooks._cell(parameter.help or "") in text, f"{path} {parameter.name}"


def test_a_default_and_a_bound_of_an_option_are_told(hooks: ModuleType):
    sections = _sections(hooks.commands_page())
    assert "| `--max-cloud` | number | `0.4` |" in sections["equipoise acquire"]
    assert "| `--threads` | integer, at least 1 | `1` |" in sections["equipoise batch"]


def test_a_cell_cannot_end_itself_and_holds_no_markup(hooks: ModuleType):
    assert hooks._cell("a|b <c>\n`<d>`") == "a\\|b &lt;c> `<d>`"


# A name that is gone would be left out of the built page without a word.
@pytest.mark.parametrize("page", sorted((ROOT / "docs" / "reference").glob("*.md")), ids=lambda page: page.stem)
def test_every_name_of_an_api_page_is_in_its_module(page: Path):
    listed = re.findall(r"^::: (\S+)\n    options:\n      members: \[(.+)\]$", page.read_text(encoding="utf-8"), re.M)
    assert len(listed) == page.read_text(encoding="utf-8").count(":::") > 0
    for place, names in listed:
        module = importlib.import_module(place)
        for name in names.split(", "):
            assert getattr(module, name).__module__ == place, f"{place}.{name}"
            assert getattr(module, name).__doc__, f"{place}.{name}"
