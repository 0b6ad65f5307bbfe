"""Split balance: what the classes of validation and test cannot say about those of training."""

from collections.abc import Iterator, Sequence

import numpy as np

from ..datasets.patches import PatchIndex
from .scene_options import ClassOptions

#: Share of the training labels from which a class that a split lacks is missed.
_LEAST_SHARE = 0.01
#: Half the summed difference of class shares from which two splits are of different places.
_MOST_APART = 0.3


def lopsided(index: PatchIndex, classes: Sequence[ClassOptions]) -> Iterator[str]:
    """Yield what is uneven between the splits, a line each.

    Parameters
    ----------
    index
        Patches with their splits and class counts.
    classes
        Of the configuration.
    """
    names = [item.name for item in classes]
    counts = {
        split: index.of_split(split).class_counts([item.value for item in classes])
        for split in ("train", "validation", "test")
    }
    shares = {split: found / max(found.sum(), 1) for split, found in counts.items()}
    other = "draw others with another `seed`, or give scenes a `split`"
    for split in ("validation", "test"):
        found = zip(names, shares["train"], counts[split], strict=True)
        absent = [
            f"'{name}' ({100 * share:.0f} %)" for name, share, count in found if share >= _LEAST_SHARE and count == 0
        ]
        apart = 0.5 * float(np.abs(shares["train"] - shares[split]).sum())
        if absent:
            yield (
                f"the {split} split holds nothing of {', '.join(absent)} (shares of the training labels): its figures "
                f"say nothing of that; {other}"
            )
        elif apart > _MOST_APART:
            most = int(np.abs(shares["train"] - shares[split]).argmax())
            yield (
                f"the classes of the {split} split differ from those of training by {100 * apart:.0f} % of the labels "
                f"('{names[most]}': {100 * shares[split][most]:.0f} % there, {100 * shares['train'][most]:.0f} % in "
                f"training): its figures are of another kind of place; {other}"
            )
