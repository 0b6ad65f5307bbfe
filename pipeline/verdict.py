"""Verdict: whether a wanted share arrived, in words; it imports nothing heavy, for the terminal."""

from collections.abc import Mapping
from typing import Any

Record = Mapping[str, Any]


def verdict_words(item: Record) -> str:
    """Say in one phrase whether a wanted share arrived: the same in the report and on the terminal.

    Parameters
    ----------
    item
        As :func:`~equipoise.pipeline.utilization.arrival` gives it.
    """
    low, high = (f"{value:.0%}" for value in item["wanted"])
    wish = f"wanted {low}" if low == high else f"wanted {low} to {high}"
    if item["share"] is None:
        return f"{wish}: undecided; indeterminate, no reliance above the noise"
    share = f"{item['share']:.0%}"
    interval = "" if item["interval"] is None else f" ({item['interval'][0]:.0%} to {item['interval'][1]:.0%})"
    if item["verdict"] == "missed":
        return f"{wish}: missed; nearest share found: {item['nearest']:.0%}{interval}"
    if item["verdict"] == "undecided":
        return f"{wish}: undecided; found {share}{interval}, nearest share found: {item['nearest']:.0%}"
    return f"{wish}: arrived, {share}{interval}"
