"""Every block of code in README, CONTRIBUTING and docs is run, or checked as far as it can be."""

import contextlib
import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from doc_blocks import ROOT, Block, blocks, blocks_of
from forked_command import ForkedCommand

from equipoise.pipeline.batch.batch_options import BatchOptions
from equipoise.pipeline.cli import app
from equipoise.pipeline.config import parse_config

BLOCKS = blocks()

LANGUAGES = ("bash", "python", "yaml", "json", "toml", "text")

#: Blocks that cannot be run here, and why. Their commands are parsed, their Python is compiled.
NOT_RUN = {
    "README.md:1": "this is how the machine that runs the tests came to have them",
    "CONTRIBUTING.md:1": "the same",
    "CONTRIBUTING.md:2": "runs the tests, these too",
    "docs/index.md:1": "five minutes of training",
    "docs/batch-stac.md:4": "a server that does not end, of another project",
    "docs/cluster.md:2": "needs machines",
    "docs/cluster.md:3": "needs a machine with a GPU",
    "docs/cluster.md:4": "needs machines and certificates",
    "docs/cluster-coiled.md:1": "needs an account",
    "docs/cluster-hpc.md:1": "needs SLURM",
    "docs/cluster-kubernetes.md:1": "needs a Kubernetes cluster",
    "docs/cluster-kubernetes.md:3": "needs a Kubernetes cluster",
    "docs/viewer.md:2": "needs another machine",
}

#: Pages whose shell blocks call the command in forks of one process, as the seconds of imports add up. Its commands are
#: called by other pages as they are installed, but for one that tests/3_pipeline/test_report.py calls so.
FORKED = (
    "docs/acquire.md", "docs/batch.md", "docs/coregistration.md", "docs/help.md", "docs/how-to/new-sensor.md",
    "docs/index.md", "docs/quick-start.md",
)  # fmt: skip
INSTALLED_ELSEWHERE = {"report"}

#: YAML that is no configuration of a run.
OTHER_YAML = {
    "docs/batch.md:3": BatchOptions.model_validate,
    "docs/cluster-kubernetes.md:2": None,
}

#: What stands in pages for things that are not here -> what is put in its place.
STANDS_FOR = {"https://...": "catalog", "https://stac.example/v1": "catalog"}

#: What goes before each shell block.
SHELL = (ROOT / "tests" / "doc_shell.sh").read_text(encoding="utf-8")


def _named(found: list[Block]) -> list[Any]:
    return [pytest.param(block, id=block.name) for block in found]


def _of(*languages: str) -> list[Block]:
    return [block for block in BLOCKS if block.language in languages]


@pytest.mark.parametrize("block", _named(BLOCKS))
def test_every_block_says_its_language(block):
    assert block.language in LANGUAGES, f"line {block.line}"


def test_nothing_is_excused_that_is_not_there():
    names = {block.name: block for block in BLOCKS}
    assert set(NOT_RUN) <= set(names)
    assert set(OTHER_YAML) <= {block.name for block in _of("yaml")}
    assert {names[name].language for name in NOT_RUN} <= {"bash", "python"}


def test_blocks_are_found_and_cut_out():
    page = "a\n```bash\nls\n```\n\n1. list\n\n    ```python\n    if 1:\n        pass\n    ```\n\n```\nplain\n```\n"
    found = list(blocks_of(page, page="a.md"))
    assert [(block.name, block.line, block.language, block.text) for block in found] == [
        ("a.md:1", 3, "bash", "ls\n"), ("a.md:2", 9, "python", "if 1:\n    pass\n"), ("a.md:3", 14, "", "plain\n"),
    ]  # fmt: skip


def test_every_command_of_the_pages_is_called_as_installed():
    called: dict[bool, set[str]] = {True: set(), False: set()}
    for block in _of("bash"):
        if block.name not in NOT_RUN:
            words = [words for words in _commands(block.text) if words[0] == "equipoise"]
            called[block.page in FORKED] |= {command for _, command, *_ in words}
    assert called[True] - called[False] == INSTALLED_ELSEWHERE


RUN_PAGES = sorted(
    {block.page for block in _of("bash", "python") if block.name not in NOT_RUN},
    key=lambda page: (page.count("/"), page),
)


