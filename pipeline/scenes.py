"""From the configuration's scene entries to places with files: {id} patterns expanded, missing modalities named."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from ..datasets.source import Source
from .config import Config
from .errors import ConfigError
from .label_table import TableRow, read_label_table
from .scene_options import FilesOptions, ModalityOptions, SceneOptions

PLACEHOLDER = "{id}"


@dataclass(frozen=True, kw_only=True)
class SceneFiles:
    """The files of one place.

    Attributes
    ----------
    name
        Unique in the run; also the name of its folder and maps.
    files
        Modality -> raster, product, or one file a band; present modalities only.
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
    acquired
        Modality -> acquisition time, where its files do not say it.
    group
        Event or place, if any.
    georeferenced
        False for chips without a position.
    identifier
        What {id} stands for in its file names; elsewhere its name. Tables mark rows by it.
    """

    name: str
    files: Mapping[str, Source]
    missing: Mapping[str, str]
    labels: Path | None = None
    informative: Path | None = None
    label: int | None = None
    split: str = "auto"
    offset: Mapping[str, float] = field(default_factory=dict)
    acquired: Mapping[str, str] = field(default_factory=dict)
    group: str | None = None
    georeferenced: bool = True
    identifier: str = ""

    @property
    def inputs(self) -> list[Path]:
        """Every file that this scene is made of."""
        files = [path for source in self.files.values() for path in source.inputs]
        return [*files, *(path for path in (self.labels, self.informative) if path is not None)]


def resolve_scenes(config: Config) -> list[SceneFiles]:
    """Expand the configuration's scenes.

    Raises
    ------
    ConfigError
        If a file is missing, a pattern matches nothing, or two scenes share a name.
    """
    scenes: list[SceneFiles] = []
    for options in config.scenes:
        if any(PLACEHOLDER in str(path) for path in _paths(options)):
            scenes.extend(_expand(options, config.modalities))
        else:
            scenes.append(_single(options, config.modalities))
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


def _single(options: SceneOptions, modalities: Mapping[str, ModalityOptions]) -> SceneFiles:
    for path in _paths(options):
        if not path.exists():
            raise ConfigError(f"scene '{options.name}': found no file {path}; wanted a raster; correct the path")
    for raster in (options.labels, options.informative):
        if raster is not None and not raster.is_file():
            raise ConfigError(f"scene '{options.name}': found no file {raster}; wanted a raster; correct the path")
    rows = {} if options.label_table is None else read_label_table(options.label_table, modalities)
    row = rows.get(options.name, TableRow())
    files = {name: named.source(named.named) for name, named in options.all_files().items()}
    return _scene(options, name=options.name, identifier=options.name, files=files, modalities=modalities, row=row)


def _paths(options: SceneOptions) -> list[Path]:
    return [path for files in options.all_files().values() for path in files.named.values()]


def _scene(
    options: SceneOptions,
    *,
    name: str,
    identifier: str,
    files: Mapping[str, Source],
    modalities: Mapping[str, ModalityOptions],
    labels: Path | None = None,
    row: TableRow,
) -> SceneFiles:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", name):
        raise ConfigError(f"found scene name {name!r}; wanted letters, digits, '_', '-' and '.'; rename it")
    ordered = {key: files[key] for key in modalities if key in files}
    if all(modalities[key].table is not None for key in ordered):
        raise ConfigError(
            f"scene '{name}': found {', '.join(ordered) or 'no modality'}; wanted one image at least; correct `scenes`"
        )
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
        label=row.label,
        split=row.split or options.split,
        offset=options.offset,
        acquired={**options.acquired, **row.acquired},
        group=row.group or options.group_of(name),
        georeferenced=options.georeferenced,
        identifier=identifier,
    )


def _expand(options: SceneOptions, modalities: Mapping[str, ModalityOptions]) -> list[SceneFiles]:
    if PLACEHOLDER not in options.name:
        raise ConfigError(f"scene '{options.name}': found {PLACEHOLDER} in its files only; wanted it in `name`, too")
    shared = {
        name: files for name, files in options.all_files().items()
        if modalities[name].table is not None and PLACEHOLDER not in str(files.path)
    }  # fmt: skip
    patterns = {name: files for name, files in options.all_files().items() if name not in shared}
    paths = [path for files in patterns.values() for path in files.named.values()]
    if fixed := [str(pattern) for pattern in paths if PLACEHOLDER not in str(pattern)]:
        raise ConfigError(
            f"scene '{options.name}': found {fixed[0]} without {PLACEHOLDER} beside patterns; wanted {PLACEHOLDER} in "
            "the name of every file; list the scenes one by one to share a file"
        )
    found = {name: {key: _matches(pattern) for key, pattern in files.named.items()} for name, files in patterns.items()}
    labels = _matches(options.labels) if options.labels is not None else {}
    table = read_label_table(options.label_table, modalities) if options.label_table is not None else {}
    searched = [(path, found[name][key]) for name, files in patterns.items() for key, path in files.named.items()]
    for pattern, matches in [*searched, *([] if options.labels is None else [(options.labels, labels)])]:
        if not matches:
            raise ConfigError(
                f"scene '{options.name}': found no file that matches {pattern}; wanted at least one; correct the "
                "pattern, or leave it out"
            )
    return [
        _scene(
            options,
            name=options.name.replace(PLACEHOLDER, identifier),
            identifier=identifier,
            files=_complete(options.name, identifier, patterns, found) | _tables(shared),
            modalities=modalities,
            labels=labels.get(identifier),
            row=table.get(identifier, TableRow()),
        )
        for identifier in sorted(set().union(*(matches for _, matches in searched)))
    ]


def _complete(
    name: str,
    identifier: str,
    patterns: Mapping[str, FilesOptions],
    found: Mapping[str, Mapping[str, Mapping[str, Path]]],
) -> dict[str, Source]:
    """Return the modalities that have their files for one id; half a modality is an error, not a missing one."""
    sources = {}
    for modality, files in patterns.items():
        paths = {key: matches[identifier] for key, matches in found[modality].items() if identifier in matches}
        absent = [key for key in files.named if key not in paths]
        if paths and absent:
            raise ConfigError(
                f"scene '{name}': found no file '{absent[0]}' of modality '{modality}' for id '{identifier}', but "
                f"others; wanted all of them ({', '.join(files.named)}); add it, or take the others away"
            )
        if paths:
            sources[modality] = files.source(paths)
    return sources


def _tables(shared: Mapping[str, FilesOptions]) -> dict[str, Source]:
    """Return the tables that hold rows for all scenes."""
    for files in shared.values():
        for path in files.named.values():
            if not path.is_file():
                raise ConfigError(f"found no file {path}; wanted a table; correct the path")
    return {name: files.source(files.named) for name, files in shared.items()}


def _matches(pattern: Path) -> dict[str, Path]:
    if PLACEHOLDER in str(pattern.parent):
        raise ConfigError(f"{pattern}: found {PLACEHOLDER} in a folder's name; wanted it in the file's name only")
    before, _, after = pattern.name.partition(PLACEHOLDER)
    expression = re.compile(re.escape(before) + r"(?P<id>[A-Za-z0-9_.-]+)" + re.escape(after))
    if not pattern.parent.is_dir():
        return {}
    hits = ((expression.fullmatch(path.name), path) for path in pattern.parent.iterdir())
    return {match["id"]: path for match, path in hits if match}
