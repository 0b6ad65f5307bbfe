"""Export: a model folder becomes one file that other engines run, after it was compared with the model."""

from dataclasses import dataclass
from pathlib import Path

from .errors import PipelineError
from .export_check import Comparison, compare, random_windows, read_stacks, scene_windows
from .export_format import SUFFIXES, Exported, Format, description, export_form, require_onnx, write_graph
from .model_folder import load_predictor

#: Largest difference of a probability at which an exported model passes for the model.
TOLERANCE = 1e-4


@dataclass(frozen=True, kw_only=True)
class ExportResult:
    """What an export came to.

    Attributes
    ----------
    path
        The file.
    size
        Its size in bytes.
    random
        How it compares on random images.
    scenes
        How it compares on the given scenes; None without any.
    """

    path: Path
    size: int
    random: Comparison
    scenes: Comparison | None


def export_model(
    folder: Path, output: Path | None, *, format: Format, check: Path | None = None, tolerance: float = TOLERANCE
) -> ExportResult:
    """Export a model folder, and compare what was written with the model, before it gets its name.

    Parameters
    ----------
    folder
        As written by :func:`~equipoise.pipeline.train.train`.
    output
        File to write; None: the folder's name with the suffix of the format, beside it.
    format
        ``onnx`` or ``torch``.
    check
        Aligned scenes to compare on, too: a run folder, a folder of stacks, or a stack.json.
    tolerance
        Largest difference of a probability that passes.

    Raises
    ------
    PipelineError
        If the packages are missing, or the file says something else than the model; then nothing is written.
    """
    if format == "onnx":
        require_onnx()
    suffix = SUFFIXES[format]
    path = folder.parent / f"{folder.name}{suffix}" if output is None else output
    if path.suffix != suffix or path.is_dir():
        raise PipelineError(f"{path}: found another kind of name; wanted a file that ends in {suffix}; correct -o")
    stacks = [] if check is None else read_stacks(check)
    predictor = load_predictor(folder, device="cpu")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.part{suffix}")
    try:
        write_graph(export_form(predictor), temporary, format=format, record=description(predictor))
        exported = Exported(temporary, format=format)
        random = compare(predictor, exported, random_windows(predictor))
        scenes = compare(predictor, exported, scene_windows(predictor, stacks)) if stacks else None
        for found in (random, scenes):
            if found is not None and not found.difference <= tolerance:
                raise PipelineError(
                    f"found probabilities that differ by {found.difference:.2g} from the model's; wanted at most "
                    f"{tolerance:g}; nothing was written; report the model's encoder and fusion"
                )
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return ExportResult(path=path, size=path.stat().st_size, random=random, scenes=scenes)
