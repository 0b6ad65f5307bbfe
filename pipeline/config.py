"""Configuration: one frozen options class a stage, loaded from YAML, unknown keys refused."""

from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, ValidationError, model_validator

from ..datasets.modality import Modality
from .degradation_options import degradations
from .distill_options import DistillOptions
from .errors import ConfigError
from .nearest import did_you_mean, unknown_key, wrong_value
from .options import Options, Slug
from .same_sensor import check_shared, sensors_of, with_same_settings
from .scene_options import ClassOptions, FilesOptions, ModalityOptions, SceneOptions
from .stage_options import (
    CoregisterOptions,
    EvaluateOptions,
    PredictOptions,
    ReportOptions,
    TileOptions,
    TrainOptions,
)
from .table_encoders import with_table_encoders

#: Names that stand for other things in samples and in the folder of an aligned scene.
RESERVED = frozenset({"mask", "label", "labels", "valid", "available", "image"})


class Config(Options):
    """A run: what was observed, what is wanted of it, and how each stage works."""

    name: Slug = Field("run", description="Name of the run and of its folder under runs/.")
    seed: int = Field(0, ge=0, description="Seed of every random choice; the same seed gives the same result on CPU.")
    task: Literal["segmentation", "classification"] = Field(
        "segmentation", description="segmentation: a class a pixel; classification: a class a chip."
    )
    modalities: dict[Slug, ModalityOptions] = Field(min_length=1, description="Sensor types, in order.")
    classes: list[ClassOptions] = Field([], description="Classes of the labels and of the map.")
    scenes: list[SceneOptions] = Field(min_length=1, description="Places.")
    coregister: CoregisterOptions = Field(CoregisterOptions(), description="Stage coregister.")
    tile: TileOptions = Field(TileOptions(), description="Stage tile.")
    train: TrainOptions = Field(TrainOptions(), description="Stage train.")
    distill: DistillOptions | None = Field(
        None, description="Stage distill: one sensor teaches the others before training; null: it does not."
    )
    evaluate: EvaluateOptions = Field(EvaluateOptions(), description="Stage evaluate.")
    predict: PredictOptions = Field(PredictOptions(), description="Stage predict.")
    report: ReportOptions = Field(ReportOptions(), description="Stage report.")

    @model_validator(mode="before")
    @classmethod
    def _alike(cls, record: Any) -> Any:
        return with_table_encoders(with_same_settings(record)) if isinstance(record, dict) else record

    @model_validator(mode="after")
    def _consistent(self) -> "Config":
        declared = set(self.modalities)
        if taken := sorted(declared & RESERVED):
            raise ValueError(f"modality names {taken} are taken by the product's own files and samples; rename them")
        if self.coregister.reference is not None and self.coregister.reference not in declared:
            raise ValueError(
                f"coregister.reference is '{self.coregister.reference}'; wanted one of {sorted(declared)}"
                + did_you_mean(self.coregister.reference, declared)
            )
        if self.modalities[self.reference].table is not None:
            raise ValueError(
                f"modality '{self.reference}' is the reference and a table, which has no grid; wanted an image; set "
                "coregister.reference"
            )
        if self.modalities[self.reference].prior:
            raise ValueError(
                f"modality '{self.reference}' is the reference and has prior: true; wanted it for earlier images; "
                "set coregister.reference to the image of the day that is mapped"
            )
        for scene in self.scenes:
            if unknown := sorted((set(scene.files) | set(scene.offset) | set(scene.acquired)) - declared):
                raise ValueError(
                    f"scene '{scene.name}' names modality {unknown}; wanted only those declared: {sorted(declared)}"
                    + did_you_mean(unknown[0], declared)
                )
        for values in ([item.value for item in self.classes], [item.source for item in self.classes]):
            if len(set(values)) != len(values):
                raise ValueError(f"classes have values or label values {values}; wanted each once")
        self.train.utilization.check(declared, self.train.strategies)
        self._check_encoders(declared)
        if self.train.share_encoders:
            if self.distill is not None:
                raise ValueError("train.share_encoders is true with distill, whose students each bring an encoder")
            check_shared(self.modalities, encoder=self.train.encoder)
        if self.distill is not None:
            images = {name for name, item in self.modalities.items() if item.table is None}
            self.distill.check(images, network=self.train.network, fusion=self.train.fusion)
        degradations(self.train.degradations, modalities=self.domain_modalities())
        degradations(self.evaluate.degradations or {}, modalities=self.domain_modalities(), stage="evaluate")
        if self.predict.model is None and len(self.classes) < 2:
            raise ValueError(
                f"found {len(self.classes)} classes; wanted at least 2 to train, or a trained model in predict.model"
            )
        return self

    def _check_encoders(self, declared: set[str]) -> None:
        encoder = self.train.encoder
        if isinstance(encoder, dict) and set(encoder) != declared:
            raise ValueError(
                f"train.encoder names modalities {sorted(encoder)}; wanted each of those declared: {sorted(declared)}"
            )
        if unknown := sorted(set(self.train.weights) - declared):
            raise ValueError(f"train.weights names modality {unknown}; wanted only those declared: {sorted(declared)}")
        if unknown := sorted(set(self.train.wavelengths_nm) - declared):
            raise ValueError(f"train.wavelengths_nm names {unknown}; wanted only those declared: {sorted(declared)}")
        if self.train.deep_supervision and self.task == "classification":
            raise ValueError("train.deep_supervision is true for task: classification; wanted task: segmentation")

    @property
    def reference(self) -> str:
        """Modality that defines the grid."""
        images = (name for name, item in self.modalities.items() if item.table is None)
        return self.coregister.reference or next(images, next(iter(self.modalities)))

    def domain_modalities(self) -> tuple[Modality, ...]:
        """Return the modalities as domain types, in order."""
        return tuple(options.modality(name) for name, options in self.modalities.items())

    @property
    def sensors(self) -> dict[str, str]:
        """Modality -> the sensor that it is of."""
        return sensors_of(self.modalities)


