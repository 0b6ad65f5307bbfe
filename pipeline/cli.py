"""Command line: each command loads a configuration, calls a stage, and says what was written where."""

import logging
import os
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .. import __version__
from .allocator import few_arenas
from .batch_command import batch
from .export_command import export

if TYPE_CHECKING:
    from collections.abc import Callable

    from .config import Config
    from .run_folder import StageRecord
    from .stages import Run

app = typer.Typer(
    name="equipoise",
    help="Fuse optical, radar and infrared imagery with a sensor reliance that you choose.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

ConfigFile = Annotated[Path, typer.Argument(help="Configuration (YAML); `equipoise init` writes one.")]
Output = Annotated[Path | None, typer.Option("-o", "--output", help="Run folder; default: runs/<name>.")]
Force = Annotated[bool, typer.Option("--force", help="Do it again even where nothing has changed.")]
TEMPLATES = ("landcover", "flood", "chips")

#: Exit code of a command that Ctrl-C ended (128 + SIGINT).
INTERRUPTED = 130


@app.callback(invoke_without_command=True)
def _start(
    version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False,
    verbose: Annotated[bool, typer.Option("-v", "--verbose", help="Say more of what happens.")] = False,
) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit
    logging.basicConfig(level=logging.INFO if verbose else logging.WARNING, format="%(message)s", stream=sys.stderr)
    # Threads that spin while they wait make a training step ten times slower where another process wants the cores.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    few_arenas()
    # GDAL's own default is a twentieth of the machine's memory: stages stay bounded on small machines, too.
    os.environ.setdefault("GDAL_CACHEMAX", "256")
    # GDAL's own words for a broken file come before ours and say less; ours carry them.
    logging.getLogger("rasterio").setLevel(logging.INFO if verbose else logging.CRITICAL)
    # The same of the network: what it says of each try comes before our one line.
    logging.getLogger("urllib3").setLevel(logging.INFO if verbose else logging.ERROR)
    if not verbose:
        warnings.simplefilter("ignore")


@app.command()
def run(config: ConfigFile, output: Output = None, force: Force = False) -> None:
    """Do every stage in order; resumes where it stopped."""
    bound = _bind(config, output)
    from .stages import run_all

    run_all(bound, force=force, announce=_announce)
    _final(bound)


def _stage_command(stage: str, text: str) -> None:
    def command(config: ConfigFile, output: Output = None, force: Force = False) -> None:
        record, now = _bind(config, output).do(stage, force=force)
        _announce(stage, record, now)

    command.__doc__ = text
    app.command(name=stage)(command)


for _name, _text in {
    "tile": "Cut the aligned scenes into patches and give them to splits.",
    "train": "Fit the fusion network and write the model.",
    "evaluate": "Measure it on the test split, with every subset of the modalities.",
    "report": "Write one HTML page with pictures, figures and timings.",
}.items():
    _stage_command(_name, _text)


@app.command()
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
) -> None:
    """Bring sensors onto one grid, at sub-pixel accuracy: those of a configuration, or files onto a reference."""
    from .coregister_options import file_options

    chosen = file_options(paths, max_shift=max_shift, min_confidence=min_confidence, on_failure=on_failure, unit=unit)
    if chosen is None:
        record, now = _bind(paths[0], output).do("coregister", force=force)
        _announce("coregister", record, now)
        return
    from .coregister_files import coregister_files, told

    options, units = chosen
    result = coregister_files(
        paths[0], paths[1:], folder=output or Path("aligned"), options=options, units=units, force=force
    )  # fmt: skip
    for line in told(result):
        typer.echo(line)
    refused = [name for name, item in result.registrations.items() if item.kind == "refused"]
    if refused and options.on_failure == "refuse":
        typer.echo(
            f"equipoise: not registrable: {', '.join(refused)} (--on-failure keep takes the position as given)",
            err=True,
        )
        raise typer.Exit(1)


@app.command()
def predict(
    config: ConfigFile,
    output: Output = None,
    force: Force = False,
    bbox: Annotated[str | None, typer.Option(help="Map no more than min x,min y,max x,max y.")] = None,
    aoi: Annotated[Path | None, typer.Option(help="Map no more than the polygons in this vector file.")] = None,
    reliance: Annotated[str | None, typer.Option(help="shapley, leave_one_out or none.")] = None,
    precision: Annotated[str | None, typer.Option(help="32, bf16 or fp16.")] = None,
    resume: Annotated[bool, typer.Option(help="Keep the finished rows of maps that were interrupted.")] = True,
) -> None:
    """Make maps of classes, confidence and reliance; options given here come before those of the file."""
    from .predict_overrides import with_predict_options

    bound = _bind(config, output, change=lambda checked: with_predict_options(
        checked, bbox=bbox, aoi=aoi, reliance=reliance, precision=precision))  # fmt: skip
    record, now = bound.do("predict", force=force or not resume)
    _announce("predict", record, now)


