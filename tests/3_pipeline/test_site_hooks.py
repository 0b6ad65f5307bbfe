"""Pages that the site makes: nothing of the schema and of the command line is missing, notebooks say what they are, and
no page loads anything from elsewhere."""

import importlib
import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType
from typing import Any, get_args

import nbformat
import pytest
import typer
from pydantic import BaseModel

from equipoise.pipeline.cli import app
from equipoise.pipeline.config import Config

ROOT = Path(__file__).parents[2]


def _loaded(name: str) -> ModuleType:
    pytest.importorskip("mkdocs", reason="the site's own requirements are not installed")
    specification = importlib.util.spec_from_file_location(name, ROOT / "docs" / f"{name}.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def hooks() -> ModuleType:
    return _loaded("site_hooks")


@pytest.fixture(scope="module")
def notebook_hooks() -> ModuleType:
    return _loaded("notebook_hooks")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The whole site, as `make docs` builds it."""
    pytest.importorskip("mkdocs", reason="the site's own requirements are not installed")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1", "EXECUTE_NOTEBOOKS": ""}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


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
    assert "| `seed` | integer, at least 0 |  | `0` |" in sections["The file"]
    assert '| `method` | `structure`, `none` |  | `"structure"` |' in sections["`coregister`"]
    assert "| `max_shift_m` | number, more than 0 | m | `250.0` |" in sections["`coregister`"]
    assert "| `unit` | `reflectance`, " in sections["`modalities.<name>`"]
    assert "| required |" in sections["`scenes[]`"]


# The rule that units stand in a key's name or in its words is only as good as what it finds.
@pytest.mark.parametrize(
    ("section", "key", "unit"),
    [
        ("`modalities.<name>`", "unit", ""),
        ("`modalities.<name>`", "scale", "unit a DN"),
        ("`modalities.<name>`", "geoid_height", "m"),
        ("`tile`", "patch_size", "px"),
        ("`tile`", "max_cloud", "share"),
        ("`train`", "epochs", ""),
        ("`predict`", "overlap", "px"),
        ("`predict`", "bbox", "degrees, or the CRS's"),
        ("`train.utilization`", "tolerance", "share"),
        ("`train.degradations.<name>[] (kind: haze)`", "optical_depth", ""),
        ("`train.degradations.<name>[] (kind: haze)`", "wavelengths_nm", "nm"),
        ("`train.degradations.<name>[] (kind: noise)`", "sigma", "reflectance"),
        ("`train.degradations.<name>[] (kind: thermal_noise)`", "netd_k", "K"),
        ("`train.degradations.<name>[] (kind: misregistration)`", "metres", "m"),
        ("`train.degradations.<name>[] (kind: misregistration)`", "direction_deg", "degrees"),
    ],
)
def test_a_number_is_told_with_its_unit(hooks: ModuleType, section: str, key: str, unit: str):
    row = re.search(rf"^\| `{key}` \|.*$", _sections(hooks.configuration_page())[section], re.M)
    assert row[0].replace("\\|", "").split(" | ")[2] == unit


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


def _notebooks() -> list[Path]:
    return sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", _notebooks(), ids=lambda path: path.stem)
def test_a_notebook_that_was_not_executed_says_so_and_is_whole(notebook_hooks: ModuleType, site: Path, path: Path):
    page = (site / "notebooks" / path.stem / "index.html").read_text(encoding="utf-8")
    assert "Not executed" in page
    read = nbformat.read(path, as_version=4)
    assert page.count("jp-CodeCell") >= sum(cell.cell_type == "code" for cell in read.cells) > 0
    noted = notebook_hooks.noted(path, execute=False)
    assert [cell.source for cell in noted.cells[1:]] == [cell.source for cell in read.cells[1:]]
    assert noted.cells[0].source.startswith(read.cells[0].source.partition("\n")[0] + "\n")


def _written(path: Path, code: str) -> Path:
    cells = [nbformat.v4.new_markdown_cell("# A title\nand words"), nbformat.v4.new_code_cell(code)]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    return path


def test_a_notebook_is_executed_where_that_is_asked_for(notebook_hooks: ModuleType, tmp_path: Path):
    noted = notebook_hooks.noted(_written(tmp_path / "sum.ipynb", "40 + 2"), execute=True)
    assert noted.cells[1].outputs[0].data["text/plain"] == "42"
    assert "Executed when" in noted.cells[0].source
    assert noted.cells[0].source.endswith("and words")


def test_a_notebook_that_fails_is_not_published(notebook_hooks: ModuleType, tmp_path: Path):
    path = _written(tmp_path / "failure.ipynb", "1 / 0")
    with pytest.raises(Exception, match="ZeroDivisionError"):
        notebook_hooks.noted(path, execute=True)


class _Loads(HTMLParser):
    """What a page loads: the addresses of scripts, styles, pictures, frames; the text of styles and scripts in it."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.inside: list[str] = []
        self._part = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if tag in ("script", "img", "iframe", "source", "video", "audio", "embed"):
            self.addresses += [found["src"]] if "src" in found else []
        if tag == "link" and found.get("rel") not in ("canonical", "prev", "next", "alternate"):
            self.addresses.append(found["href"] or "")
        self._part = tag

    def handle_data(self, data: str) -> None:
        if self._part in ("script", "style"):
            self.inside.append(data)

    def handle_endtag(self, tag: str) -> None:  # noqa: ARG002  the parser's own signature
        self._part = ""


_ELSEWHERE = re.compile(r"^(?:https?:)?//", re.IGNORECASE)
_ELSEWHERE_INSIDE = re.compile(r"""(?:url\(|@import|\bimport\(|\bfrom|\bimport)\s*["']?(?:https?:)?//""")


def _from_elsewhere(html: str) -> list[str]:
    page = _Loads()
    page.feed(html)
    loads = [address for address in page.addresses if not address or _ELSEWHERE.match(address)]
    return loads + [match[0] for text in page.inside for match in _ELSEWHERE_INSIDE.finditer(text)]


def test_no_page_loads_anything_from_elsewhere(site: Path):
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > len(list((ROOT / "docs").rglob("*.md")))
    for page in pages:
        assert _from_elsewhere(page.read_text(encoding="utf-8")) == [], page.relative_to(site)
    for style in site.rglob("*.css"):
        assert not _ELSEWHERE_INSIDE.search(style.read_text(encoding="utf-8")), style.name


@pytest.mark.parametrize(
    "html",
    [
        '<script src="https://a.org/b.js"></script>',
        '<script src=""></script>',
        '<link rel="stylesheet" href="//a.org/b.css">',
        '<img src="http://a.org/b.png">',
        "<style>p { background: url('https://a.org/b.png') }</style>",
        '<script type="module">const m = await import("https://a.org/b.mjs")</script>',
    ],
)
def test_what_is_loaded_from_elsewhere_is_seen(html: str):
    assert len(_from_elsewhere(html)) == 1