@pytest.mark.parametrize("page", RUN_PAGES)
def test_blocks_run_in_order(page, world, tmp_path, monkeypatch, request):
    """In a folder that has what pages say is there; Python blocks of a page share their names."""
    folder = tmp_path / "here"
    shutil.copytree(world, folder, symlinks=True)
    (folder / ".venv").symlink_to(Path(sys.executable).parents[1])
    monkeypatch.chdir(folder)
    names: dict[str, Any] = {"__name__": "block"}
    for block in BLOCKS:
        if block.page != page or block.name in NOT_RUN or block.language not in ("bash", "python"):
            continue
        for text, real in STANDS_FOR.items():
            block = replace(block, text=block.text.replace(text, real))
        if block.language == "bash":
            _run_bash(block, request.getfixturevalue("forked") if page in FORKED else None)
        else:
            _run_python(block, names)


def _run_bash(block: Block, forked: ForkedCommand | None) -> None:
    """Run a block, with the installed command or with the one that forks."""
    here = Path(sys.executable).parent
    folders = [here] if forked is None else [forked.folder, here]
    more = {
        "PATH": os.pathsep.join([*map(str, folders), os.environ["PATH"]]), "OMP_NUM_THREADS": "1",
        "PYTHON": sys.executable, "SHORTEN": str(ROOT / "tests" / "shorten.py"),
        # README's batch run has the windows that users have; it takes most of a minute.
        "BATCH_OPTIONS": "" if forked is None else "short_batch.yaml",
        "LOOK": str(ROOT / "tests" / "viewed_briefly.py"), "EQUIPOISE": str(here / "equipoise"),
    }  # fmt: skip
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", SHELL + block.text], capture_output=True, text=True, timeout=280,
        env={**os.environ, **more}, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{block.page}, line {block.line}:\n{done.stdout[-1500:]}\n{done.stderr[-1500:]}"


def _run_python(block: Block, names: dict[str, Any]) -> None:
    code = compile("\n" * (block.line - 1) + block.text, str(ROOT / block.page), "exec")
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")  # a warning stops no reader; the tests of the parts hold them to none
        exec(code, names)  # noqa: S102 (the project's own pages)


@pytest.mark.parametrize("block", _named([block for block in BLOCKS if block.name in NOT_RUN]))
def test_what_is_not_run_is_well_formed(block):
    if block.language == "python":
        compile(block.text, block.name, "exec")
        return
    done = subprocess.run(["bash", "-n", "-c", block.text], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    for words in _commands(block.text):
        if words[0] == "make":
            assert set(words[1:]) <= targets
        if words[0] in ("equipoise", "ssh"):
            _parse(words[words.index("equipoise") + 1 :])


def _commands(text: str) -> Iterator[list[str]]:
    for line in text.replace("\\\n", " ").splitlines():
        for part in shlex.split(line, comments=True) and re.split(r"&&|;", line.split(" #")[0]):
            if words := shlex.split(part, comments=True):
                yield words


def _parse(words: list[str]) -> None:
    """Parse a command line as the app does, without doing it: unknown options and wrong values are errors."""
    command, context = typer.main.get_command(app), None
    rest = list(words)
    while hasattr(command, "commands"):
        context = command.make_context(command.name or "equipoise", [], parent=context, resilient_parsing=True)
        command = command.commands[rest.pop(0)]
    command.make_context(words[0], rest, parent=context)


@pytest.mark.parametrize("block", _named(_of("yaml")))
def test_yaml_fits_the_schema(block):
    if block.name in OTHER_YAML:
        records = list(yaml.safe_load_all(block.text))
        assert records
        if (check := OTHER_YAML[block.name]) is not None:
            check(records[0])
        return
    parse_config(_merged(_base(), yaml.safe_load(block.text)), origin=ROOT / "config.yaml")


def _base() -> dict[str, Any]:
    files = {name: f"{name}.tif" for name in ("eo", "sar", "ir")}
    return {
        "modalities": {
            "eo": {"unit": "reflectance", "bands": ["blue", "green", "red", "nir"]},
            "sar": {"unit": "linear_power", "bands": ["VV", "VH"]},
            "ir": {"unit": "kelvin", "bands": ["lwir11"]},
        },
        "classes": [{"value": value, "name": f"c{value}", "color": "#000000"} for value in range(2)],
        "scenes": [{"name": "a", "files": files, "labels": "labels.tif"}],
    }  # fmt: skip


def _merged(base: Any, change: Any) -> Any:
    if isinstance(base, dict) and isinstance(change, dict):
        return {**base, **{key: _merged(base.get(key), value) for key, value in change.items()}}
    return change


@pytest.mark.parametrize("block", _named(_of("json", "toml")))
def test_data_is_well_formed(block):
    if block.language == "toml":
        tomllib.loads(block.text)
    else:
        for line in block.text.splitlines():
            json.loads(line)
