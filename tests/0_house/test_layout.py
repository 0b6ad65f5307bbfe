"""The shape of the repository: which folders are the package, how long things are, what may not be committed."""

import ast
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("datasets", "models", "pipeline")
MODULES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))

MODULE_WALL = 400
FUNCTION_WALL = 60


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def _functions(path: Path) -> Iterator[tuple[str, int]]:
    """Each function of a module with its length in lines; the docstring does not count against it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        length = (node.end_lineno or node.lineno) - node.lineno + 1
        if ast.get_docstring(node, clean=False) is not None:
            docstring = node.body[0]
            length -= (docstring.end_lineno or docstring.lineno) - docstring.lineno + 1
        yield node.name, length


def test_the_packages_listed_by_hand_are_those_on_disk():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    on_disk = {"equipoise"} | {
        ".".join(("equipoise", *path.parent.relative_to(ROOT).parts)) for path in MODULES if path.name == "__init__.py"
    }
    assert settings["package-dir"] == {"equipoise": "."}
    assert sorted(settings["packages"]) == sorted(on_disk)


def test_every_folder_with_modules_is_a_package():
    # mypy and the wheel both pass over a folder without __init__.py.
    bare = {_name(path.parent) for path in MODULES if not (path.parent / "__init__.py").exists()}
    assert not bare


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_bare_import_from_the_root_is_refused(folder: str):
    command = [sys.executable, "-c", f"import {folder}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("ImportError: ")
    assert f"equipoise.{folder}" in done.stderr.splitlines()[-1]


def test_tests_are_no_package():
    assert not sorted((ROOT / "tests").rglob("__init__.py"))
    # pytest would import a conftest.py at the root as part of the package.
    assert not (ROOT / "conftest.py").exists()


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_modules_and_functions_stay_below_the_walls(path: Path):
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= MODULE_WALL, f"{_name(path)} has {lines} lines; wanted at most {MODULE_WALL}; split it by noun"
    long = {name: length for name, length in _functions(path) if length > FUNCTION_WALL}
    assert not long, f"{_name(path)} has functions over {FUNCTION_WALL} lines: {long}; split them by step"


def _git(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=False)


@pytest.fixture
def checkout() -> Path:
    if shutil.which("git") is None:
        pytest.skip("git is not installed, so there is no list of committed files")
    top = _git("rev-parse", "--show-toplevel")
    if top.returncode or Path(top.stdout.strip()).resolve() != ROOT.resolve():
        pytest.skip("not a git checkout of its own (an unpacked archive), so there is no list of committed files")
    return ROOT


def _found(pattern: str) -> list[str]:
    """Lines of committed files, and of those about to be, that match an extended regular expression."""
    done = _git("grep", "-nIE", "--untracked", "-e", pattern)
    assert done.returncode in (0, 1), done.stderr
    return done.stdout.splitlines()


@pytest.mark.usefixtures("checkout")
def test_no_file_names_a_package_registry():
    # In pieces, so that this file does not find itself.
    hosts = [("pypi", "org"), ("pythonhosted", "org"), ("download", "pytorch", "org"), ("anaconda", "org")]
    assert not _found("|".join(r"\.".join(parts) for parts in hosts))


@pytest.mark.usefixtures("checkout")
def test_no_file_names_a_path_of_some_machine():
    # A preceding letter, dot, dash or closing bracket makes it part of an address, of a relative path or of a template.
    folders = ["work", "tmp", "home", "root", "Users", "mnt", "scratch"]
    assert not _found(rf"(^|[^[:alnum:]_.~)}}-])/({'|'.join(folders)})/")


@pytest.mark.usefixtures("checkout")
def test_the_search_for_paths_finds_what_is_there():
    assert _found("^def _found")
    assert not _found("a line " + "that nobody wrote")
