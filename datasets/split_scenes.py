"""Splits of whole scenes: what shares ground, and what belongs to one event, is drawn into one split together."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from .block_plan import connected
from .errors import SplitError
from .ground_distance import areas_of, near_pairs, whole
from .splits import SPLITS
from .stack import AlignedStack


def draw_scenes(
    stacks: Sequence[AlignedStack],
    *,
    buffer: int,
    validation: float,
    test: float,
    rng: np.random.Generator,
    chips: bool = False,
) -> list[AlignedStack]:
    """Draw the split of every scene that goes to one split as a whole.

    Scenes whose outlines come within the buffer of each other, and scenes of one group, form a unit that is drawn
    together; a unit with a scene whose split is given follows it. ``auto`` scenes of a group are drawn whole.

    Parameters
    ----------
    stacks
        Scenes; ``split`` says what is to be drawn.
    buffer
        Pixels, of the larger pixels of two scenes.
    validation, test
        Shares of the scenes, each at least one unit unless it is 0.
    rng
        Draws the units.
    chips
        Whether ``auto`` scenes are drawn whole, too: each has one label.

    Returns
    -------
    The scenes in their order; ``split`` is one of the three names, ``auto`` for spatial blocks.

    Raises
    ------
    SplitError
        If two scenes that must be in one split are given two.
    """
    kinds = {stack.name: _kind(stack, chips=chips) for stack in stacks}
    taking_part = [stack for stack in stacks if kinds[stack.name] != "auto"]
    split = {stack.name: stack.split for stack in stacks}
    drawn: dict[str, list[list[str]]] = {"by_scene": [], "development": []}
    for unit in _units(taking_part, kinds, buffer=buffer):
        names = [stack.name for stack in unit]
        given: dict[str, str] = {}
        for stack in unit:
            if stack.split in SPLITS:
                given.setdefault(stack.split, stack.name)
        if any(kinds[name] not in SPLITS for name in names):
            _refuse_conflict(unit, kinds, given)
        if given:
            split |= {name: next(iter(given)) for name in names if kinds[name] not in SPLITS}
        else:
            drawn["development" if "development" in (kinds[name] for name in names) else "by_scene"].append(names)
    for kind, share in (("by_scene", test), ("development", 0.0)):
        split |= _draw(drawn[kind], validation=validation, test=share, rng=rng)
    return [replace(stack, split=split[stack.name]) for stack in stacks]


def _kind(stack: AlignedStack, *, chips: bool) -> str:
    is_whole = stack.split == "auto" and (chips or stack.group is not None)
    return "by_scene" if is_whole else stack.split


def _units(
    stacks: Sequence[AlignedStack], kinds: Mapping[str, str], *, buffer: int
) -> list[list[AlignedStack]]:  # fmt: skip
    """Scenes that must share a split, in order; scenes that were given splits are joined by a group only."""
    placed = [n for n, stack in enumerate(stacks) if stack.geobox.crs is not None]
    grids = [stacks[n].geobox for n in placed]
    near = near_pairs(areas_of(grids, [whole(grid) for grid in grids]), np.arange(len(placed)), buffer=buffer)
    pairs = [(placed[i], placed[j]) for i, j in zip(near[0].tolist(), near[1].tolist(), strict=True)]
    pairs = [
        (i, j) for i, j in pairs if not (kinds[stacks[i].name] in SPLITS and kinds[stacks[j].name] in SPLITS)
    ]  # fmt: skip
    first_of: dict[str, int] = {}
    for n, stack in enumerate(stacks):
        if stack.group is not None:
            first = first_of.setdefault(stack.group, n)
            _refuse_two_splits(stacks[first], stack)
            if stack.split in SPLITS and stacks[first].split not in SPLITS:
                first_of[stack.group] = n
            pairs.append((first, n))
    units: dict[int, list[AlignedStack]] = {}
    for stack, unit in zip(stacks, connected(pairs, count=len(stacks)), strict=True):
        units.setdefault(unit, []).append(stack)
    return list(units.values())


def _refuse_two_splits(one: AlignedStack, other: AlignedStack) -> None:
    if one.split != other.split and {one.split, other.split} <= set(SPLITS):
        raise SplitError(
            f"found scenes '{one.name}' ({one.split}) and '{other.name}' ({other.split}) of one group '{one.group}'; "
            "wanted one split for a group; correct `split` or `group`"
        )


def _refuse_conflict(unit: Sequence[AlignedStack], kinds: Mapping[str, str], given: Mapping[str, str]) -> None:
    """Refuse a unit that is to be drawn and touches scenes of two splits, or one that it may not go to."""
    free = next(stack.name for stack in unit if kinds[stack.name] not in SPLITS)
    if len(given) > 1:
        (split, name), (other_split, other) = list(given.items())[:2]
        raise SplitError(
            f"found scenes '{name}' ({split}) and '{other}' ({other_split}) joined by '{free}', which shares ground or "
            f"a group with both; wanted one split for them; give '{free}' a `split`, or take it out"
        )
    development = next((stack.name for stack in unit if kinds[stack.name] == "development"), None)
    if "test" in given and development is not None:
        raise SplitError(
            f"found scene '{development}' (development) sharing ground or a group with '{given['test']}' (test); "
            "wanted development scenes apart from test scenes; change `split` of one of them"
        )


def _draw(
    units: Sequence[Sequence[str]], *, validation: float, test: float, rng: np.random.Generator
) -> dict[str, str]:  # fmt: skip
    """Give units to splits in random order, the smaller ones first, so that large ones are left to training."""
    count = sum(map(len, units))
    held = {
        name: max(1, round(share * count)) if share > 0 else 0
        for name, share in (("test", test), ("validation", validation))
    }
    got = dict.fromkeys(held, 0)
    split: dict[str, str] = {}
    order = sorted(rng.permutation(len(units)).tolist(), key=lambda number: len(units[number]))
    for left, number in zip(range(len(units) - 1, -1, -1), order, strict=True):
        size = len(units[number])
        empty = sum(held[name] > 0 and got[name] == 0 for name in held)
        # A second unit only where enough of them are left for the splits that have none, training among them.
        room = (
            name
            for name in held
            if held[name] and (got[name] == 0 or (got[name] + size <= held[name] and left > empty))
        )
        chosen = next(room, "train")
        split |= dict.fromkeys(units[number], chosen)
        if chosen in got:
            got[chosen] += size
    return split
