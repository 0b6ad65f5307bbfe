"""Public data sets: what one consists of, and the chips that its folder holds."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from ..modality import Modality
from .delivery import Delivery
from .errors import BenchmarkError

log = logging.getLogger(__name__)

#: The files of one modality of a chip: one raster, or one file a band (band name -> file).
ChipFiles = Path | Mapping[str, Path]


class Task(StrEnum):
    """What the labels are for."""

    SEGMENTATION = "segmentation"
    CLASSIFICATION = "classification"


class ChipGrid(StrEnum):
    """How the pixels of a chip's modalities lie to each other."""

    SHARED = "shared"  # equal sizes lie pixel on pixel, as published; other sizes are brought there by their positions
    CORNER = "corner"  # one pixel size and upper left corner: some files are a few pixels short or long
    OWN = "own"  # each modality has its own pixels: nothing is brought together unless it is asked for


class LabelKind(StrEnum):
    """How a label file states the classes."""

    VALUES = "values"  # one band of class values
    COLOURS = "colours"  # three bands: the class's colour
    POSITIVE = "positive"  # one band: above zero is the second class, zero the first
    FOOTPRINTS = "footprints"  # GeoJSON polygons of the second class; elsewhere is the first


@dataclass(frozen=True, kw_only=True)
class LabelClass:
    """One class: its value (0 to 254), its name as published, and a colour (red, green, blue; 0 to 255)."""

    value: int
    name: str
    colour: tuple[int, int, int]


@dataclass(frozen=True, kw_only=True)
class Chip:
    """One chip of a data set: files, not yet opened.

    Attributes
    ----------
    id
        Unique in its split.
    split
        Split that the publishers put it into.
    files
        Modality -> its file, or one file a band. A modality without an entry is missing from this chip.
    masks
        Modality -> raster whose pixels above zero are not usable.
    labels
        Label file; None where the publishers keep the labels, or for classification.
    label
        Class value of the whole chip, for classification.
    group
        Event, scene or site: chips of one group belong into one split. None where the publishers do not say.
    """

    id: str
    split: str
    files: Mapping[str, ChipFiles]
    masks: Mapping[str, Path] = field(default_factory=dict)
    labels: Path | None = None
    label: int | None = None
    group: str | None = None


@dataclass(frozen=True, kw_only=True)
class PublicDataset:
    """A public data set.

    Attributes
    ----------
    name
        Short name: ``sen1floods11``.
    title
        What it is, in a line.
    licence
        As the publishers state it; ``not stated`` where they do not.
    obtain
        How to get it: an address and what to unpack, ready to end an error message.
    citation
        Paper.
    modalities
        Every modality with its bands, in order.
    classes
        Classes in the order of their position in a sample's mask.
    task
        What the labels are for.
    splits
        Names of the splits, the first for training.
    find
        Lists the chips of a split of a delivered folder.
    label_kind
        How label files state the classes.
    label_values
        Value in a label file -> class value, 255 for "not labelled"; None: the class values themselves.
    georeferenced
        Whether the image files must carry a position; where not, a position that is there is still used.
    grid
        How the pixels of its modalities lie to each other.
    """

    name: str
    title: str
    licence: str
    obtain: str
    citation: str
    modalities: tuple[Modality, ...]
    classes: tuple[LabelClass, ...]
    splits: tuple[str, ...]
    find: Callable[[Delivery, str], list[Chip]]
    task: Task = Task.SEGMENTATION
    label_kind: LabelKind = LabelKind.VALUES
    label_values: Mapping[int, int] | None = None
    georeferenced: bool = False
    grid: ChipGrid = ChipGrid.SHARED

    @property
    def class_values(self) -> tuple[int, ...]:
        """Class values in class order."""
        return tuple(item.value for item in self.classes)

    @property
    def values_in_files(self) -> dict[int, int]:
        """Value in a label file -> class value."""
        return {value: value for value in self.class_values} if self.label_values is None else dict(self.label_values)

    def chips(self, root: Path, split: str) -> Sequence[Chip]:
        """List the chips of a split; nothing is downloaded and no image is opened.

        Parameters
        ----------
        root
            Folder into which the publishers' archives were unpacked.
        split
            One of :attr:`splits`.

        Raises
        ------
        BenchmarkError
            If the split has another name, or the folder is not laid out as published or holds none of its chips.
        """
        if split not in self.splits:
            raise BenchmarkError(f"found split '{split}'; wanted one of {', '.join(self.splits)} of {self.name}")
        chips = self.find(Delivery(root=root, name=self.name, obtain=self.obtain), split)
        if empty := next((chip for chip in chips if not chip.files), None):
            raise BenchmarkError(
                f"{root}: found no image of chip '{empty.id}', which the list of split '{split}' names; wanted the "
                f"layout of {self.name}: {self.obtain}"
            )
        if not chips:
            raise BenchmarkError(
                f"{root}: found no chip of split '{split}'; wanted the layout of {self.name}: {self.obtain}"
            )
        for modality in self.modalities:
            if lacking := sum(modality.name not in chip.files for chip in chips):
                # A missing sensor is an ordinary state here; an archive that was not unpacked looks the same.
                log.warning("%s: %d of %d chips have no '%s'", root, lacking, len(chips), modality.name)
        return chips
