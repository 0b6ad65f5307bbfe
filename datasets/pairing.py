"""Pairs of acquisitions: passes of several sensors over one area, near enough in time, best first."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any

from shapely import unary_union
from shapely.geometry.base import BaseGeometry

from .catalog_items import CatalogItem


@dataclass(frozen=True, kw_only=True)
class Acquisition:
    """Items of one sensor that one pass of its platform made: one picture in several tiles.

    Attributes
    ----------
    items
        By claimed share of the area, largest first: where they overlap, the earlier one is used.
    acquired
        Mean time of the items, UTC.
    coverage
        Claimed share of the area, 0 to 1.
    cloud
        Claimed cloud share, 0 to 1, mean over the items by their share of the area; None where one does not say.
    """

    items: tuple[CatalogItem, ...]
    acquired: datetime
    coverage: float
    cloud: float | None

    @property
    def platform(self) -> str:
        """Platform name, or the collection where the items do not say."""
        return str(self.items[0].properties.get("platform") or self.items[0].collection)

    def score(self, *, gap: timedelta, max_gap: timedelta) -> float:
        """Rank of this acquisition as the partner of one that is ``gap`` away: 0 (worst) to 1.

        ``coverage * (1 - cloud) * (1 - gap / max_gap / 2)``: what is seen of the area, and half of it lost at the
        edge of the time window. An unknown cloud share counts as none (radar).
        """
        lateness = abs(gap) / max_gap if max_gap else 0.0
        return self.coverage * (1 - (self.cloud or 0.0)) * (1 - lateness / 2)


@dataclass(frozen=True, kw_only=True)
class Pairing:
    """One acquisition of the reference sensor, and what the other sensors saw near that time.

    Attributes
    ----------
    reference
        Name of the sensor that others are paired with.
    present
        Sensor -> acquisition, the reference first.
    missing
        Sensor -> why it is not there.
    gaps
        Sensor -> time after the reference's (negative: before).
    score
        Product of the scores of those present, times the share of sensors present: 0 to 1.
    """

    reference: str
    present: Mapping[str, Acquisition]
    missing: Mapping[str, str]
    gaps: Mapping[str, timedelta] = field(default_factory=dict)
    score: float = 0.0


def acquisitions(items: Sequence[CatalogItem], area: BaseGeometry) -> list[Acquisition]:
    """Group the items of one sensor into passes: same collection, platform, relative orbit and solar day.

    Parameters
    ----------
    items
        Items of one sensor; of several versions of one tile the last processed is kept.
    area
        Outline in longitude and latitude, degrees. Shares of it are shares of degrees: the error is below one part
        in a hundred for an area of a degree up to 60 degrees of latitude.
    """
    groups: defaultdict[tuple[str, ...], list[CatalogItem]] = defaultdict(list)
    for item in _newest(items):
        orbit = item.properties.get("sat:relative_orbit")
        key = (item.collection, str(item.properties.get("platform")), str(orbit), solar_day(item).isoformat())
        groups[key].append(item)
    return [_acquisition(group, area) for group in groups.values()]


def solar_day(item: CatalogItem) -> date:
    """Return the day at the item's place by the sun: one pass never spans two, as UTC days do at the antimeridian."""
    return (item.acquired + timedelta(hours=float(item.footprint.centroid.x) / 15)).date()


def pair(
    found: Mapping[str, Sequence[Acquisition]],
    *,
    max_gap: timedelta,
    max_cloud: float,
    min_coverage: float,
    start: datetime,
    end: datetime,
    reasons: Mapping[str, str] | None = None,
) -> list[Pairing]:
    """Pair the acquisitions of several sensors, best first.

    The first sensor that has a usable acquisition between ``start`` and ``end`` is the reference; each of its
    acquisitions takes from every other sensor the one with the best score within ``max_gap``.

    Parameters
    ----------
    found
        Sensor -> its acquisitions, in the user's order.
    max_gap
        Longest time between the reference and its partner.
    max_cloud
        Largest claimed cloud share, 0 to 1.
    min_coverage
        Least claimed share of the area, 0 to 1.
    start, end
        Period of the reference; partners may lie ``max_gap`` outside.
    reasons
        Sensor -> why it has no acquisition at all, where that is known.

    Returns
    -------
    Best score first, then by time; empty where no sensor has a usable acquisition.
    """
    usable, why = {}, dict(reasons or {})
    for sensor, candidates in found.items():
        usable[sensor], reason = _usable(candidates, max_cloud=max_cloud, min_coverage=min_coverage)
        if reason is not None:
            why.setdefault(sensor, reason)
    for reference, candidates in usable.items():
        within = [item for item in candidates if start <= item.acquired <= end]
        if not within:
            if candidates:
                why[reference] = f"no item from {start:%Y-%m-%d} to {end:%Y-%m-%d}, but in the days around"
            continue
        pairings = [_pairing(item, reference, usable, why, max_gap=max_gap) for item in within]
        return sorted(pairings, key=lambda item: (-item.score, item.present[reference].acquired))
    return []


