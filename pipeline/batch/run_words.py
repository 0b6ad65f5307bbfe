"""Run words: what a run came to, in sentences and rows of tables, from its units' numbers."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd
from geopandas import GeoDataFrame

from ..trust import percent
from .run_units import PARTS, STATES, RunUnits

#: Failures, groups of empty units and workers that are listed, each.
LISTED = 50

#: Rows of a table of regions.
ROWS = 200

#: Letters of a text that others wrote.
_LETTERS = 300

_GAP = "\N{NO-BREAK SPACE}"


def headline(units: RunUnits) -> str:
    """Say in one sentence what a run came to."""
    done, total = units.count("done"), len(units.ledger)
    to_do = units.count("pending") + units.count("running")
    if done:
        parts = [f"Mapped {area(units.mapped_km2.sum())} in {number(done)} of {of_units(total)}"]
        shares = units.reliance()
        doubtful = units.mean(units.doubtful)
        if shares:
            name, share = next(iter(shares.items()))
            parts.append(f"the maps rest {_percent(share)} on {name}")
        if doubtful is not None:
            parts.append(f"{_percent(doubtful)} of the area rests on doubtful input")
    else:
        parts = [f"Nothing is mapped{' yet' if to_do else ''}: none of {of_units(total)} is done"]
    if empty := units.count("empty"):
        parts.append(f"{of_units(empty)} {'was' if empty == 1 else 'were'} empty")
    if failed := units.count("failed"):
        parts.append(f"{of_units(failed)} failed")
    if to_do:
        parts.append(f"{of_units(to_do)} {'is' if to_do == 1 else 'are'} to do")
    return "; ".join(parts) + "."


def state_words(units: RunUnits) -> str:
    """Say how many units are in each state that occurs: what a picture of them shows."""
    return ", ".join(f"{number(units.count(state))} {state}" for state in STATES if units.count(state)) or "no units"


def cards(units: RunUnits) -> list[tuple[str, str]]:
    """Return figures and what they are of, the most important first."""
    found = [(area(units.mapped_km2.sum()), "mapped"), (number(units.count("done")), "units done")]
    found += [(_percent(share), f"of the maps rests on {name}") for name, share in units.reliance().items()]
    if (confidence := units.mean(units.confidence)) is not None:
        found.append((f"{confidence:.2f}", "mean confidence"))
    if (doubtful := units.mean(units.doubtful)) is not None:
        found.append((_percent(doubtful), "of the area on doubtful input"))
    found.append((number(units.count("failed")), "units failed"))
    if (hours := units.hours_at_work()) > 0 and units.count("done"):
        found.append((f"{area(units.mapped_km2.sum() / hours)}", "an hour"))
    return found


def hours_by_part(units: RunUnits) -> dict[str, float]:
    """Return the hours of workers by part of the work, and what no part accounts for."""
    hours = {name: float(np.nansum(units.timings[:, column])) / 3600 for column, name in enumerate(PARTS)}
    timed = np.isfinite(units.timings).any(axis=1)
    rest = float(np.nansum(units.seconds[timed])) / 3600 - sum(hours.values())
    return {**hours, "other": max(rest, 0.0)} if sum(hours.values()) > 0 else {}


def time_words(units: RunUnits) -> list[str]:
    """Say in sentences how long the work took, how fast it went and how much memory it needed."""
    lines = []
    hours, worked = units.hours_at_work(), float(np.nansum(units.seconds)) / 3600
    if hours > 0 and units.count("done"):
        rate = area(units.mapped_km2.sum() / hours)
        lines.append(f"Workers were at it for {duration(hours)}, and mapped {rate} an hour, pauses not counted.")
    if worked > 0:
        lines.append(f"All workers together worked {duration(worked)} on what came of it.")
    if np.isfinite(units.peak_mib).any():
        most, middle = _gibibytes(np.nanmax(units.peak_mib)), _gibibytes(np.nanmedian(units.peak_mib))
        lines.append(f"A worker held {most} of memory at most, and {middle} at the middle unit.")
    return lines


def worker_rows(units: RunUnits) -> list[dict[str, str]]:
    """Return a row a worker, those with the most units first."""
    names = units.ledger["worker"].fillna("").astype(str).to_numpy()
    found = [(name, names == name) for name in np.unique(names) if name]
    found.sort(key=lambda item: -int((item[1] & units.state("done")).sum()))
    return [
        {
            "worker": short(name), "units": number((chosen & units.state("done")).sum()),
            "failed": number((chosen & units.state("failed")).sum()), "km2": _km2(units.mapped_km2[chosen].sum()),
            "hours": duration(np.nansum(units.seconds[chosen]) / 3600),
            "peak": _gibibytes(np.nanmax(units.peak_mib[chosen], initial=0.0)),
        }
        for name, chosen in found
    ]  # fmt: skip


def failure_rows(ledger: GeoDataFrame) -> list[dict[str, str]]:
    """Return a row a failed unit: at most :data:`LISTED`."""
    failed = ledger[ledger["state"] == "failed"].head(LISTED)
    return [
        {
            "name": short(row.name), "regions": region_words(row.regions), "error": _first_line(row.error),
            "attempts": number(row.attempts), "losses": number(row.losses), "worker": short(_text(row.worker)) or "-",
        }
        for row in failed[["name", "regions", "error", "attempts", "losses", "worker"]].itertuples(index=False)
    ]  # fmt: skip


def empty_reasons(ledger: GeoDataFrame) -> list[tuple[str, int]]:
    """Return why units are empty and how many are for that, the most frequent first."""
    empty = ledger[ledger["state"] == "empty"]
    # A reason that names its unit would otherwise be a group of its own.
    pairs = zip(empty["name"].astype(str), empty["error"], strict=True)
    return Counter(_first_line(error).replace(name, "the unit") for name, error in pairs).most_common()


def summary_table(frame: pd.DataFrame) -> dict[str, Any]:
    """Return a table as texts: ``header``, (text, whether numbers stand below) a column; ``rows``; ``hidden``, a count.

    Parameters
    ----------
    frame
        Whatever columns it has; outlines, columns without a value, and a ``kind`` that all share are left out.
    """
    dropped = [name for name in frame if str(frame[name].dtype) == "geometry"]
    dropped += ["kind"] if "kind" in frame and len(set(frame["kind"])) == 1 else []
    plain = pd.DataFrame(frame.drop(columns=dropped)).dropna(axis="columns", how="all")
    numeric = {name: pd.api.types.is_numeric_dtype(plain[name]) for name in plain}
    return {
        "header": [(_title(str(name)), numeric[name]) for name in plain],
        "rows": [
            [(_cell(str(name), value), numeric[name]) for name, value in zip(plain, row, strict=True)]
            for row in plain.head(ROWS).itertuples(index=False, name=None)
        ],
        "hidden": max(0, len(plain) - ROWS),
    }  # fmt: skip


def plain_rows(record: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield name and value of each entry, those of mappings inside under ``outer.inner``."""
    for name, value in record.items():
        if isinstance(value, Mapping):
            yield from ((f"{short(name)}.{inner}", text) for inner, text in plain_rows(value))
        else:
            yield short(name), short(value if isinstance(value, str) else json.dumps(value, default=str))


