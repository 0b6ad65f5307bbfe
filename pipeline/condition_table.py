"""Robustness as a table: a row a condition, to sort, select and draw."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pandas import DataFrame

#: Scores of a condition.
_SCORES = ("mean_iou", "accuracy", "ece")

#: Shares of a condition.
_METERS = ("reliance", "information")


def condition_table(robustness: Mapping[str, Any], *, sensors: Sequence[str]) -> "DataFrame":
    """Return what :func:`~equipoise.pipeline.robustness.robustness` measured, the clear condition first.

    Parameters
    ----------
    robustness
        As `metrics.json` holds it.
    sensors
        In the order of the shares.

    Returns
    -------
    Columns ``sensor``, ``kind``, ``strength`` (0 = clear), ``axis``; ``mean_iou``, ``accuracy``, ``ece`` (means over
    draws, 0 to 1); ``reliance_<sensor>``, ``information_<sensor>`` (shares, NaN where indeterminate).
    """
    import pandas as pd

    return pd.DataFrame(list(_rows(robustness, sensors)))


def _rows(robustness: Mapping[str, Any], sensors: Sequence[str]) -> Iterator[dict[str, Any]]:
    yield {"sensor": "", "kind": "clear", "strength": 0.0, "axis": "", **_figures(robustness["clear"], sensors)}
    for family in robustness["families"]:
        for item in family["conditions"]:
            yield {
                "sensor": family["modality"], "kind": family["kind"], "strength": item["strength"],
                "axis": family["axis"], **_figures(item, sensors),
            }  # fmt: skip


def _figures(condition: Mapping[str, Any], sensors: Sequence[str]) -> dict[str, float | None]:
    found: dict[str, float | None] = {name: condition[name]["mean"] for name in _SCORES}
    for meter in _METERS:
        shares = condition[meter]["share"] or [None] * len(sensors)
        found |= {f"{meter}_{name}": share for name, share in zip(sensors, shares, strict=True)}
    return found