@app.command()
def acquire(
    aoi: Annotated[Path, typer.Option(help="Area: GeoJSON or another vector file.")],
    dates: Annotated[str, typer.Option(help="Period: 2021-07-01/2021-07-31.")],
    catalog: Annotated[str, typer.Option(help="STAC search API (http...), or a static catalog on disk.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for assets and stacks.")] = Path("acquired"),
    sensors: Annotated[str, typer.Option(help="Modalities, the reference first: eo, sar, ir.")] = "",
    collections: Annotated[list[str] | None, typer.Option(help="eo=sentinel-2-l2a; best first.")] = None,
    bands: Annotated[list[str] | None, typer.Option(help="eo=blue,green,red,nir.")] = None,
    unit: Annotated[list[str] | None, typer.Option(help="sar=db, where it is not the sensor's usual.")] = None,
    scale: Annotated[list[str] | None, typer.Option(help="eo=0.0001, in the place of the item's.")] = None,
    offset: Annotated[list[str] | None, typer.Option(help="eo=-0.1, in the place of the item's.")] = None,
    nodata: Annotated[list[str] | None, typer.Option(help="eo=0, in the place of the file's.")] = None,
    max_gap: Annotated[str, typer.Option(help="Longest time between sensors: 3d, 12h.")] = "3d",
    max_cloud: Annotated[float, typer.Option(help="Largest claimed cloud share, 0 to 1.")] = 0.4,
    min_coverage: Annotated[float, typer.Option(help="Least claimed share of the area, 0 to 1.")] = 0.5,
    resolution: Annotated[float, typer.Option(help="Pixel size, m.")] = 10.0,
    limit: Annotated[int, typer.Option(help="Most pairs, best first.")] = 1,
    allow_network: Annotated[bool, typer.Option(help="A catalog on disk may name files on the network.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List the pairs; fetch and write nothing.")] = False,
) -> None:
    """Search a catalog for an area and a period, pair sensors in time, fetch and align them; resumes."""
    from .acquire import acquire as do
    from .acquire_options import acquire_options
    from .acquire_summary import acquired

    options = acquire_options(
        dates=dates, sensors=sensors, collections=collections, bands=bands, unit=unit, scale=scale, offset=offset,
        nodata=nodata, max_gap=max_gap, max_cloud=max_cloud, min_coverage=min_coverage, resolution=resolution,
        limit=limit, allow_network=allow_network,
    )  # fmt: skip
    for line in acquired(do(aoi, catalog, options, folder=output, dry_run=dry_run), dry_run=dry_run):
        typer.echo(line)


app.command()(batch)
app.add_typer(export, name="export")


@app.command()
def init(
    path: Annotated[Path, typer.Argument(help="File to write.")] = Path("config.yaml"),
    template: Annotated[str, typer.Option(help=f"One of {', '.join(TEMPLATES)}.")] = TEMPLATES[0],
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
) -> None:
    """Write a commented configuration to start from."""
    from .commented_yaml import commented_yaml
    from .errors import ConfigError
    from .run_folder import write_text
    from .templates import template_config

    if template not in TEMPLATES:
        raise ConfigError(f"found no template '{template}'; wanted one of {', '.join(TEMPLATES)}")
    if path.is_dir() or not path.parent.is_dir():
        raise ConfigError(f"{path}: found no place for a file; wanted a file name in a folder that exists; correct it")
    if path.exists() and not force:
        raise ConfigError(f"{path}: found a file that exists; wanted a new name; add --force to replace it")
    write_text(path, commented_yaml(template_config(template)))
    typer.echo(f"wrote {path}; put your files' names under `scenes`, then: equipoise validate {path}")


@app.command()
def config(
    print_: Annotated[bool, typer.Option("--print", help="Print all options with defaults and descriptions.")] = False,
    path: Annotated[Path | None, typer.Argument(help="Print this configuration in full instead.")] = None,
) -> None:
    """Print all options with defaults, units and descriptions."""
    from .commented_yaml import commented_yaml
    from .config import load_config
    from .templates import template_config

    del print_  # printing is all that this command does; the flag is what people type
    typer.echo(commented_yaml(load_config(path) if path else template_config(TEMPLATES[0])), nl=False)


