"""Commands that look and change nothing: inspect, explain, doctor, samples."""

from pathlib import Path
from typing import Annotated

import typer

from .answers import Json, answer

#: Width of the names before what inspection says.
_KEY = 14


def inspect(
    paths: Annotated[list[Path], typer.Argument(help="Rasters, SAFE folders or their .zip, Landsat folders.")],
    json: Json = False,
) -> None:
    """Say what files are: bands, units, scale and offset, grid, time, valid and clouded shares."""
    from .inspection import inspect as look

    if not json:
        for path in paths:
            answer(look(path), {}, as_json=False)
        return
    files = []
    for path in paths:
        _, *lines = look(path)
        facts = [{"what": line[:_KEY].strip(), "found": line[_KEY:].strip()} for line in lines]
        files.append({"path": path, "facts": facts})
    answer([], {"files": files}, as_json=True)


def explain(
    paths: Annotated[list[Path], typer.Argument(help="Maps, stacks, tables, JSON files, or folders of a run.")],
    json: Json = False,
) -> None:
    """Say in words what an output contains: how to read it, its main numbers, what made it, what it is not."""
    from .explain import explain as look

    told = [look(path) for path in paths]
    answer(
        (line for item in told for line in item.lines()),
        {"files": [item.record() for item in told]},
        as_json=json,
    )


def doctor(json: Json = False) -> None:
    """Print versions, devices, threads and the data folder."""
    from .doctor import examine

    found = list(examine())
    answer((f"{name:<28} {finding}" for name, finding in found), dict(found), as_json=json)


def samples(
    table: Annotated[bool, typer.Option("--table", help="Open every scene and print what it is, as Markdown.")] = False,
    openly: Annotated[bool, typer.Option("--open", help="Only samples that may be passed on.")] = False,
    json: Json = False,
) -> None:
    """List the real samples that `equipoise demo --scene NAME` and the docs use."""
    from ..datasets.samples import SAMPLES, sample_names

    names = [name for name in sample_names() if SAMPLES[name].redistributable or not openly]
    chosen = [(name, SAMPLES[name]) for name in names]
    lines = [f"{name:<14} {item.title}\n{'':<14} {item.licence}\n{'':<14} {item.attribution}" for name, item in chosen]
    record: dict[str, object] = {
        "samples": [
            {
                "name": name, "title": item.title, "licence": item.licence, "attribution": item.attribution,
                "redistributable": item.redistributable,
            }
            for name, item in chosen
        ]
    }  # fmt: skip
    if table:
        from .sample_table import sample_table

        lines = [sample_table(names)]
        record["table"] = lines[0]
    answer(lines, record, as_json=json)
