"""What is installed: pinned dependencies, the conda environment, the wheel, and the version named everywhere."""

import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

import equipoise

ROOT = Path(__file__).parents[2]
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = SETTINGS["project"]
FOLDERS = ("datasets", "models", "pipeline")


def _requirements(lines: list[str]) -> dict[str, Requirement]:
    parsed = [Requirement(line) for line in lines]
    return {canonicalize_name(requirement.name): requirement for requirement in parsed}


DECLARED = _requirements(PROJECT["dependencies"])
HELD = _requirements(SETTINGS["tool"]["uv"]["constraint-dependencies"])


def _blocks() -> list[str]:
    """The pins of requirements.txt, each with its continuation lines joined to one."""
    text = (ROOT / "requirements.txt").read_text(encoding="utf-8")
    return [line for line in text.replace("\\\n", " ").splitlines() if line.strip()]


def _pins() -> list[Requirement]:
    return [Requirement(block.split("--hash=")[0].strip()) for block in _blocks()]


def _version(name: str) -> Version:
    """The one version that is pinned for a name."""
    (pin,) = [pin for pin in _pins() if canonicalize_name(pin.name) == name]
    (specifier,) = pin.specifier
    return Version(specifier.version)


def test_every_pin_is_exact_and_has_a_hash():
    assert len(_blocks()) > len(DECLARED)
    for block, pin in zip(_blocks(), _pins(), strict=True):
        assert [specifier.operator for specifier in pin.specifier] == ["=="], block[:80]
        assert re.search(r"--hash=sha256:[0-9a-f]{64}\b", block), f"{pin} has no hash; run `make lock`"


def test_the_pins_name_no_address():
    text = (ROOT / "requirements.txt").read_text(encoding="utf-8")
    unwanted = ["://", "--index-url", "--extra-index-url", "--find-links", "file:", " @ "]
    assert [token for token in unwanted if token in text] == []


@pytest.mark.parametrize("group", ["dependencies", *PROJECT["optional-dependencies"]])
def test_the_pins_answer_every_declared_dependency(group: str):
    lines = PROJECT["dependencies"] if group == "dependencies" else PROJECT["optional-dependencies"][group]
    for name, requirement in _requirements(lines).items():
        pins = [pin for pin in _pins() if canonicalize_name(pin.name) == name]
        assert pins, f"{name} is declared but not pinned; run `make lock`"
        for pin in pins:
            (specifier,) = pin.specifier
            assert requirement.specifier.contains(specifier.version), f"{pin} is outside {requirement}; run `make lock`"


def test_torch_and_torchvision_are_one_release():
    torch, torchvision = _version("torch"), _version("torchvision")
    assert (torch.major, torchvision.major) == (2, 0)
    assert torchvision.minor == torch.minor + 15
    assert {name: str(held.specifier) for name, held in HELD.items()} == {
        "torch": f"=={torch}",
        "torchvision": f"=={torchvision}",
    }


def test_the_pins_bring_what_builds_the_package():
    # `make` installs the package without build isolation, so the environment itself must hold the build requirement.
    (needed,) = _requirements(SETTINGS["build-system"]["requires"]).values()
    assert needed.specifier.contains(_version(needed.name))


def test_albumentations_stays_at_its_last_mit_release():
    assert str(DECLARED["albumentations"].specifier) == "==2.0.8"


def test_there_is_one_lock_file():
    assert not (ROOT / "uv.lock").exists(), "found uv.lock; requirements.txt is the lock here; delete uv.lock"


def _conda() -> tuple[list[str], list[str]]:
    """The conda and the pip part of environment.yml."""
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    assert environment["channels"] == ["conda-forge"]
    (pip,) = [entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict)]
    return [entry for entry in environment["dependencies"] if isinstance(entry, str)], pip


def test_the_conda_environment_installs_the_package():
    conda, pip = _conda()
    assert "pip" in conda
    # Last, so that the versions named above it are already settled when the package asks for its own.
    assert pip[-1] == "-e ."


def test_the_conda_environment_names_the_versions_of_pyproject():
    conda, pip = _conda()
    named = _requirements([*conda, *pip[:-1]])
    del named["pip"]
    assert named.pop("python").specifier == SpecifierSet(PROJECT["requires-python"])
    # pip does not read uv's constraints, so the pair that was built together is named outright.
    assert {name: named.pop(name).specifier for name in HELD} == {name: held.specifier for name, held in HELD.items()}
    assert {name: found.specifier for name, found in named.items()} == {
        name: DECLARED[name].specifier for name in named
    }


def test_one_version_is_named_everywhere():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert Version(equipoise.__version__).release
    assert citation["version"] == equipoise.__version__
    assert citation["license"] == PROJECT["license"]
    assert f"## [{equipoise.__version__}]" in changelog


def _source(target: Path) -> Path:
    """A copy of what the wheel is built from, so that building leaves nothing in the checkout."""
    unwanted = shutil.ignore_patterns(".*", "build", "dist", "runs", "*.egg-info", "__pycache__", "site")
    return Path(shutil.copytree(ROOT, target, ignore=unwanted))


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The names of the files in a wheel of this tree, directory entries left out."""
    folder = tmp_path_factory.mktemp("wheel")
    source = _source(folder / "source")
    options = ["--no-index", "--no-deps", "--no-build-isolation", "--disable-pip-version-check", "--quiet"]
    command = [sys.executable, "-m", "pip", "wheel", *options, "--wheel-dir", str(folder), str(source)]
    # Not from the root, whose bare folders would be on the path.
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = folder.glob("*.whl")
    with zipfile.ZipFile(built) as archive:
        return [name for name in archive.namelist() if not name.endswith("/")]


def test_the_wheel_holds_the_modules_and_their_data_and_nothing_else(wheel: list[str]):
    patterns = [
        "*/**/*.py",
        *(f"pipeline/templates/*.{suffix}" for suffix in ("yaml", "html", "css")),
        "datasets/*.csv",
    ]
    patterns += [f"pipeline/viewer/static/{name}" for name in ("*.html", "*.js", "*.css", "leaflet.LICENSE")]
    files = {path.relative_to(ROOT) for pattern in patterns for path in ROOT.glob(pattern)}
    wanted = {f"equipoise/{path.as_posix()}" for path in files if path.parts[0] in FOLDERS} | {"equipoise/__init__.py"}
    assert {name for name in wheel if ".dist-info/" not in name} == wanted


def test_the_wheel_carries_licence_and_command(wheel: list[str]):
    inside = {name.split(".dist-info/")[1] for name in wheel if ".dist-info/" in name}
    assert {"licenses/LICENSE", "entry_points.txt"} <= inside
