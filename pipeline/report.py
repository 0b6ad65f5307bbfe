"""Stage report: one self-contained HTML page, from what the other stages saved."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from odc.geo.crs import CRS

from .. import __version__
from ..datasets.stack import AlignedStack
from . import alternatives, figures
from .config import Config
from .evaluation_page import embed, evaluation_page
from .page import rendered
from .registration_page import report_pictures
from .registration_views import rgb_of
from .registration_words import summary_cells
from .report_headline import headline
from .report_methods import methods
from .run_folder import RunFolder, StageRecord, package_versions, write_text
from .scene_options import ClassOptions
from .trust import FLAG_COLOURS, FLAG_NAMES
from .verdict import beaten_words, undecided_words, useless_words

#: Largest edge in pixels of the map pictures: read from overviews, never a whole scene.
PICTURE_EDGE = 640


def write_report(folder: RunFolder, config: Config, *, stacks: Mapping[str, AlignedStack], path: Path) -> None:
    """Write the report of a run.

    Parameters
    ----------
    folder
        Run folder whose stages are finished.
    config
        Its configuration.
    stacks
        Aligned scenes.
    path
        HTML file to write; it holds its pictures and needs no other file and no network.
    """
    stages = folder.stages
    paragraphs, sources = methods(config, stages)
    page = rendered(
        "report.html",
        title=config.report.title or config.name,
        version=__version__,
        config=config,
        headline=headline(
            None if "predict" not in stages else stages["predict"].figures,
            units={name: str(item.unit) for name, item in config.modalities.items()},
            part=_part(config),
        ),
        useless=useless_words(stages["evaluate"].figures) if "evaluate" in stages else None,
        beaten=beaten_words(stages["evaluate"].figures) if "evaluate" in stages else None,
        uneven=stages["tile"].figures.get("uneven", ()) if "tile" in stages else (),
        undecided=undecided_words(stages["evaluate"].figures) if "evaluate" in stages else None,
        scenes=[_scene(stack, folder, config) for stack in _shown(stacks, config)],
        hidden=max(0, len(stacks) - config.report.max_scenes),
        count=len(stacks),
        evaluation=evaluation_page(stages["evaluate"].figures, config) if "evaluate" in stages else None,
        training=_training(stages.get("train")),
        prediction=_prediction(stages.get("predict")),
        patches=stages["tile"].figures["patches"] if "tile" in stages else None,
        methods=paragraphs,
        sources=sources,
        provenance=_provenance(folder),
        legend=_classes(folder, config),
        trust_legend=[(name, "rgb({}, {}, {})".format(*FLAG_COLOURS[flag])) for flag, name in FLAG_NAMES.items()],
    )
    write_text(path, page)


def _part(config: Config) -> str | None:
    """Say what the maps were asked for, where it is less than everything."""
    wanted = config.predict
    if wanted.bbox is not None:
        return f"the box {', '.join(f'{value:g}' for value in wanted.bbox)}"
    return None if wanted.aoi is None else f"the polygons of {wanted.aoi.name}"


def _provenance(folder: RunFolder) -> dict[str, Any]:
    """Return what the run was made with: stages, versions, seed, and the hashes of what went in."""
    return {
        "seed": folder.seed,
        "timings": [(name, record.seconds, record.finished) for name, record in folder.stages.items()],
        "versions": package_versions(),
        "inputs": [(Path(path).name, size, digest) for path, (size, _, digest) in sorted(folder.hashes.items())],
    }


def _shown(stacks: Mapping[str, AlignedStack], config: Config) -> list[AlignedStack]:
    chosen = [stack for stack in stacks.values() if stack.split in ("test", "predict")] or list(stacks.values())
    return chosen[: config.report.max_scenes]


def _scene(stack: AlignedStack, folder: RunFolder, config: Config) -> dict[str, Any]:
    record = folder.stages["coregister"].figures["registrations"][stack.name]
    predicted = folder.stages["predict"].figures if "predict" in folder.stages else {}
    return {
        "name": stack.name,
        "size": f"{stack.geobox.shape.x} x {stack.geobox.shape.y} px",
        "crs": "no position" if stack.geobox.crs is None else _crs_name(stack.geobox.crs),
        "missing": dict(stack.missing),
        "registrations": {name: summary_cells(item) for name, item in record.items()},
        "alignments": report_pictures(folder.root / "aligned" / stack.name),
        "looks": _quicklooks(stack, folder, config),
        "maps": _maps(stack, folder, config),
        "alternatives": alternatives.maps(stack.name, predicted.get("scenes", {}).get(stack.name)),
        "figures": predicted.get("scenes", {}).get(stack.name),
    }


def _crs_name(crs: CRS) -> str:
    return f"EPSG:{crs.epsg}" if crs.epsg is not None else str(crs.proj.name)


def _quicklooks(stack: AlignedStack, folder: RunFolder, config: Config) -> list[tuple[str, list[tuple[str, str]]]]:
    """Modality, and its pictures before and after alignment."""
    result = []
    with np.load(folder.root / "aligned" / stack.name / "quicklooks.npz", allow_pickle=False) as looks:
        for name in stack.present:
            bands = config.domain_modalities()[tuple(config.modalities).index(name)].band_names
            views = [
                (moment, embed(figures.picture(figures.display(looks[f"{name} {moment}"], rgb=rgb_of(bands)))))
                for moment in ("before", "after")
                if f"{name} {moment}" in looks.files
            ]
            result.append((name, views))
    return result


def _maps(stack: AlignedStack, folder: RunFolder, config: Config) -> list[tuple[str, str]]:
    root, result = folder.root / "predictions", []
    colours = {item.value: item.rgb for item in _classes(folder, config)}
    if stack.labels is not None:
        labels = _overview(stack.labels)[0].astype(np.uint8)
        result.append(("labels", embed(figures.class_picture(labels, colours=colours))))
    kept = set(folder.stages["predict"].outputs) if "predict" in folder.stages else set()
    if f"predictions/{stack.name}.classes.tif" in kept:
        path = root / f"{stack.name}.classes.tif"
        values = _overview(path)[0].astype(np.uint8)
        result.append(("prediction", embed(figures.class_picture(values, colours=colours))))
        path = root / f"{stack.name}.confidence.tif"
        result.append(("confidence", embed(figures.confidence_picture(_overview(path)[0]))))
    if f"predictions/{stack.name}.reliance.tif" in kept:
        path = root / f"{stack.name}.reliance.tif"
        with rasterio.open(path) as source:
            names = [str(name) for name in source.descriptions]
        result.append(("reliance", embed(figures.reliance_picture(_overview(path), modalities=names))))
    if f"predictions/{stack.name}.trust.tif" in kept:
        flags = _overview(root / f"{stack.name}.trust.tif")[0].astype(np.uint8)
        result.append(("trust", embed(figures.flag_picture(flags, colours=FLAG_COLOURS, names=FLAG_NAMES))))
    return result


def _classes(folder: RunFolder, config: Config) -> Sequence[ClassOptions]:
    """Classes of the maps: the model's, which may come from another run."""
    record = folder.stages.get("predict")
    if record is not None and "classes" in record.figures and isinstance(record.figures["classes"], list):
        return [ClassOptions.model_validate(item) for item in record.figures["classes"]]
    return config.classes


def _overview(path: Path) -> NDArray[np.float32]:
    with rasterio.open(path) as source:
        step = max(1, -(-max(source.shape) // PICTURE_EDGE))
        shape = (source.count, -(-source.height // step), -(-source.width // step))
        values: NDArray[np.float32] = source.read(out_shape=shape).astype(np.float32)
    return values


def _training(record: StageRecord | None) -> dict[str, Any] | None:
    if record is None:
        return None
    return {
        "curve": embed(figures.history_curve(record.figures["history"])),
        "words": alternatives.history(record.figures["history"]),
        "best_epoch": record.figures["best_epoch"] + 1,
        "best_score": record.figures["best_score"],
        "parameters": record.figures["parameters"],
        "model": record.figures["model"],
    }


def _prediction(record: StageRecord | None) -> dict[str, Any] | None:
    return None if record is None else dict(record.figures)