def region_words(regions: object) -> str:
    """Write the regions of a unit, of which there may be none."""
    return short(", ".join(_text(regions).split("\n"))) or "-"


def number(value: float) -> str:
    """Write a whole number, its thousands apart."""
    return f"{value:,.0f}".replace(",", _GAP) if np.isfinite(value) else "-"


def of_units(count: int) -> str:
    """Write a number of units."""
    return f"{number(count)} unit{'' if count == 1 else 's'}"


def area(km2: float) -> str:
    """Write an area, with three digits at least."""
    return f"{_km2(km2)}{_GAP}km²"


def duration(hours: float) -> str:
    """Write a time in seconds, minutes or hours."""
    if hours < 1 / 30:
        return f"{hours * 3600:.0f}{_GAP}s"
    return f"{hours * 60:.0f}{_GAP}min" if hours < 2 else f"{number(hours) if hours >= 100 else f'{hours:.1f}'}{_GAP}h"


def short(text: object) -> str:
    """Keep the beginning of a text that may be long."""
    letters = str(text)
    return letters if len(letters) <= _LETTERS else letters[: _LETTERS - 1] + "…"


def _title(column: str) -> str:
    """Write the name of a column; that of a class or sensor, which others chose, stays as it is."""
    for before, after, words in (("class_", "_km2", "{}, km²"), ("reliance_", "", "rests on {}")):
        if column.startswith(before) and column.endswith(after):
            return words.format(short(column.removeprefix(before).removesuffix(after)))
    return short(column).replace("_", " ").replace("km2", "km²")


def _cell(name: str, value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{short(key)} {_cell(f'{name}_{key}', part)}" for key, part in value.items())
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if isinstance(value, int | np.integer):
        return number(float(value))
    if isinstance(value, float | np.floating):
        return _figure(name, float(value))
    return "-" if pd.api.types.is_scalar(value) and pd.isna(value) else short(value)


def _figure(name: str, value: float) -> str:
    if not np.isfinite(value):
        return "-"
    if "km2" in name:
        return _km2(value)
    return _percent(value) if name.startswith("reliance") or "share" in name else f"{value:.2f}"


def _gibibytes(mebibytes: float) -> str:
    return f"{mebibytes / 1024:.1f}{_GAP}GiB" if mebibytes > 0 else "-"


def _km2(value: float) -> str:
    return number(value) if value >= 100 or value == 0 else f"{value:.3g}" if value >= 0.001 else f"{value:.1e}"


def _percent(share: float) -> str:
    return percent(share).replace(" %", f"{_GAP}%")


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _first_line(error: object) -> str:
    lines = _text(error).strip().splitlines()
    return short(lines[0]) if lines else "no reason given"
