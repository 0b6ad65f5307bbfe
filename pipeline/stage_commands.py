"""Commands that do the stages of a configuration: run, each stage alone, coregister, predict, and demo."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .answers import Json, answer

if TYPE_CHECKING:
    from collections.abc import Callable

    from .config import Config
    from .coregister_files import FilesResult
    from .run_folder import StageRecord
    from .stages import Run

ConfigFile = Annotated[Path, typer.Argument(help="Configuration (YAML); `equipoise init` writes one.")]
Output = Annotated[Path | None, typer.Option("-o", "--output", help="Run folder; default: runs/<name>.")]
Force = Annotated[bool, typer.Option("--force", help="Do it again even where nothing has changed.")]

#: Stages that take nothing but a configuration, in order, and what they do.
PLAIN_STAGES = {
    "tile": "Cut the aligned scenes into patches and give them to splits.",
    "evaluate": "Measure it on the test split, with every subset of the modalities.",
    "report": "Write one HTML page with pictures, figures and timings.",
}


def run(config: ConfigFile, output: Output = None, force: Force = False, json: Json = False) -> None:
    """Do every stage in order; resumes where it stopped."""
    _run_all(_bind(config, output), force=force, as_json=json)


def stage_command(stage: str) -> "Callable[..., None]":
    """Return the command that does one of :data:`PLAIN_STAGES`."""

    def command(config: ConfigFile, output: Output = None, force: Force = False, json: Json = False) -> None:
        bound = _bind_as_mapped(config, output) if stage == "report" else _bind(config, output)
        _run_stage(bound, stage, force=force, as_json=json)

    command.__doc__ = PLAIN_STAGES[stage]
    return command


def train(
    config: ConfigFile,
    output: Output = None,
    force: Force = False,
    stage: Annotated[
        str, typer.Option(help="fusion: the network of all sensors; distill: those that one sensor teaches.")
    ] = "fusion",
    json: Json = False,
) -> None:
    """Fit the fusion network and write the model; or, before it, let one sensor teach the others."""
    from .errors import ConfigError

    stages = {"fusion": "train", "distill": "distill"}
    if stage not in stages:
        raise ConfigError(f"found --stage {stage}; wanted one of {', '.join(stages)}; correct it")
    _run_stage(_bind(config, output), stages[stage], force=force, as_json=json)


def coregister(
    paths: Annotated[
        list[Path], typer.Argument(help="A configuration (YAML); or a reference, and files to bring onto it.")
    ],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Run folder; of files: folder to write.")
    ] = None,
    force: Force = False,
    max_shift: Annotated[float | None, typer.Option(help="Of files: largest shift looked for, m.")] = None,
    min_confidence: Annotated[float | None, typer.Option(help="Of files: least confidence, 0 to 1.")] = None,
    on_failure: Annotated[str | None, typer.Option(help="Of files: refuse, or keep the position as given.")] = None,
    unit: Annotated[list[str] | None, typer.Option(help="Of files: sar.tif=db, where a file does not tell.")] = None,
    json: Json = False,
) -> None:
    """Bring sensors onto one grid, at sub-pixel accuracy: those of a configuration, or files onto a reference."""
    from .coregister_options import file_options
    from .errors import AlignmentError

    chosen = file_options(paths, max_shift=max_shift, min_confidence=min_confidence, on_failure=on_failure, unit=unit)
    if chosen is None:
        _run_stage(_bind(paths[0], output), "coregister", force=force, as_json=json)
        return
    from .coregister_files import coregister_files, told

    options, units = chosen
    result = coregister_files(
        paths[0], paths[1:], folder=output or Path("aligned"), options=options, units=units, force=force
    )  # fmt: skip
    answer(told(result), _files_record(result), as_json=json)
    refused = [name for name, item in result.registrations.items() if item.kind == "refused"]
    if refused and options.on_failure == "refuse":
        raise AlignmentError(f"not registrable: {', '.join(refused)} (--on-failure keep takes the position as given)")


def predict(
    config: ConfigFile,
    output: Output = None,
    force: Force = False,
    bbox: Annotated[
        str | None, typer.Option(help="Map no more than min x,min y,max x,max y (longitude,latitude).")
    ] = None,
    aoi: Annotated[Path | None, typer.Option(help="Map no more than the polygons in this vector file.")] = None,
    reliance: Annotated[str | None, typer.Option(help="shapley, leave_one_out or none.")] = None,
    precision: Annotated[str | None, typer.Option(help="32, bf16 or fp16.")] = None,
    resume: Annotated[bool, typer.Option(help="Keep the finished rows of maps that were interrupted.")] = True,
    json: Json = False,
) -> None:
    """Make maps of classes, confidence and reliance; options given here come before those of the file."""
    from .predict_overrides import with_predict_options

    bound = _bind(config, output, change=lambda checked: with_predict_options(
        checked, bbox=bbox, aoi=aoi, reliance=reliance, precision=precision))  # fmt: skip
    _run_stage(bound, "predict", force=force or not resume, as_json=json)
    if (bbox is not None or aoi is not None) and not json:
        typer.echo(
            f"part        the maps in {bound.folder.root / 'predictions'} are of that part alone; `equipoise predict "
            f"{config}` makes those of the whole again"
        )


def labelled_samples(incomplete: str) -> list[str]:
    """Return the samples that begin so and have labels, for the shell."""
    from .demo import SCENES

    return [name for name in SCENES if name.startswith(incomplete)]


def demo(
    output: Output = None,
    scene: Annotated[
        str | None, typer.Option(help="A real sample; default: embedded.", autocompletion=labelled_samples)
    ] = None,
    force: Force = False,
    json: Json = False,
) -> None:
    """Run the main job on an embedded scene whose truth is known, or on a real sample."""
    from .demo import prepare_demo

    folder = output or Path("runs") / ("demo" if scene is None else f"demo-{scene}")
    _run_all(_bind(prepare_demo(folder, scene=scene), folder), force=force, as_json=json)


def _bind(path: Path, output: Path | None, *, change: "Callable[[Config], Config] | None" = None) -> "Run":
    from .config import load_config
    from .run_folder import RunFolder

    checked = load_config(path)
    checked = checked if change is None else change(checked)
    folder = RunFolder.open(output or Path("runs") / checked.name, seed=checked.seed)
    # Only now: what is wrong with the configuration is said before the seconds that torch takes to import.
    from .stages import Run

    return Run(config=checked, folder=folder)


def _bind_as_mapped(path: Path, output: Path | None) -> "Run":
    from .predict_overrides import as_last_mapped

    return _bind(path, output, change=lambda checked: as_last_mapped(checked, output or Path("runs") / checked.name))


def _run_all(bound: "Run", *, force: bool, as_json: bool) -> None:
    from .stages import run_all
    from .summary import written

    done: dict[str, Any] = {}

    def announce(stage: str, record: "StageRecord", now: bool) -> None:
        done[stage] = _stage_record(record, now)
        typer.echo(_stage_line(stage, record, now), err=as_json)

    run_all(bound, force=force, announce=announce)
    root = bound.folder.root
    record = {"folder": root, "model": bound.model_folder, "report": root / "report.html", "stages": done}
    answer(written(bound), record, as_json=as_json)


def _run_stage(bound: "Run", stage: str, *, force: bool, as_json: bool) -> None:
    record, now = bound.do(stage, force=force)
    result = {"folder": bound.folder.root, "stage": stage, **_stage_record(record, now)}
    answer([_stage_line(stage, record, now)], result, as_json=as_json)


def _stage_line(stage: str, record: "StageRecord", now: bool) -> str:
    from .summary import summary

    state = f"{record.seconds:.1f} s" if now else "unchanged"
    return f"{stage:<11} {state:>10}  {summary(stage, record.figures)}"


def _stage_record(record: "StageRecord", now: bool) -> dict[str, Any]:
    return {
        "now": now, "seconds": record.seconds, "finished": record.finished, "outputs": sorted(record.outputs),
        "figures": dict(record.figures),
    }  # fmt: skip


def _files_record(result: "FilesResult") -> dict[str, Any]:
    from dataclasses import asdict

    return {
        "registrations": {name: asdict(item) for name, item in result.registrations.items()},
        "outputs": dict(result.outputs), "page": result.page, "now": result.fresh,
    }  # fmt: skip
