"""Run units: the numbers of a ledger's units, read once, unit by unit and known or NaN."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from geopandas import GeoDataFrame
from numpy.typing import NDArray

from ..trust import DEFECTS, FLAG_NAMES

#: States of a unit, in the order of legends and counts.
STATES = ("done", "running", "pending", "empty", "failed")

#: Parts of the work on a unit, in the order in which they are done.
PARTS = ("acquire", "coregister", "predict", "trust", "write")

Numbers = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class RunUnits:
    """What a ledger says of its units, in the ledger's order.

    Attributes
    ----------
    ledger
        As given; its texts were not written by us.
    modalities
        The model's, in its order.
    mapped_km2
        float64 (unit,): area of the pixels that have a class, 0 where there are none.
    confidence, doubtful
        float64 (unit,), 0 to 1: mean confidence; share of the mapped area that rests on input that was not good.
    shares
        float64 (unit, modality), 0 to 1: mean reliance; all NaN where it is not known.
    timings
        float64 (unit, part), s, in the order of :data:`PARTS`.
    seconds, peak_mib
        float64 (unit,): wall time, and the most memory of the worker, MiB.
    started, finished
        float64 (unit,): hours since the first unit of the run was started; only of a unit that came to an end is it
        known when.
    """

    ledger: GeoDataFrame
    modalities: tuple[str, ...]
    mapped_km2: Numbers
    confidence: Numbers
    doubtful: Numbers
    shares: Numbers
    timings: Numbers
    seconds: Numbers
    peak_mib: Numbers
    started: Numbers
    finished: Numbers

    @classmethod
    def read(cls, ledger: GeoDataFrame, manifest: Mapping[str, Any]) -> "RunUnits":
        """Read the columns and records of a ledger.

        Parameters
        ----------
        ledger
            One row a unit, with the columns of a run's layer ``units``.
        manifest
            Of the run.
        """
        records = [_record(text) for text in ledger["record"]]
        figures = [_mapping(record.get("figures")) for record in records]
        shares = [_mapping(item.get("reliance")) for item in figures]
        known: Sequence[str] = _mapping(manifest.get("model")).get("modalities") or []
        names = tuple(dict.fromkeys([*map(str, known), *(name for item in shares for name in item)]))
        started, finished = _hours(ledger)
        seconds = _column(ledger["seconds"])
        return cls(
            ledger=ledger, modalities=names, mapped_km2=_mapped_km2(ledger, manifest),
            confidence=_column([item.get("confidence") for item in figures]),
            doubtful=_column([_doubtful(_mapping(item.get("trust"))) for item in figures]),
            shares=_table(shares, names), timings=_table([_mapping(item.get("timings")) for item in records], PARTS),
            seconds=np.where(seconds > 0, seconds, np.nan),
            peak_mib=_column([item.get("peak_mib") for item in records]), started=started, finished=finished,
        )  # fmt: skip

    def state(self, name: str) -> NDArray[np.bool_]:
        """Return which units are in a state, bool (unit,)."""
        return np.asarray(self.ledger["state"] == name)

    def count(self, name: str) -> int:
        """Return how many units are in a state."""
        return int(self.state(name).sum())

    @property
    def charted(self) -> NDArray[np.bool_]:
        """Units of which it is known which worker is or was at them, and when; bool (unit,)."""
        named = np.asarray(self.ledger["worker"].fillna("") != "")
        return named & np.isfinite(self.started) & (np.isfinite(self.finished) | self.state("running"))

    def mean(self, values: Numbers) -> float | None:
        """Return the mean of a value by unit, weighted by mapped area; None where no unit that is done has one."""
        good = self.state("done") & np.isfinite(values) & (self.mapped_km2 > 0)
        return float(np.average(values[good], weights=self.mapped_km2[good])) if good.any() else None

    def reliance(self) -> dict[str, float]:
        """Return each modality's mean share, the largest first; nothing where no unit knows it."""
        means = {name: self.mean(self.shares[:, column]) for column, name in enumerate(self.modalities)}
        known = {name: value for name, value in means.items() if value is not None}
        return dict(sorted(known.items(), key=lambda item: -item[1]))

    def hours_at_work(self) -> float:
        """Return the hours in which a worker was at work at least: pauses between two runs do not count."""
        known = np.isfinite(self.started) & np.isfinite(self.finished)
        order = np.argsort(self.started[known])
        begin, end = self.started[known][order], np.maximum.accumulate(self.finished[known][order])
        if not begin.size:
            return 0.0
        pauses = np.maximum(begin[1:] - end[:-1], 0)
        return float(end[-1] - begin[0] - pauses.sum())


def _record(text: object) -> Mapping[str, Any]:
    """Return a unit's record; one that cannot be read says nothing, and the page is written all the same."""
    try:
        return _mapping(json.loads(text)) if isinstance(text, str) else {}
    except json.JSONDecodeError:
        return {}


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _doubtful(summary: Mapping[str, Any]) -> float | None:
    shares = _mapping(summary.get("shares"))
    return sum(float(shares.get(FLAG_NAMES[flag], 0)) for flag in DEFECTS) if shares else None


def _column(values: object) -> Numbers:
    numbers: Numbers = np.asarray(pd.to_numeric(pd.Series(values, dtype=object), errors="coerce"), dtype=np.float64)
    return numbers


def _table(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> Numbers:
    columns = [_column([row.get(name) for row in rows]) for name in names]
    return np.stack(columns, axis=1) if columns else np.empty((len(rows), 0))


def _hours(ledger: GeoDataFrame) -> tuple[Numbers, Numbers]:
    times = [
        pd.to_datetime(ledger[name], utc=True, errors="coerce", format="ISO8601") for name in ("started", "finished")
    ]
    begin = times[0].min()
    started, finished = (np.asarray((moment - begin).dt.total_seconds() / 3600, dtype=np.float64) for moment in times)
    # A unit that runs, or waits, may have the end of an attempt that came before.
    ended = ledger["state"].isin(["done", "empty", "failed"]).to_numpy(dtype=bool) & (finished >= started)
    return started, np.where(ended, finished, np.nan)


def _mapped_km2(ledger: GeoDataFrame, manifest: Mapping[str, Any]) -> Numbers:
    """Return the chunk's area times the part of its pixels that is mapped; all of it where its size is not known."""
    pixels, chunk = (np.nan_to_num(_column(ledger[name])) for name in ("pixels", "km2"))
    edge = _mapping(manifest.get("grid")).get("edge")
    usual = edge**2 if isinstance(edge, int | float) else np.nan
    shapes = [_mapping(_record(text).get("geobox")).get("shape") for text in ledger["payload"]]
    size = _column([math.prod(shape) if isinstance(shape, list) else usual for shape in shapes])
    part = np.where(np.isfinite(size), pixels / np.maximum(np.nan_to_num(size), 1), pixels > 0)
    mapped: Numbers = chunk * np.minimum(part, 1.0)
    return mapped
