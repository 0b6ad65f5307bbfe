"""Pages of the site that are made from the code while it is built: every key of a configuration, every command.

They are never files of the checkout, so they cannot fall behind the code.
"""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

import typer
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from equipoise.pipeline.cli import app
from equipoise.pipeline.config import Config

ROOT = Path(__file__).parents[1]

Schema = Mapping[str, Any]

#: A row of a table, cell by cell.
Row = tuple[str, ...]

_KEYS = ("key", "type", "unit", "default", "meaning")
_PARAMETERS = ("argument or option", "type", "default", "meaning")

# The schema has no field for units: by the house's rule they stand in a key's name or in its words.
_UNIT_OF_KEY = {
    "bbox": "degrees, or the CRS's",
    "scale": "unit a DN",
    "offset": "unit",
    "nodata": "DN",
    "tolerance": "share",
}
_UNIT_OF_ENDING = {"_m": "m", "_deg": "degrees", "_nm": "nm", "_k": "K"}
_UNIT_IN_WORDS = (
    (re.compile(r"\bpx\b", re.IGNORECASE), "px"),
    (re.compile(r"\bmetres\b|, m,"), "m"),
    (re.compile(r"\breflectance\b", re.IGNORECASE), "reflectance"),
    (re.compile(r"\bshare\b|\bprobability\b|\b0 to 1\b", re.IGNORECASE), "share"),
)

_BOUNDS = (
    ("minimum", "at least {}"),
    ("exclusiveMinimum", "more than {}"),
    ("maximum", "at most {}"),
    ("exclusiveMaximum", "less than {}"),
    ("minItems", "at least {} item"),
    ("minProperties", "at least {} entry"),
    ("minLength", "at least {} character"),
    ("maxLength", "at most {} characters"),
    ("pattern", "matches `{}`"),
)

# The theme breaks code anywhere, so that a name would fall apart in a narrow column.
_STYLE = """<style>
.md-typeset td:not(:last-child) code { word-break: normal; overflow-wrap: normal; }
.md-typeset td:first-child code { white-space: nowrap; }
</style>
"""

_CONFIGURATION = """# Configuration

Every key of `config.yaml`, made from the schema that `equipoise validate` checks. `<name>` stands for a name that you
choose, `[]` for each item of a list. *Unit* is that of a number that has one: DN is a number as stored in a file,
*unit* the modality's. Unknown keys are refused. Limits that depend on several keys at once are checked, too, and are
said where a key describes itself.
`equipoise config --print` prints the same as a commented file; `equipoise init` writes one for a task.
"""

_COMMANDS = """# Commands

Every command with its arguments and options, made from the command line itself. `equipoise COMMAND --help` prints the
same. Exit codes: 0 when all went well, 130 after Ctrl-C, else not 0, with one line on standard error.
"""


