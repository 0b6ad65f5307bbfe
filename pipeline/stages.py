"""The stages in order, each joined to the run folder: what it depends on, what it reads, what it leaves."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from ..datasets.normalise import Normaliser
from ..datasets.patches import PatchIndex
from ..datasets.stack import AlignedStack
from ..datasets.statistics import statistics_from_dict, statistics_to_dict
from .commented_yaml import commented_yaml
from .config import Config
from .errors import RunFolderError
from .run_folder import RunFolder, StageRecord, fingerprint, write_text
from .scenes import SceneFiles, resolve_scenes

log = logging.getLogger(__name__)

ALL_STAGES = ("coregister", "tile", "distill", "train", "evaluate", "predict", "report")

#: Stages whose command has another name.
_COMMANDS: Mapping[str, str] = {"distill": "train --stage distill"}

#: Stages of a run that makes maps with a model trained elsewhere.
MAP_STAGES = ("coregister", "predict", "report")

Work = tuple[list[Path], dict[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Run:
    """A configuration bound to a run folder.

    Attributes
    ----------
    config
        Checked configuration with absolute paths.
    folder
        Where everything is written.
    """

    config: Config
    folder: RunFolder
    _fingerprints: dict[str, str] = field(default_factory=dict, repr=False)

    @property
    def stages(self) -> tuple[str, ...]:
        """Names of the stages that this configuration needs, in order."""
        if self.config.predict.model is not None:
            return MAP_STAGES
        return tuple(stage for stage in ALL_STAGES if stage != "distill" or self.config.distill is not None)

    @cached_property
    def scenes(self) -> list[SceneFiles]:
        """Places with their files."""
        return resolve_scenes(self.config)

    @property
    def model_folder(self) -> Path:
        """The model that maps are made with."""
        return self.config.predict.model or self.folder.root / "model"

    def do(self, stage: str, *, force: bool = False) -> tuple[StageRecord, bool]:
        """Do one stage unless it is done; return its record and whether it was done now.

        Raises
        ------
        RunFolderError
            If a stage that it needs has not been done with this configuration.
        """
        if stage == "distill" and self.config.distill is None:
            raise RunFolderError(
                "found no `distill` in the configuration; wanted the sensor that teaches; add `distill: {teacher: eo}`"
            )
        if stage not in self.stages:
            raise RunFolderError(
                f"found `predict.model` in the configuration, so that stage '{stage}' has nothing to do; wanted one of "
                f"{', '.join(self.stages)}; remove `predict.model` to train"
            )
        for needed in self._needs(stage):
            if self.folder.finished(needed, self.fingerprint(needed)) is None:
                raise RunFolderError(
                    f"{self.folder.root}: found no result of stage '{needed}' for this configuration; wanted it before "
                    f"'{stage}'; run `equipoise {_COMMANDS.get(needed, needed)}`, or `equipoise run` for all stages"
                )
        action = getattr(self, f"_{stage}")
        with self.folder.locked():
            # Only now: a refused command must not change what is on record of a finished run.
            write_text(self.folder.root / "config.yaml", commented_yaml(self.config))
            return self.folder.run(stage, self.fingerprint(stage), action, force=force, scratch=_SCRATCH[stage])

    def _needs(self, stage: str) -> tuple[str, ...]:
        return {
            "coregister": (),
            "tile": ("coregister",),
            "distill": ("tile",),
            "train": ("tile",) if self.config.distill is None else ("distill",),
            "evaluate": ("train",),
            "predict": ("coregister",) if self.config.predict.model is not None else ("train",),
            "report": self.stages[:-1],
        }[stage]

    def fingerprint(self, stage: str) -> str:
        """Hash of everything that a stage's result depends on, earlier stages included."""
        if stage not in self._fingerprints:
            upstream = [self.fingerprint(needed) for needed in self._needs(stage)]
            parts = self._own_parts(stage)
            self._fingerprints[stage] = fingerprint(stage=stage, upstream=upstream, **parts)
        return self._fingerprints[stage]

    def _own_parts(self, stage: str) -> Mapping[str, Any]:
        config = self.config
        if stage == "coregister":
            named = [path for scene in self.scenes for path in scene.inputs]
            named += [item.dem for item in config.modalities.values() if item.dem is not None]
            files = [source for path in named for source in with_sources(path)]
            return {
                "options": config.coregister.model_dump(mode="json"), "reference": config.reference,
                "modalities": {name: item.model_dump(mode="json") for name, item in config.modalities.items()},
                "classes": [item.model_dump() for item in config.classes],
                "scenes": [asdict(scene) for scene in self.scenes], "inputs": self.folder.hash_inputs(files),
            }  # fmt: skip
        if stage == "tile":
            return {"options": config.tile.model_dump(mode="json"), "task": config.task, "seed": config.seed}
        if stage == "predict":
            return self._predict_parts()
        if stage == "distill":
            return self._distill_parts()
        options = getattr(config, stage).model_dump(mode="json", exclude={"device", "workers", "logs"})
        if stage == "train":
            meter = config.evaluate.model_dump(include={"rolls", "bootstrap"})
            return {"options": options, "seed": config.seed, "meter": meter}
        return {"options": options, "name": config.name}

    def _predict_parts(self) -> Mapping[str, Any]:
        wanted = self.config.predict
        parts = {
            "options": wanted.model_dump(mode="json", exclude={"device", "readers"}), "name": self.config.name,
            "aoi": None if wanted.aoi is None else self.folder.hash_inputs([wanted.aoi]),
        }  # fmt: skip
        if wanted.model is None:
            return parts
        from ..models.checkpoint import model_digest

        return {**parts, "model": model_digest(wanted.model), "size": self.config.tile.patch_size}

    def _distill_parts(self) -> Mapping[str, Any]:
        config, wanted = self.config, self.config.distill
        parts = {
            "options": None if wanted is None else wanted.model_dump(mode="json"), "seed": config.seed,
            "train": config.train.model_dump(
                mode="json", exclude={"device", "workers", "logs", "strategy", "utilization"}
            ),
            # The strategy is of the fusion network alone, but for what it makes of the networks.
            "norm": config.train.chosen_norm,
        }  # fmt: skip
        if wanted is None or wanted.model is None:
            return parts
        from ..models.checkpoint import model_digest

        return {**parts, "model": model_digest(wanted.model)}

    def _coregister(self) -> Work:
        from .coregister_scenes import coregister_scenes

        result = coregister_scenes(
            self.scenes, self.config.modalities, reference=self.config.reference, classes=self.config.classes,
            options=self.config.coregister, folder=self.folder.root / "aligned", resume=self.fingerprint("coregister"),
        )  # fmt: skip
        registrations = {
            scene: {name: asdict(item) for name, item in found.items()} for scene, found in result.registrations.items()
        }
        missing = {stack.name: dict(stack.missing) for stack in result.stacks if stack.missing}
        return list(result.outputs), {"registrations": registrations, "missing": missing}

    def _tile(self) -> Work:
        from .tile import tile

        result = tile(
            list(self.stacks.values()), self.config.domain_modalities(), classes=self.config.classes,
            task=self.config.task, options=self.config.tile, seed=self.config.seed, folder=self.folder.root,
        )  # fmt: skip
        counts = result.index.table.groupby("split").size().to_dict()
        scenes = None
        if result.scenes is not None:
            scenes = {name: statistics_to_dict(item) for name, item in result.scenes.items()}
        return list(result.outputs), {
            "patches": {split: int(count) for split, count in counts.items()},
            "statistics": statistics_to_dict(result.training), "scene_statistics": scenes,
            "uneven": list(result.uneven),
        }  # fmt: skip

    def _distill(self) -> Work:
        from .distill import DISTILLED, distill

        models = self.folder.root / DISTILLED
        figures = distill(
            self._training_data(), self.config, models=models, resume=self.fingerprint("distill"),
            checkpoints=self.folder.root / "checkpoints" / "distill",
        )  # fmt: skip
        return sorted(path for path in models.rglob("[!.]*") if path.is_file()), figures

    def _train(self) -> Work:
        from .distill import DISTILLED, begin_with_students
        from .train import train

        initial = None
        if self.config.distill is not None:
            initial = begin_with_students(self.config, models=self.folder.root / DISTILLED)
        figures = train(
            self._training_data(), self.config, model_folder=self.folder.root / "model",
            checkpoints=self.folder.root / "checkpoints" / "fusion", resume=self.fingerprint("train"),
            initial=initial,
        )  # fmt: skip
        return sorted((self.folder.root / "model").glob("[!.]*")), figures

    def _evaluate(self) -> Work:
        from .evaluate import evaluate

        path = self.folder.root / "metrics.json"
        figures = evaluate(
            self._predictor(), self._training_data(), self.config, path=path,
            checkpoints=self.folder.root / "checkpoints" / "single", resume=self.fingerprint("evaluate"),
        )  # fmt: skip
        return [path], figures

    def _predict(self) -> Work:
        from .predict_chips import predict_chips
        from .predict_scenes import predict_scenes

        wanted = self.config.predict.scenes
        stacks = [stack for name, stack in self.stacks.items() if wanted is None or name in wanted]
        folder = self.folder.root / "predictions"
        folder.mkdir(exist_ok=True)
        predictor = self._predictor()
        if predictor.network.spec.task == "classification":
            return predict_chips(
                stacks, predictor, batch_size=self.config.train.batch_size, size=self.config.tile.patch_size,
                path=folder / "chips.parquet", geopackage=self.config.predict.geopackage,
                with_contributions=self.config.predict.contributions,
            )  # fmt: skip
        informative = {scene.name: scene.informative for scene in self.scenes if scene.informative is not None}
        return predict_scenes(
            stacks, predictor, options=self.config.predict, informative=informative, folder=folder,
            resume=self.fingerprint("predict"), model=self.model_folder,
        )  # fmt: skip

    def _report(self) -> Work:
        from .report import write_report

        path = self.folder.root / "report.html"
        write_report(self.folder, self.config, stacks=self.stacks, path=path)
        return [path], {}

    @property
    def stacks(self) -> dict[str, AlignedStack]:
        """Aligned stacks by scene name, in order."""
        root = self.folder.root / "aligned"
        return {scene.name: AlignedStack.load(root / scene.name / "stack.json") for scene in self.scenes}

    def _training_data(self) -> Any:
        from ..datasets.patch_store import PatchStore
        from .tile import STORE
        from .train import TrainingData

        figures = self.folder.stages["tile"].figures
        scenes = figures["scene_statistics"]
        modalities = self.config.domain_modalities()
        return TrainingData(
            index=PatchIndex.load(self.folder.root / "patches.parquet"), stacks=self.stacks, modalities=modalities,
            classes=self.config.classes, classification=self.config.task == "classification",
            store=PatchStore(self.folder.root / STORE) if self.config.tile.store == "npy" else None,
            normaliser=Normaliser(
                modalities=modalities, training=statistics_from_dict(figures["statistics"]),
                scenes=None if scenes is None else {name: statistics_from_dict(item) for name, item in scenes.items()},
                reference=self.config.reference if self.config.train.dates else None,
            ),
        )  # fmt: skip

    def _predictor(self) -> Any:
        from ..datasets.training_statistics import scene_statistics
        from .model_folder import load_predictor

        predictor = load_predictor(self.model_folder, device=self.config.predict.device)
        if predictor.normaliser.scenes is None:
            return predictor
        modalities = predictor.normaliser.modalities
        scenes = {name: scene_statistics(stack, modalities) for name, stack in self.stacks.items()}
        return load_predictor(self.model_folder, device=self.config.predict.device, scenes=scenes)


def with_sources(path: Path) -> list[Path]:
    """Return a file, the files of a product's folder, or a virtual raster and what it is made of: all are inputs."""
    if path.is_dir():
        return sorted(file for file in path.rglob("*") if file.is_file())
    if path.suffix.lower() != ".vrt":
        return [path]
    from ..datasets.product import quiet_open

    with quiet_open(path) as source:
        return sorted({path, *(Path(name) for name in source.files if Path(name).is_file())})


#: Folders that a forced stage throws away, so that nothing of the old result is taken for the new one.
_SCRATCH: Mapping[str, tuple[str, ...]] = {
    "coregister": ("aligned",),
    "tile": ("patches", ".patches.partial", "chips", ".chips.partial"),
    "distill": ("checkpoints/distill", "distilled"),
    "train": ("checkpoints/fusion",),
    "evaluate": ("checkpoints/single",),
    "predict": ("predictions",),
    "report": (),
}

Announce = Callable[[str, StageRecord, bool], None]


def run_all(run: Run, *, force: bool, announce: Announce) -> None:
    """Do every stage in order; ``announce`` is told each stage's name, record and whether it was done now."""
    for stage in run.stages:
        record, now = run.do(stage, force=force)
        announce(stage, record, now)
