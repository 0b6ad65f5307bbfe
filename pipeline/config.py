"""Configuration: one frozen options class a stage, loaded from YAML, unknown keys refused."""

from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ..datasets.modality import Band, Modality, Unit
from .errors import ConfigError

Slug = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=100)]
#: Names that stand for other things in samples and in the folder of an aligned scene.
RESERVED = frozenset({"mask", "label", "labels", "valid", "available", "image"})

Share = Annotated[float, Field(ge=0, le=1)]


class Options(BaseModel):
    """Base of all options: frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class BandOptions(Options):
    """One band, where its name alone does not say enough."""

    name: str = Field(description="Band name in the field's usage, for example red, VV, B10.")
    index: int | None = Field(None, ge=1, description="1-based position in the file; null: by order.")
    unit: Unit | None = Field(None, description="Unit, where it is not the modality's.")
    scale: float | None = Field(None, description="Scale, where it is not the modality's.")
    offset: float | None = Field(None, description="Offset, where it is not the modality's.")


class ModalityOptions(Options):
    """One sensor type: what the numbers in its files mean."""

    unit: Unit = Field(
        description="Unit of scale * DN + offset: reflectance, linear_power, amplitude, db, kelvin or digital_number."
    )
    bands: list[str | BandOptions] = Field(min_length=1, description="Bands in file order, or with their index.")
    scale: float = Field(1.0, description="From digital number to unit.")
    offset: float = Field(0.0, description="From digital number to unit.")
    nodata: float | None = Field(
        None, description="Digital number of no observation; null: the file's own, or zero in all bands."
    )
    resampling: Literal["nearest", "bilinear", "cubic"] = Field(
        "bilinear", description="Rule at about the same pixel size; larger target pixels are averages."
    )

    def modality(self, name: str, *, offset: float | None = None) -> Modality:
        """Return the domain type; ``offset`` replaces the declared one (a scene's own processing baseline)."""
        bands = []
        for item in self.bands:
            band = item if isinstance(item, BandOptions) else BandOptions(name=item, index=None)
            own = band.offset if band.offset is not None else self.offset
            bands.append(
                Band(
                    name=band.name,
                    unit=band.unit or self.unit,
                    index=band.index,
                    nodata=self.nodata,
                    scale=self.scale if band.scale is None else band.scale,
                    resampling=self.resampling,
                    offset=own if offset is None else offset,
                )
            )
        return Modality(name=name, bands=tuple(bands))


class ClassOptions(Options):
    """One class of the map."""

    value: int = Field(
        ge=0, le=254, description="Value in the map, and in the label rasters unless label_value is set."
    )
    label_value: int | None = Field(None, ge=0, description="Value in the label rasters, where it is another one.")
    name: str = Field(min_length=1, description="Name in legends.")
    color: str = Field(pattern=r"^#[0-9a-fA-F]{6}$", description="Colour on the map, #rrggbb.")

    @property
    def rgb(self) -> tuple[int, int, int]:
        """Red, green, blue, 0-255."""
        return int(self.color[1:3], 16), int(self.color[3:5], 16), int(self.color[5:7], 16)

    @property
    def source(self) -> int:
        """Value in the label rasters."""
        return self.value if self.label_value is None else self.label_value


class SceneOptions(Options):
    """One place, or with {id} in its file names, one place for each id found on disk."""

    name: str = Field(description="Scene name; with {id} in file names also {id} here.")
    files: dict[str, Path] = Field(description="Modality -> raster, relative to this file; may lack modalities.")
    labels: Path | None = Field(None, description="Label raster (segmentation); nodata and 255 are not counted.")
    label_table: Path | None = Field(None, description="CSV with id, label and optionally split (classification).")
    split: Literal["auto", "by_scene", "development", "train", "validation", "test", "predict"] = Field(
        "auto",
        description="auto: spatial blocks (chips with one label: by_scene); by_scene: whole scenes drawn for the three "
        "splits; development: whole scenes drawn for training and validation only; predict: maps only.",
    )
    offset: dict[str, float] = Field({}, description="Modality -> offset of this scene, replacing the modality's.")
    informative: Path | None = Field(
        None, description="Raster with the index of the modality that carries the class (invented scenes only)."
    )
    georeferenced: bool = Field(True, description="false: chips without a position that share a pixel grid.")


class CoregisterOptions(Options):
    """Bring every modality onto the reference grid."""

    reference: str | None = Field(None, description="Modality that defines the grid; null: the first one declared.")
    method: Literal["gradient", "none"] = Field(
        "gradient", description="gradient: one sub-pixel shift a modality, from edges; none: the files' own positions."
    )
    max_shift_m: float = Field(250.0, gt=0, description="Largest shift looked for, metres.")
    min_confidence: Share = Field(
        0.3, description="Below this confidence, 0 to 1, a measured shift is not applied; the file's position is kept."
    )


class TileOptions(Options):
    """Cut the aligned scenes into patches and give them to splits."""

    patch_size: int = Field(128, ge=1, description="Edge of a patch, px.")
    overlap: int = Field(0, ge=0, description="Least overlap of neighbouring patches, px.")
    min_valid: Share = Field(0.5, description="Least usable share that one modality at least must have.")
    min_labelled: Share = Field(0.1, description="Least labelled share of a training, validation or test patch.")
    block_size: int = Field(256, ge=1, description="Edge of the split blocks, px (scenes with split: auto).")
    buffer: int = Field(16, ge=0, description="Least distance between pixels of different splits, px.")
    validation: Share = Field(0.15, description="Share of blocks or scenes for validation.")
    test: Share = Field(0.2, description="Share of blocks or scenes for test.")
    normalisation: Literal["training", "scene"] = Field(
        "training",
        description="training: statistics of the training split; scene: each scene by its own (display products).",
    )

    @model_validator(mode="after")
    def _consistent(self) -> "TileOptions":
        if self.overlap >= self.patch_size:
            raise ValueError(f"overlap is {self.overlap}; wanted less than patch_size ({self.patch_size})")
        if self.validation + self.test >= 1:
            raise ValueError("validation + test leave nothing to train on; wanted a sum below 1")
        return self


class TrainOptions(Options):
    """Fit the fusion network."""

    encoder: str = Field("resnet18", description="smp or timm (tu-...) encoder, one a modality.")
    depth: int = Field(4, ge=2, le=5, description="Encoder stages.")
    decoder_channels: list[int] = Field([128, 64, 32, 16], description="Decoder widths, one a stage.")
    fusion: Literal["mean"] = Field("mean", description="mean: over the modalities present, at each scale.")
    strategy: Literal["joint", "subset_sampling"] = Field(
        "subset_sampling", description="subset_sampling: each sample sees a random subset of its modalities."
    )
    epochs: int = Field(30, ge=1, description="Passes over the training patches.")
    batch_size: int = Field(8, ge=2, description="Patches a step.")
    learning_rate: float = Field(1e-3, gt=0, description="Peak of the one-cycle schedule.")
    weight_decay: float = Field(1e-2, ge=0, description="AdamW.")
    class_weights: Literal["none", "balanced"] = Field("none", description="balanced: by inverse square-root share.")
    augment: bool = Field(True, description="Random symmetry of the square, shared by all modalities.")
    workers: int = Field(0, ge=0, description="Loader processes.")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto: a GPU where there is one.")

    @model_validator(mode="after")
    def _consistent(self) -> "TrainOptions":
        if len(self.decoder_channels) != self.depth:
            raise ValueError(
                f"decoder_channels has {len(self.decoder_channels)} values; wanted one a stage (depth: {self.depth})"
            )
        return self


class EvaluateOptions(Options):
    """Measure the network on the test split."""

    single_modality: bool = Field(
        True, description="Also train one network for each modality alone, with the same budget, to compare with."
    )
    rolls: int = Field(3, ge=1, description="Roll derangements of the permutation utilization.")
    bootstrap: int = Field(1000, ge=100, description="Resamples for the intervals.")


class PredictOptions(Options):
    """Make maps of whole scenes."""

    model: Path | None = Field(None, description="Model folder; null: the one that this run trains.")
    scenes: list[str] | None = Field(None, description="Scene names; null: all.")
    tile: int = Field(256, ge=32, description="Edge of the windows given to the network, px.")
    overlap: int = Field(64, ge=0, description="Overlap over which neighbouring windows are blended, px.")
    batch_size: int | None = Field(
        None, ge=1, description="Windows a network call; null: 1 on the CPU (fits its caches), 8 on a GPU."
    )
    reliance: Literal["none", "shapley"] = Field("shapley", description="shapley: exact, over all subsets.")
    reliance_tile: int = Field(32, ge=8, description="Edge of a pixel of the reliance map, scene px.")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto: a GPU where there is one.")

    @model_validator(mode="after")
    def _consistent(self) -> "PredictOptions":
        if self.overlap % 2 or self.overlap > self.tile // 2:
            raise ValueError(f"overlap is {self.overlap}; wanted an even number of at most tile / 2 ({self.tile // 2})")
        if (self.tile - self.overlap) % self.reliance_tile:
            raise ValueError(
                f"tile - overlap is {self.tile - self.overlap}; wanted a multiple of reliance_tile "
                f"({self.reliance_tile})"
            )
        return self


class ReportOptions(Options):
    """Write the report."""

    title: str | None = Field(None, description="Heading; null: the run's name.")
    max_scenes: int = Field(6, ge=1, description="Most scenes that are shown with pictures.")


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
    evaluate: EvaluateOptions = Field(EvaluateOptions(), description="Stage evaluate.")
    predict: PredictOptions = Field(PredictOptions(), description="Stage predict.")
    report: ReportOptions = Field(ReportOptions(), description="Stage report.")

    @model_validator(mode="after")
    def _consistent(self) -> "Config":
        declared = set(self.modalities)
        if taken := sorted(declared & RESERVED):
            raise ValueError(f"modality names {taken} are taken by the product's own files and samples; rename them")
        if self.coregister.reference is not None and self.coregister.reference not in declared:
            raise ValueError(f"coregister.reference is '{self.coregister.reference}'; wanted one of {sorted(declared)}")
        for scene in self.scenes:
            if unknown := sorted((set(scene.files) | set(scene.offset)) - declared):
                raise ValueError(
                    f"scene '{scene.name}' names modality {unknown}; wanted only those declared: {sorted(declared)}"
                )
        for values in ([item.value for item in self.classes], [item.source for item in self.classes]):
            if len(set(values)) != len(values):
                raise ValueError(f"classes have values or label values {values}; wanted each once")
        if self.predict.model is None and len(self.classes) < 2:
            raise ValueError(
                f"found {len(self.classes)} classes; wanted at least 2 to train, or a trained model in predict.model"
            )
        return self

    @property
    def reference(self) -> str:
        """Modality that defines the grid."""
        return self.coregister.reference or next(iter(self.modalities))

    def domain_modalities(self) -> tuple[Modality, ...]:
        """Return the modalities as domain types, in order."""
        return tuple(options.modality(name) for name, options in self.modalities.items())


def load_config(path: Path) -> Config:
    """Read and check a configuration; relative paths in it are taken from its folder.

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
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        where = " ".join(str(error).split())
        raise ConfigError(f"{path}: found text that is not YAML ({where}); wanted key: value lines; mend it") from error
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
                "files": {name: base / file for name, file in scene.files.items()},
                **{key: base / value for key in _SCENE_PATHS if (value := getattr(scene, key)) is not None},
            }
        )
        for scene in config.scenes
    ]
    predict = config.predict
    if predict.model is not None:
        predict = predict.model_copy(update={"model": base / predict.model})
    return config.model_copy(update={"scenes": scenes, "predict": predict})


_SCENE_PATHS = ("labels", "label_table", "informative")


def _problem(item: Any) -> str:
    where = ".".join(str(part) for part in item["loc"] if not str(part).startswith("function-")) or "the file"
    if item["type"] == "extra_forbidden":
        return f"found unknown key '{where}'; wanted only known ones; remove it or correct its name"
    if item["type"] == "missing":
        return f"found no '{where}'; wanted it"
    found = f" (found {item['input']!r})" if isinstance(item["input"], str | int | float | bool) else ""
    return f"{where}: {item['msg'].removeprefix('Value error, ')}{found}"