@app.command()
def validate(config: ConfigFile) -> None:
    """Say what is wrong with a configuration or its inputs before anything runs."""
    from .config import load_config
    from .validate import validate_inputs

    problems, scenes = validate_inputs(load_config(config))
    for problem in problems:
        typer.echo(problem, err=True)
    if problems:
        typer.echo(f"{config}: {len(problems)} problem(s) in {scenes} scene(s)", err=True)
        raise typer.Exit(1)
    typer.echo(f"{config}: {scenes} scene(s), nothing wrong found")


@app.command()
def inspect(
    paths: Annotated[list[Path], typer.Argument(help="Rasters, SAFE folders or their .zip, Landsat folders.")],
) -> None:
    """Say what files are: bands, units, scale and offset, grid, time, valid and clouded shares."""
    from .inspection import inspect as look

    for path in paths:
        for line in look(path):
            typer.echo(line)


@app.command()
def doctor() -> None:
    """Print versions, devices, threads and the data folder."""
    from .doctor import examine

    for name, finding in examine():
        typer.echo(f"{name:<28} {finding}")


@app.command()
def samples(
    table: Annotated[bool, typer.Option("--table", help="Open every scene and print what it is, as Markdown.")] = False,
    openly: Annotated[bool, typer.Option("--open", help="Only samples that may be passed on.")] = False,
) -> None:
    """List the real samples that `equipoise demo --scene NAME` and the docs use."""
    from ..datasets.samples import SAMPLES, sample_names

    names = [name for name in sample_names() if SAMPLES[name].redistributable or not openly]
    if table:
        from .sample_table import sample_table

        typer.echo(sample_table(names))
        return
    for name in names:
        sample = SAMPLES[name]
        typer.echo(f"{name:<14} {sample.title}\n{'':<14} {sample.licence}\n{'':<14} {sample.attribution}")


@app.command()
def demo(
    output: Output = None,
    scene: Annotated[str | None, typer.Option(help="A real sample; default: embedded.")] = None,
    force: Force = False,
) -> None:
    """Run the main job on an embedded scene whose truth is known, or on a real sample."""
    from .demo import prepare_demo

    folder = output or Path("runs") / ("demo" if scene is None else f"demo-{scene}")
    bound = _bind(prepare_demo(folder, scene=scene), folder)
    from .stages import run_all

    run_all(bound, force=force, announce=_announce)
    _final(bound)


def _bind(path: Path, output: Path | None, *, change: "Callable[[Config], Config] | None" = None) -> "Run":
    from .config import load_config
    from .run_folder import RunFolder

    checked = load_config(path)
    checked = checked if change is None else change(checked)
    folder = RunFolder.open(output or Path("runs") / checked.name, seed=checked.seed)
    # Only now: what is wrong with the configuration is said before the seconds that torch takes to import.
    from .stages import Run

    return Run(config=checked, folder=folder)


def _announce(stage: str, record: "StageRecord", now: bool) -> None:
    from .summary import summary

    state = f"{record.seconds:.1f} s" if now else "unchanged"
    typer.echo(f"{stage:<11} {state:>10}  {summary(stage, record.figures)}")


def _final(bound: "Run") -> None:
    from .summary import written

    for line in written(bound):
        typer.echo(line)


def main() -> None:
    """Run the command line; every expected failure is one line on standard error and a non-zero exit."""
    try:
        app(standalone_mode=True)
    except SystemExit as stop:
        # Typer turns Ctrl-C into this code without a word.
        if stop.code == INTERRUPTED:
            typer.echo("interrupted; the same command goes on where it stopped", err=True)
        raise
    except Exception as error:
        if os.environ.get("EQUIPOISE_DEBUG"):
            raise
        typer.echo(f"equipoise: {_one_line(error)}", err=True)
        sys.exit(1)


def _one_line(error: Exception) -> str:
    from ..datasets.errors import DatasetError
    from ..models.errors import ModelError
    from .errors import PipelineError

    text = " ".join(str(error).split())
    if isinstance(error, DatasetError | ModelError | PipelineError):
        return text
    if isinstance(error, OSError):
        place = f"{error.filename}: " if error.filename else ""
        return f"{place}found a file or folder that cannot be used ({error.strerror or text}); check it"
    if type(error).__module__.startswith("rasterio"):
        return f"found a raster that cannot be read or written ({text}); check the file, and the space left on the disk"
    return (
        f"found an unexpected {type(error).__name__} ({text}); this is a fault of Equipoise: set EQUIPOISE_DEBUG=1 and "
        "report what it prints"
    )
