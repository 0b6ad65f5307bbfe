"""From the configuration's scene entries to places with files: {id} patterns expanded, missing modalities named."""

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from .config import Config, SceneOptions
from .errors import ConfigError

PLACEHOLDER = "{id}"


@dataclass(frozen=True, kw_only=True)
class SceneFiles:
    """The files of one place.

    Attributes
    ----------
    name
        Unique in the run; also the name of its folder and maps.
    files
        Modality -> raster, present modalities only.
    missing
        Modality -> why it is not there.
    labels, informative
        Rasters, if any.
    label
        Class value of the whole chip, if any.
    split
        ``auto``, a split's name, or ``predict``.
    offset
        Modality -> offset of this scene.
    georeferenced
        False for chips without a position.
    """

    name: str
    files: Mapping[str, Path]
    missing: Mapping[str, str]
    labels: Path | None = None
    informative: Path | None = None
    label: int | None = None
    split: str = "auto"
    offset: Mapping[str, float] = field(default_factory=dict)
    georeferenced: bool = True

    @property
    def inputs(self) -> list[Path]:
        """Every file that this scene is made of."""
        return [*self.files.values(), *(path for path in (self.labels, self.informative) if path is not None)]


def resolve_scenes(config: Config) -> list[SceneFiles]:
    """Expand the configuration's scenes.

    Raises
    ------
    ConfigError
        If a file is missing, a pattern matches nothing, or two scenes share a name.
    """
    scenes: list[SceneFiles] = []
    for options in config.scenes:
        if any(PLACEHOLDER in str(path) for path in options.files.values()):
            scenes.extend(_expand(options, tuple(config.modalities)))
        else:
            scenes.append(_single(options, tuple(config.modalities)))
    names = [scene.name for scene in scenes]
    if unknown := sorted(set(config.predict.scenes or []) - set(names)):
        raise ConfigError(f"found unknown scenes {unknown} in `predict.scenes`; wanted some of {sorted(names)[:10]}")
    sources = {item.source: item.value for item in config.classes}
    scenes = [scene if scene.label is None else _with_class(scene, sources) for scene in scenes]
    if doubled := sorted({name for name in names if names.count(name) > 1}):
        raise ConfigError(f"found several scenes named {doubled[:3]}; wanted each name once; rename them in `scenes`")
    return scenes


def _with_class(scene: SceneFiles, sources: Mapping[int, int]) -> SceneFiles:
    if scene.label is None or scene.label not in sources:
        raise ConfigError(
            f"scene '{scene.name}': found label {scene.label} that no class declares; wanted one of {list(sources)}; "
            "add it to `classes`, or correct the label table"
        )
    return replace(scene, label=sources[scene.label])


def _single(options: SceneOptions, modalities: Sequence[str]) -> SceneFiles:
    for path in (*options.files.values(), options.labels, options.informative):
        if path is not None and not path.is_file():
            raise ConfigError(f"scene '{options.name}': found no file {path}; wanted a raster; correct the path")
    label: int | None = None
    split: str = options.split
    if options.label_table is not None:
        label, row_split = _read_table(options.label_table).get(options.name, (None, None))
        split = row_split or split
    return _scene(
        options, name=options.name, files=dict(options.files), modalities=modalities, label=label, split=split
    )  # fmt: skip


def _scene(
    options: SceneOptions,
    *,
    name: str,
    files: Mapping[str, Path],
    modalities: Sequence[str],
    labels: Path | None = None,
    label: int | None = None,
    split: str,
) -> SceneFiles:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", name):
        raise ConfigError(f"found scene name {name!r}; wanted letters, digits, '_', '-' and '.'; rename it")
    ordered = {key: files[key] for key in modalities if key in files}
    if not ordered:
        raise ConfigError(f"scene '{name}': found no modality; wanted at least one file; correct `scenes`")
    return SceneFiles(
        name=name,
        files=ordered,
        missing={
            key: "no file for this scene" if key in options.files else "not listed for this scene"
            for key in modalities
            if key not in ordered
        },
        labels=labels if labels is not None else options.labels if PLACEHOLDER not in str(options.labels) else None,
        informative=options.informative,
        label=label,
        split=split,
        offset=options.offset,
        georeferenced=options.georeferenced,
    )


def _expand(options: SceneOptions, modalities: Sequence[str]) -> list[SceneFiles]:
    if PLACEHOLDER not in options.name:
        raise ConfigError(f"scene '{options.name}': found {PLACEHOLDER} in its files only; wanted it in `name`, too")
    if fixed := [str(pattern) for pattern in options.files.values() if PLACEHOLDER not in str(pattern)]:
        raise ConfigError(
            f"scene '{options.name}': found {fixed[0]} without {PLACEHOLDER} beside patterns; wanted {PLACEHOLDER} in "
            "the name of every file; list the scenes one by one to share a file"
        )
    found = {name: _matches(pattern) for name, pattern in options.files.items()}
    labels = _matches(options.labels) if options.labels is not None else {}
    table = _read_table(options.label_table) if options.label_table is not None else {}
    identifiers = sorted(set().union(*found.values()))
    searched = [(pattern, found[name]) for name, pattern in options.files.items()]
    for pattern, matches in [*searched, *([] if options.labels is None else [(options.labels, labels)])]:
        if not matches:
            raise ConfigError(
                f"scene '{options.name}': found no file that matches {pattern}; wanted at least one; correct the "
                "pattern, or leave it out"
            )
    scenes = []
    for identifier in identifiers:
        label, split = table.get(identifier, (None, None))
        scenes.append(
            _scene(
                options,
                name=options.name.replace(PLACEHOLDER, identifier),
                files={name: matches[identifier] for name, matches in found.items() if identifier in matches},
                modalities=modalities,
                labels=labels.get(identifier),
                label=label,
                split=split or options.split,
            )
        )
    return scenes


def _matches(pattern: Path) -> dict[str, Path]:
    if PLACEHOLDER in str(pattern.parent):
        raise ConfigError(f"{pattern}: found {PLACEHOLDER} in a folder's name; wanted it in the file's name only")
    before, _, after = pattern.name.partition(PLACEHOLDER)
    expression = re.compile(re.escape(before) + r"(?P<id>[A-Za-z0-9_.-]+)" + re.escape(after))
    if not pattern.parent.is_dir():
        return {}
    hits = ((expression.fullmatch(path.name), path) for path in pattern.parent.iterdir())
    return {match["id"]: path for match, path in hits if match}


def _read_table(path: Path) -> dict[str, tuple[int, str | None]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:  # spreadsheets begin the file with a mark
            table = {row["id"]: (int(row["label"]), row.get("split") or None) for row in csv.DictReader(stream)}
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise ConfigError(
            f"{path}: found no usable label table ({error}); wanted CSV with the columns id, label and optionally split"
        ) from error
    for identifier, (_, split) in table.items():
        if split is not None and split not in ("train", "validation", "test", "predict"):
            raise ConfigError(
                f"{path}: found split '{split}' of id '{identifier}'; wanted train, validation, test, predict or "
                "nothing; correct it"
            )
    return table
