"""The commands `equipoise export ...`: models for other engines and other houses."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from .answers import Json, answer

if TYPE_CHECKING:
    from .export_check import Comparison

export = typer.Typer(help="Models for other programs: ONNX, torch.export, Hugging Face layout.", no_args_is_help=True)

Model = Annotated[Path, typer.Argument(help="Model folder, as `equipoise train` writes it.")]
Output = Annotated[Path | None, typer.Option("-o", "--output", help="File to write; default: beside the folder.")]
Check = Annotated[Path | None, typer.Option(help="Compare on real scenes, too: run folder, or stack.json.")]
Threads = Annotated[int | None, typer.Option(help="Of onnxruntime; default: the machine's cores.", min=1)]


@export.command()
def onnx(model: Model, output: Output = None, check: Check = None, as_json: Json = False) -> None:
    """Write an ONNX file, after it was compared with the model."""
    _export(model, output, check, format="onnx", as_json=as_json)


@export.command()
def torch(model: Model, output: Output = None, check: Check = None, as_json: Json = False) -> None:
    """Write a program of torch.export (.pt2), after it was compared with the model."""
    _export(model, output, check, format="torch", as_json=as_json)


@export.command()
def hub(
    model: Model,
    output: Annotated[Path, typer.Option("-o", "--output", help="New folder to write.")] = Path("hub"),
    name: Annotated[str | None, typer.Option(help="Of the model; default: the run that trained it.")] = None,
    licence: Annotated[str | None, typer.Option("--license", help="cc-by-4.0, apache-2.0; default: unknown.")] = None,
    as_json: Json = False,
) -> None:
    """Write the folder in the layout of Hugging Face's hub; nothing is sent anywhere."""
    from .export_hub import export_hub

    files = export_hub(model, output, name=name, licence=licence)
    answer([f"wrote {file}" for file in files], {"files": [str(file) for file in files]}, as_json=as_json)


@export.command()
def predict(
    model: Annotated[Path, typer.Argument(help="File that `equipoise export onnx` wrote.")],
    files: Annotated[list[str], typer.Argument(help="eo=a.tif sar=b.tif, on one grid; leave out what is missing.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Map of classes to write.")] = Path("map.tif"),
    threads: Threads = None,
    as_json: Json = False,
) -> None:
    """Map rasters with an exported ONNX file: onnxruntime alone, no torch."""
    from .export_predict import map_onnx

    maps = map_onnx(model, _named(files), output, threads=threads)
    lines = [f"wrote {maps.classes} and {maps.confidence}"]
    lines += [f"mapped without {name}: no file was given" for name in maps.missing]
    record = {"classes": maps.classes, "confidence": maps.confidence, "missing": list(maps.missing)}
    answer(lines, record, as_json=as_json)


def _export(
    model: Path, output: Path | None, check: Path | None, *, format: Literal["onnx", "torch"], as_json: bool
) -> None:
    from .export import export_model

    result = export_model(model, output, format=format, check=check)
    lines = [f"wrote {result.path}, {result.size / 1e6:.1f} MB", f"random images: {_words(result.random)}"]
    if result.scenes is not None:
        lines.append(f"scenes: {_words(result.scenes)}")
    record = {
        "path": result.path, "bytes": result.size, "random": vars(result.random),
        "scenes": None if result.scenes is None else vars(result.scenes),
    }  # fmt: skip
    answer(lines, record, as_json=as_json)


def _words(found: "Comparison") -> str:
    return (
        f"probabilities differ by at most {found.difference:.2g} from the model's in {found.cases} cases (every subset "
        f"of the sensors); the class changes at {found.changed} of {found.places} places"
    )


def _named(files: list[str]) -> dict[str, Path]:
    from .errors import ConfigError

    pairs = [text.partition("=") for text in files]
    for text, (name, mark, path) in zip(files, pairs, strict=True):
        if not (name and mark and path):
            raise ConfigError(f"found '{text}'; wanted MODALITY=FILE, for example eo=a.tif; correct it")
    return {name: Path(path) for name, _, path in pairs}
