"""Which acquisitions each chunk is mapped from: nearly the best ones, and those of its neighbours where that can be."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import shapely
from shapely.geometry.base import BaseGeometry

from ...datasets.catalog_items import CatalogItem
from ...datasets.pairing import Acquisition, Pairing, solar_day
from ..acquire import Found

#: A pair may be taken whose score is this part of the best one's: so little less is seen, and one date spreads farther.
NEARLY_BEST = 0.9


@dataclass(frozen=True, kw_only=True)
class FoundItems:
    """What a catalog has of some regions, by place.

    Attributes
    ----------
    found
        Items, each once.
    trees
        Sensor -> index of their footprints.
    """

    found: Found
    trees: Mapping[str, shapely.STRtree]

    @classmethod
    def of(cls, parts: Sequence[Found]) -> "FoundItems":
        """Join what was found for several regions."""
        items = {
            name: list({(item.collection, item.id): item for part in parts for item in part.items[name]}.values())
            for name in (parts[0].items if parts else ())
        }
        reasons = {name: why for part in parts for name, why in part.reasons.items() if not items[name]}
        trees = {name: shapely.STRtree([item.footprint for item in each]) for name, each in items.items()}
        return cls(found=Found(items=items, reasons=reasons), trees=trees)

    def near(self, area: BaseGeometry) -> Found:
        """Return what meets an area, in degrees."""
        items: dict[str, Sequence[CatalogItem]] = {
            name: [self.found.items[name][position] for position in sorted(tree.query(area, predicate="intersects"))]
            for name, tree in self.trees.items()
        }
        return Found(items=items, reasons=self.found.reasons)


def choose_pairs(candidates: Mapping[str, Sequence[Pairing]]) -> dict[str, Pairing]:
    """Choose a pair for each chunk.

    Of the pairs whose score is at least :data:`NEARLY_BEST` of the chunk's best, that whose pass of the reference is
    nearly the best in most chunks: seams between dates are fewer, at little cost.

    Parameters
    ----------
    candidates
        Chunk -> its pairs, best first; chunks without any are left out.
    """
    near = {
        name: [item for item in pairs if item.score >= NEARLY_BEST * pairs[0].score]
        for name, pairs in candidates.items() if pairs
    }  # fmt: skip
    spread = Counter(key for pairs in near.values() for key in {_pass(item) for item in pairs})
    # What comes first in the list, the best one, wins where several are as widespread.
    return {name: max(pairs, key=lambda item: spread[_pass(item)]) for name, pairs in near.items()}


def _pass(pairing: Pairing) -> tuple[str, ...]:
    """Return by what a pass of the reference is known in every chunk that it shows."""
    acquisition: Acquisition = pairing.present[pairing.reference]
    first = acquisition.items[0]
    orbit = str(first.properties.get("sat:relative_orbit"))
    return pairing.reference, acquisition.platform, orbit, solar_day(first).isoformat()
