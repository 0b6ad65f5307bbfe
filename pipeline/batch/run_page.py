"""Run page: one self-contained HTML page of what a batch run mapped, on what, what failed, and where its time went."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from geopandas import GeoDataFrame

from ... import __version__
from ..evaluation_page import embed
from ..page import rendered
from ..run_folder import write_text
from . import run_figures, run_words
from .map_places import place_words, places
from .mosaic_quicklooks import quicklooks, rgb
from .progress_map import state_map
from .run_units import RunUnits
from .unit_outlines import Outlines

#: The page's file.
PAGE = "report.html"


def write_run_page(
    out: Path,
    *,
    name: str,
    ledger: GeoDataFrame,
    manifest: Mapping[str, Any],
    summaries: Mapping[str, GeoDataFrame],
    mosaics: Sequence[Path],
) -> Path:
    """Write the page of a run, finished or not.

    Parameters
    ----------
    out
        Folder of the run.
    name
        Title of the page.
    ledger
        Its units, all of them, with the columns of the layer ``units`` of ``ledger.gpkg``.
    manifest
        Content of ``batch.json``.
    summaries
        What the rows are (regions, administrative units) -> table of them; whatever columns it has are shown.
    mosaics
        Maps of regions, ``<region>.<kind>.tif``; pictures come from their overviews.

    Returns
    -------
    ``out/report.html``; it holds its pictures and needs no other file and no network.
    """
    units = RunUnits.read(ledger, manifest)
    classes = [item for item in _model(manifest).get("classes") or [] if isinstance(item, Mapping)]
    page = rendered(
        "batch.html",
        title=name, version=__version__, headline=run_words.headline(units), cards=run_words.cards(units),
        states=run_words.state_words(units), pictures=_pictures(units), maps=_maps(units),
        failures=run_words.failure_rows(ledger), more_failures=max(0, units.count("failed") - run_words.LISTED),
        empty=run_words.empty_reasons(ledger)[: run_words.LISTED], empty_count=units.count("empty"),
        more_empty=max(0, len(run_words.empty_reasons(ledger)) - run_words.LISTED),
        tables={str(what): run_words.summary_table(frame) for what, frame in summaries.items() if len(frame)},
        looks=quicklooks(mosaics, classes), legend=[(item.get("name", "-"), _css(item)) for item in classes],
        times=run_words.time_words(units), workers=run_words.worker_rows(units)[: run_words.LISTED],
        more_workers=max(0, len(run_words.worker_rows(units)) - run_words.LISTED), charted=run_figures.WORKERS,
        provenance=_provenance(manifest),
    )  # fmt: skip
    write_text(out / PAGE, page)
    return out / PAGE


def _pictures(units: RunUnits) -> dict[str, str]:
    """Return the pictures for which there are numbers, as addresses that hold them."""
    pictures = {} if units.ledger.geometry.isna().all() else {"states": state_map(units.ledger)}
    if np.isfinite(units.seconds).any():
        pictures["seconds"] = run_figures.seconds_histogram(units)
    if hours := run_words.hours_by_part(units):
        pictures["parts"] = run_figures.part_bars(hours)
    if units.charted.any():
        pictures["work"] = run_figures.work_chart(units)
    return {kind: embed(picture) for kind, picture in pictures.items()}


def _maps(units: RunUnits) -> dict[str, list[tuple[str, str]]]:
    """Return kind of map -> place in words, and picture, of each place that has numbers for it."""
    shown = places(Outlines.of(units.ledger))
    kinds = {
        "reliance": (units.shares, run_figures.reliance_maps), "sureness": (units.confidence, run_figures.sureness_maps)
    }  # fmt: skip
    found: dict[str, list[tuple[str, str]]] = {kind: [] for kind in kinds}
    for place in shown:
        here = units.state("done") & np.isin(np.arange(len(units.ledger)), place.owner)
        for kind, (values, draw) in kinds.items():
            if np.isfinite(values[here]).any():
                found[kind].append((place_words(place) if len(shown) > 1 else "", embed(draw(units, place))))
    return found


def _provenance(manifest: Mapping[str, Any]) -> dict[str, list[tuple[str, str]]]:
    """Return title -> rows of what the run was made with."""
    model = {key: value for key, value in _model(manifest).items() if key != "classes"}
    rest = {key: manifest[key] for key in ("equipoise", "seed", "regions") if key in manifest}
    parts = {
        "run": {**rest, "grid": manifest.get("grid") or {}}, "model": model,
        "options": manifest.get("options") or {}, "versions": manifest.get("versions") or {},
    }  # fmt: skip
    return {title: rows for title, record in parts.items() if (rows := list(run_words.plain_rows(record)))}


def _model(manifest: Mapping[str, Any]) -> Mapping[str, Any]:
    model = manifest.get("model")
    return model if isinstance(model, Mapping) else {}


def _css(item: Mapping[str, Any]) -> str:
    """Return a colour as CSS, made of nothing but three numbers."""
    return "rgb({}, {}, {})".format(*rgb(item.get("color")))