def _pairing(
    anchor: Acquisition,
    reference: str,
    usable: Mapping[str, Sequence[Acquisition]],
    why: Mapping[str, str],
    *,
    max_gap: timedelta,
) -> Pairing:
    present, missing, gaps = {reference: anchor}, {}, {reference: timedelta(0)}
    score = anchor.score(gap=timedelta(0), max_gap=max_gap)
    for sensor, candidates in usable.items():
        if sensor == reference:
            continue
        near = [item for item in candidates if abs(item.acquired - anchor.acquired) <= max_gap]
        if near:
            best = max(near, key=lambda item: (_score(item, anchor, max_gap), -_distance(item, anchor)))
            present[sensor], gaps[sensor] = best, best.acquired - anchor.acquired
            score *= _score(best, anchor, max_gap)
        elif candidates:
            nearest = min(_distance(item, anchor) for item in candidates)
            missing[sensor] = f"no item within {_text(max_gap)} (the nearest is {nearest / 86400:.1f} days away)"
        else:
            missing[sensor] = why[sensor]
    ordered = {sensor: present[sensor] for sensor in usable if sensor in present}
    return Pairing(
        reference=reference, present=ordered, missing=missing, gaps=gaps, score=score * len(present) / len(usable)
    )  # fmt: skip


def _score(item: Acquisition, anchor: Acquisition, max_gap: timedelta) -> float:
    return item.score(gap=item.acquired - anchor.acquired, max_gap=max_gap)


def _distance(item: Acquisition, anchor: Acquisition) -> float:
    return abs((item.acquired - anchor.acquired).total_seconds())


def _usable(
    candidates: Sequence[Acquisition], *, max_cloud: float, min_coverage: float
) -> tuple[list[Acquisition], str | None]:
    """Return those that pass, and why there are none."""
    covering = [item for item in candidates if item.coverage >= min_coverage]
    clear = [item for item in covering if item.cloud is None or item.cloud <= max_cloud]
    if clear:
        return clear, None
    if covering:
        return [], f"{len(covering)} acquisition(s), all with more than {max_cloud:.0%} of cloud"
    if candidates:
        most = max(item.coverage for item in candidates)
        return [], f"{len(candidates)} acquisition(s), none over {min_coverage:.0%} of the area (at most {most:.0%})"
    return [], "no item in the period"


def _acquisition(group: Sequence[CatalogItem], area: BaseGeometry) -> Acquisition:
    shares = {item.id: item.footprint.intersection(area).area / area.area for item in group}
    ordered = sorted(group, key=lambda item: (-shares[item.id], item.acquired, item.id))
    clouds = [item.cloud for item in ordered]
    weight = sum(shares.values())
    cloud = None
    if weight and all(value is not None for value in clouds):
        cloud = sum(shares[item.id] * (item.cloud or 0.0) for item in ordered) / weight
    covered = unary_union([item.footprint for item in ordered]).intersection(area).area / area.area
    first = ordered[0].acquired
    mean = first + sum((item.acquired - first for item in ordered), timedelta()) / len(ordered)
    return Acquisition(items=tuple(ordered), acquired=mean, coverage=min(covered, 1.0), cloud=cloud)


def _newest(items: Sequence[CatalogItem]) -> list[CatalogItem]:
    """Of one tile and moment that was processed several times, keep the last."""
    latest: dict[tuple[Any, ...], CatalogItem] = {}
    for item in items:
        tile = item.properties.get("s2:mgrs_tile") or item.properties.get("grid:code")
        key = (item.collection, item.acquired, str(tile or item.id))
        if key not in latest or _version(item) > _version(latest[key]):
            latest[key] = item
    return list(latest.values())


def _version(item: CatalogItem) -> tuple[str, ...]:
    names = ("s2:processing_baseline", "processing:version", "updated", "created")
    return (*(str(item.properties.get(name, "")) for name in names), item.id)


def _text(gap: timedelta) -> str:
    days = gap / timedelta(days=1)
    return f"{days:g} day{'' if days == 1 else 's'}" if days >= 1 else f"{gap / timedelta(hours=1):g} h"