def on_startup(**_: object) -> None:
    """Show the package under its own name to the API pages, without the rest of the checkout.

    Through the link that type checks use they would look through everything else below the root, too: 2 minutes.
    """
    package = ROOT / "build" / "api" / "equipoise"
    package.mkdir(parents=True, exist_ok=True)
    for name in ("__init__.py", "datasets", "models", "pipeline"):
        if not (package / name).exists():
            (package / name).symlink_to(ROOT / name)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages to the site."""
    for place, text in (
        ("reference/configuration.md", configuration_page()),
        ("reference/commands.md", commands_page()),
    ):
        files.append(File.generated(config, place, content=text))
    return files


def configuration_page() -> str:
    """Return the reference of the configuration as Markdown: a table for each part, nested parts by their whole key."""
    schema = Config.model_json_schema()
    parts: list[str] = [_CONFIGURATION, _STYLE]
    waiting: list[tuple[str, Schema, str]] = [("", schema, "")]
    while waiting:
        prefix, part, words = waiting.pop(0)
        rows, below = _part(prefix, part, schema["$defs"])
        parts.append(f"## {f'`{prefix}`' if prefix else 'The file'}\n\n{words}\n\n{_table(rows, _KEYS)}")
        # Depth first: what belongs to a stage follows it.
        waiting = below + waiting
    return "\n\n".join(parts) + "\n"


def _part(prefix: str, part: Schema, shared: Mapping[str, Schema]) -> tuple[list[Row], list[tuple[str, Schema, str]]]:
    rows: list[Row] = []
    below: list[tuple[str, Schema, str]] = []
    required = part.get("required", [])
    for name, value in part["properties"].items():
        place = f"{prefix}.{name}" if prefix else name
        nested = list(_nested(place, value, shared))
        default = "required" if name in required or "default" not in value else f"`{json.dumps(value['default'])}`"
        if nested and isinstance(value.get("default"), dict) and value["default"]:
            default = "as below"
        kind, words = _kind(value, shared), value.get("description", "")
        rows.append((f"`{name}`", kind, _unit(name, kind=kind, words=words), default, words))
        below += nested
    return rows, below


def _nested(place: str, value: Schema, shared: Mapping[str, Schema]) -> Iterator[tuple[str, Schema, str]]:
    """Every part of the configuration inside one value, with the key under which it stands."""
    if "$ref" in value:
        target = _target(value, shared)
        if "properties" in target:
            kind = target["properties"].get("kind", {}).get("const")
            yield (f"{place} (kind: {kind})" if kind else place), target, target.get("description", "")
        return
    for choice in (*value.get("anyOf", ()), *value.get("oneOf", ())):
        yield from _nested(place, choice, shared)
    if isinstance(value.get("items"), Mapping):
        yield from _nested(f"{place}[]", value["items"], shared)
    for inner in _entries(value):
        yield from _nested(f"{place}.<name>", inner, shared)


def _entries(value: Schema) -> list[Schema]:
    """Schemas of the values of a mapping whose keys are free."""
    inner = list(value.get("patternProperties", {}).values())
    if isinstance(value.get("additionalProperties"), Mapping):
        inner.append(value["additionalProperties"])
    return inner


def _target(value: Schema, shared: Mapping[str, Schema]) -> Schema:
    return shared[value["$ref"].removeprefix("#/$defs/")]


def _kind(value: Schema, shared: Mapping[str, Schema]) -> str:
    """Return type, choices and bounds in words."""
    if "$ref" in value:
        target = _target(value, shared)
        return "mapping" if "properties" in target else _kind(target, shared)
    if choices := (*value.get("anyOf", ()), *value.get("oneOf", ())):
        # Many kinds of one mapping are one word.
        return " or ".join(dict.fromkeys(_kind(choice, shared) for choice in choices))
    if "const" in value:
        return f"`{value['const']}`"
    if "enum" in value:
        return ", ".join(f"`{choice}`" for choice in value["enum"])
    if "prefixItems" in value:
        return f"list of {len(value['prefixItems'])}: " + _kind(value["prefixItems"][0], shared)
    word = value.get("format") or value.get("type", "any")
    word = {"object": "mapping", "array": "list", "boolean": "true or false"}.get(word, word)
    if isinstance(value.get("items"), Mapping):
        word = f"list of {_kind(value['items'], shared)}"
    if inner := _entries(value):
        word = f"mapping of name to {' or '.join(_kind(item, shared) for item in inner)}"
    bounds = [words.format(value[key]) for key, words in _BOUNDS if key in value]
    return ", ".join([word, *bounds])


def _unit(name: str, *, kind: str, words: str) -> str:
    """Return the unit of a numeric key in words, or nothing."""
    if not re.search(r"\b(number|integer)\b", kind):
        return ""
    if name in _UNIT_OF_KEY:
        return _UNIT_OF_KEY[name]
    by_ending = [unit for ending, unit in _UNIT_OF_ENDING.items() if name.endswith(ending)]
    by_words = [unit for pattern, unit in _UNIT_IN_WORDS if pattern.search(words)]
    return next(iter((*by_ending, *by_words)), "")


def commands_page() -> str:
    """Return the reference of the command line as Markdown: a heading and a table for each command."""
    root = typer.main.get_command(app)
    context = root.make_context("equipoise", [], resilient_parsing=True)
    return "\n\n".join([_COMMANDS, _STYLE, *_command(root, context)]) + "\n"


def _command(command: Any, context: Any) -> Iterator[str]:
    usage = " ".join((context.command_path, *command.collect_usage_pieces(context)))
    # Typer marks a required argument with braces, which help turns into colour.
    usage = usage.replace("{", "").replace("}", "")
    yield f"## {context.command_path}\n\n{_paragraphs(command.help or '')}\n\n```\n{usage}\n```"
    rows = [_parameter(parameter) for parameter in command.params if not parameter.hidden]
    if rows:
        yield _table(rows, _PARAMETERS)
    for name, below in getattr(command, "commands", {}).items():
        if not below.hidden:
            yield from _command(below, type(context)(below, info_name=name, parent=context))


def _parameter(parameter: Any) -> Row:
    names = ", ".join(f"`{name}`" for name in (*parameter.opts, *parameter.secondary_opts))
    kind = "flag" if getattr(parameter, "is_flag", False) else parameter.metavar or _word(parameter.type_descriptor)
    limits = (("at least {}", parameter.min), ("at most {}", parameter.max))
    kind = ", ".join([kind, *(words.format(limit) for words, limit in limits if limit is not None)])
    if parameter.multiple or parameter.nargs == -1:
        kind += ", may be several"
    if parameter.required:
        default = "required"
    else:
        default = "" if parameter.default in (None, False, "", ()) else f"`{parameter.default}`"
    return names, kind, default, parameter.help or ""


def _word(kind: Any) -> str:
    """Return the type of one value in a word, or its choices."""
    if kind.is_choice:
        return ", ".join(f"`{choice}`" for choice in kind.choices)
    one = next(iter(get_args(kind.annotation)), kind.annotation)
    return {Path: "path", str: "text", int: "integer", float: "number"}[one]


def _paragraphs(text: str) -> str:
    return text.replace("\b", "").strip()


def _table(rows: list[Row], columns: Row) -> str:
    lines = [f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)]
    return "\n".join(lines + ["| " + " | ".join(_cell(cell) for cell in row) + " |" for row in rows])


def _cell(text: str) -> str:
    """Return text for a cell: a bar would end it, and an angle would be taken for HTML outside of code."""
    plain = " ".join(text.split()).replace("|", "\\|")
    return "`".join(
        part if position % 2 else part.replace("<", "&lt;") for position, part in enumerate(plain.split("`"))
    )
