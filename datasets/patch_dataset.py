"""The torch dataset of a patch index: samples read from the aligned rasters, or from a patch store."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from .augment import Augmentation, pixel_size_m
from .normalise import Normaliser
from .patch_store import PatchStore
from .patches import WINDOW_COLUMNS, PatchIndex
from .stack import IGNORE, AlignedStack, StackReader, StackWindow


class PatchDataset(Dataset[dict[str, Any]]):
    """Samples of a patch index.

    Where the normaliser has a ``reference``, ``image`` also holds dates (see its ``inputs``).

    A sample holds ``image`` (modality -> float32 (band, y, x), normalised, 0 where not valid), ``valid`` (modality ->
    bool (y, x)), ``available`` (bool (M,), False = the whole modality is missing), ``condition`` (int64 (), which
    degradation it met, 0 = none; see :class:`~equipoise.datasets.augment.Augmentation`), ``registration`` (float32
    (M,), how sure each modality's position is, 0 to 1; 1 where that is not known), and ``mask`` (int64 (y, x),
    255 = ignore) or ``label`` (int64 ()). Class values are replaced by their position in ``class_values``.

    Files are opened on first use, separately in each process: handles that are shared over a fork give wrong bytes.

    Parameters
    ----------
    index, stacks, normaliser
        What to read, from where, and how it is normalised.
    class_values
        Label values in class order.
    classification
        Give ``label`` in place of ``mask``.
    augment
        Changes windows in working units, before they are normalised; None leaves them as they are.
    augment_seed
        Sample ``i`` is always augmented by ``(augment_seed, i)``.
    store
        Where the windows were stored patch by patch; None reads them from the aligned rasters. The values are the same.

    Raises
    ------
    DatasetError
        If the store is of another index.
    """

    def __init__(
        self,
        index: PatchIndex,
        stacks: Mapping[str, AlignedStack],
        *,
        normaliser: Normaliser,
        class_values: Sequence[int],
        classification: bool,
        augment: Augmentation | None = None,
        augment_seed: int = 0,
        store: PatchStore | None = None,
    ) -> None:
        self._rows = list(zip(*(index.table[name].tolist() for name in WINDOW_COLUMNS), strict=True))
        self._placed = _placed(index.table, [item.name for item in normaliser.modalities])
        self._readers = {name: StackReader(stack) for name, stack in stacks.items()}
        self._stored = None if store is None else store.positions(index)
        self._store = store
        self._normaliser = normaliser
        self._classification = classification
        self._lookup = np.full(256, IGNORE, dtype=np.uint8)
        self._lookup[np.asarray(class_values, dtype=np.intp)] = np.arange(len(class_values), dtype=np.uint8)
        self._augment, self._augment_seed = augment, augment_seed
        self._pixel_m = {} if augment is None else {name: pixel_size_m(item.geobox) for name, item in stacks.items()}

    def __len__(self) -> int:
        return len(self._rows)

    def window(self, position: int) -> StackWindow:
        """Return the pixels of a patch in working units, as they were observed."""
        scene, row, col, height, width, _ = self._rows[position]
        reader = self._readers[scene]
        if self._store is not None and self._stored is not None:
            return self._store.read(self._stored[position], reader.stack)
        return reader.read(row, col, height=height, width=width)

    def __getitem__(self, position: int) -> dict[str, Any]:
        scene, *_, label = self._rows[position]
        window = self.window(position)
        if self._augment is not None:
            seed = hash((self._augment_seed, position)) % 2**31
            window = self._augment(window, seed=seed, pixel_m=self._pixel_m[scene])
        images = self._normaliser.inputs(scene, window)
        sample: dict[str, Any] = {
            "image": {name: _tensor(image) for name, image in images.items()},
            "valid": {item.name: _tensor(window.valid[item.name]) for item in self._normaliser.modalities},
        }
        sample["available"] = torch.stack([mask.any() for mask in sample["valid"].values()])
        sample["registration"] = self._placed[position]
        sample["condition"] = torch.tensor(window.condition, dtype=torch.int64)
        if self._classification:
            sample["label"] = torch.tensor(int(self._lookup[int(label)]), dtype=torch.int64)
        else:
            shape = next(iter(window.valid.values())).shape
            labels = np.full(shape, IGNORE, np.uint8) if window.labels is None else window.labels
            sample["mask"] = torch.from_numpy(self._lookup[labels].astype(np.int64))
        return sample


def _placed(table: Any, names: Sequence[str]) -> torch.Tensor:
    """Return float32 (patch, modality), how sure positions are; 1 where an index does not tell."""
    known = [table[f"registration_{name}"].fillna(1.0) if f"registration_{name}" in table else 1.0 for name in names]
    columns = [np.broadcast_to(np.asarray(values, dtype=np.float32), (len(table),)) for values in known]
    return torch.from_numpy(np.stack(columns, axis=1))


def _tensor(array: NDArray[Any]) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(array))