def load_config(path: Path, *, model: Path | None = None) -> Config:
    """Read and check a configuration; relative paths in it are taken from its folder.

    Parameters
    ----------
    path
        YAML.
    model
        Model folder in the place of `predict.model`: a configuration that maps with one need not declare classes.

    Raises
    ------
    ConfigError
        If the file is missing, no YAML, or does not fit the schema; the message names every wrong key.
    """
    try:
        record = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"{path}: found no readable file ({error.strerror}); wanted a configuration; `equipoise init` writes one"
        ) from error
    except (yaml.YAMLError, ValueError) as error:
        where = " ".join(str(error).split())
        raise ConfigError(f"{path}: found text that is not YAML ({where}); wanted key: value lines; mend it") from error
    if model is not None and isinstance(record, dict) and isinstance(record.get("predict") or {}, dict):
        record["predict"] = {**(record.get("predict") or {}), "model": str(model.absolute())}
    return parse_config(record, origin=path)


def parse_config(record: Any, *, origin: Path) -> Config:
    """Check a configuration given as plain values and make its paths absolute.

    Parameters
    ----------
    record
        Nested dicts and lists, as YAML gives them.
    origin
        File that it came from: paths are relative to its folder, messages name it.

    Raises
    ------
    ConfigError
        If it does not fit the schema.
    """
    if not isinstance(record, dict):
        raise ConfigError(f"{origin}: found no settings; wanted key: value lines; `equipoise init` writes a start")
    try:
        config = Config.model_validate(record)
    except ValidationError as error:
        problems = "; ".join(_problem(item) for item in error.errors())
        raise ConfigError(f"{origin}: {problems} (`equipoise config --print` lists all options)") from error
    base = origin.parent.resolve()
    scenes = [
        scene.model_copy(
            update={
                "files": {name: _located(files, base) for name, files in scene.files.items()},
                **{key: base / value for key in _SCENE_PATHS if (value := getattr(scene, key)) is not None},
            }
        )
        for scene in config.scenes
    ]
    modalities = {
        name: item if item.dem is None else item.model_copy(update={"dem": base / item.dem})
        for name, item in config.modalities.items()
    }
    predict = config.predict.model_copy(
        update={key: base / value for key in ("model", "aoi") if (value := getattr(config.predict, key)) is not None}
    )
    return config.model_copy(update={"scenes": scenes, "predict": predict, "modalities": modalities})


def _located(files: Path | FilesOptions, base: Path) -> Path | FilesOptions:
    if isinstance(files, Path):
        return base / files
    update: dict[str, Any] = {"bands": {name: base / path for name, path in files.bands.items()}}
    for key in ("path", "quality"):
        if (value := getattr(files, key)) is not None:
            update[key] = base / value
    return files.model_copy(update=update)


_SCENE_PATHS = ("labels", "label_table", "informative")


def _problem(item: Any) -> str:
    where = ".".join(str(part) for part in item["loc"] if not str(part).startswith("function-")) or "the file"
    if item["type"] == "extra_forbidden":
        near = unknown_key(Config, tuple(item["loc"]))
        if near:
            return f"found unknown key '{where}'; {near} correct its name, or remove it"
        return f"found unknown key '{where}'; wanted only known ones; remove it or correct its name"
    if item["type"] == "missing":
        return f"found no '{where}'; wanted it"
    found = f" (found {item['input']!r})" if isinstance(item["input"], str | int | float | bool) else ""
    return f"{where}: {item['msg'].removeprefix('Value error, ')}{found}{wrong_value(item)}"
