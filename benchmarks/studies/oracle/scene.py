"""The oracle scene: an invented EO/SAR/IR scene whose Bayes posterior is exact for every subset of the modalities.

Classes are drawn independently for each cell of a grid, so that the posterior factors over cells: once the condition
is known, what is seen of one cell says nothing about the class of another.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from .conditions import CONDITIONS, Columns, Condition, columns
from .sensors import NATIVE, SENSORS
from .variants import VARIANTS

Batch = dict[str, Any]
Subset = Sequence[str] | Tensor
Task = Literal["segmentation", "classification"]


class OracleScene:
    """Draws batches, and says what can be known from them.

    Parameters
    ----------
    variant
        One of :data:`~.variants.VARIANTS`: ``standard``, ``twin``, ``xor``, ``irrelevant_ir``.
    seed
        Of the scene's own draws; a generator that is handed to a method takes its place.
    task
        ``segmentation``: a patch has ``cells`` x ``cells`` cells and a ``mask``. ``classification``: a patch of that
        size in pixels is a single cell and has a ``label``.
    cells
        Cells along the side of a patch; classification replaces it by 1.
    cell_px
        Side of a cell in pixels, even; classification multiplies it by ``cells``.
    conditions
        The table in which ``batch["condition"]`` counts.

    Raises
    ------
    ValueError
        The variant or the task is unknown, or the cell's side is odd.
    """

    def __init__(
        self,
        variant: str = "standard",
        seed: int = 0,
        *,
        task: Task = "segmentation",
        cells: int = 4,
        cell_px: int = 8,
        conditions: Sequence[Condition] = CONDITIONS,
    ) -> None:
        if variant not in VARIANTS:
            raise ValueError(f"found variant {variant!r}, wanted one of {tuple(VARIANTS)}: correct the name")
        if task not in ("segmentation", "classification"):
            raise ValueError(f"found task {task!r}, wanted segmentation or classification: correct the name")
        if cells < 1 or cell_px < NATIVE or cell_px % NATIVE:
            raise ValueError(f"found {cells} cells of {cell_px} px, wanted cells of an even number of px: correct it")
        self.variant, self.seed, self.task = VARIANTS[variant], seed, task
        self.cells, self.cell_px = (1, cells * cell_px) if task == "classification" else (cells, cell_px)
        self.conditions = tuple(conditions)
        self.modalities = tuple(self.variant.modalities)
        self.bands = {name: SENSORS[kind].bands for name, kind in self.variant.modalities.items()}
        self.classes = self.variant.classes

    def generator(self, stream: int = 0) -> torch.Generator:
        """Return a new source of randomness that depends on the scene's seed and a stream's number alone."""
        return torch.Generator().manual_seed((self.seed * 1_000_003 + stream) % 2**63)

    def index(self, condition: str) -> int:
        """Return the row of a condition in the table.

        Raises
        ------
        ValueError
            The name is unknown.
        """
        names = [item.name for item in self.conditions]
        if condition not in names:
            raise ValueError(f"found condition {condition!r}, wanted one of {names}: correct the name")
        return names.index(condition)

    def batch(
        self, count: int, condition: str | Sequence[str] = "clear", generator: torch.Generator | None = None
    ) -> Batch:
        """Observe patches.

        Parameters
        ----------
        count
            Number of patches B.
        condition
            Name of the condition of all, or names of which each patch draws one, all equally likely.
        generator
            Source of randomness; None starts the scene's own afresh, so that the same call gives the same batch.

        Returns
        -------
        dict
            ``image`` {name: float32 (B, band, y, x)}, normalised by fixed constants, 0 where not valid;
            ``valid`` {name: bool (B, y, x)}; ``available`` bool (B, M); ``condition`` int64 (B,), a row of
            :attr:`conditions`; ``cell_class`` int64 (B, cells_y, cells_x); and ``mask`` int64 (B, y, x) or ``label``
            int64 (B,). A patch has ``cells * cell_px`` pixels a side.
        """
        generator = self.generator() if generator is None else generator
        names = [condition] if isinstance(condition, str) else list(condition)
        rows = torch.tensor([self.index(name) for name in names])
        index = rows[torch.randint(len(rows), (count,), generator=generator)]
        column = columns(self.conditions, index)
        # One more row and column of cells, above and to the left, enters where an image is shifted.
        side = self.cells + 1
        state = torch.randint(len(self.variant.class_of), (count, side, side), generator=generator)
        image: dict[str, Tensor] = {}
        valid: dict[str, Tensor] = {}
        for name, kind in self.variant.modalities.items():
            origin = self.variant.copies.get(name)
            if origin is None:
                appearance = torch.tensor(self.variant.shows[name])[state]
                native, seen = SENSORS[kind].draw(appearance, column, generator)
                shift = self._shift_px(kind, column)
                image[name] = self._window(SENSORS[kind].normalised(native), shift)
                valid[name] = self._window(seen[:, None], shift)[:, 0]
            else:
                image[name], valid[name] = image[origin].clone(), valid[origin].clone()
        lost = {name: torch.tensor([name in item.outage for item in self.conditions])[index] for name in image}
        valid = {name: seen & ~lost[name][:, None, None] for name, seen in valid.items()}
        made: Batch = {
            "image": {name: data.where(valid[name][:, None], 0.0) for name, data in image.items()},
            "valid": valid,
            "available": torch.stack([seen.any(dim=2).any(dim=1) for seen in valid.values()], dim=1),
            "condition": index,
        }
        return made | self._truth(torch.tensor(self.variant.class_of)[state][:, 1:, 1:])

    def posterior(self, batch: Batch, subset: Subset | None = None, *, assume: str | None = None) -> Tensor:
        """Return the exact log-posterior of each cell's class.

        The reader knows the condition, its strength included, but not what was drawn under it (which cells lie under
        unflagged cloud, how bright the haze is). With ``assume`` it believes in another condition than the true one.

        Parameters
        ----------
        batch
            From :meth:`batch`; ``valid`` and ``available`` are honoured as they stand, so callers may hide things.
        subset
            Names of the modalities, or bool (M,) in the order of :attr:`modalities`; None for all.
        assume
            Name of the condition that the reader believes in; None for each patch's own.

        Returns
        -------
        Tensor
            float64 (B, class, cells_y, cells_x); its exponential sums to 1 over the classes.
        """
        available = batch["available"] & self.members(subset)
        likelihoods = self.log_likelihoods(batch["image"], batch["valid"], self.columns_of(batch, assume=assume))
        return self.combined(likelihoods, available)

    def members(self, subset: Subset | None) -> Tensor:
        """Return a subset as bool (M,).

        Raises
        ------
        ValueError
            A name is no modality of this variant.
        """
        if subset is None:
            return torch.ones(len(self.modalities), dtype=torch.bool)
        if isinstance(subset, Tensor):
            return subset.bool()
        if unknown := set(subset) - set(self.modalities):
            raise ValueError(f"found modalities {sorted(unknown)}, wanted some of {self.modalities}: correct the names")
        return torch.tensor([name in subset for name in self.modalities])

    def columns_of(self, batch: Batch, *, assume: str | None = None) -> dict[str, Tensor]:
        """Return the numbers of each patch's condition, or of the one that is assumed of all."""
        index = batch["condition"]
        return columns(self.conditions, index if assume is None else torch.full_like(index, self.index(assume)))

    def log_likelihoods(
        self, image: Mapping[str, Tensor], valid: Mapping[str, Tensor], column: Columns
    ) -> dict[str, Tensor]:
        """Rate each modality on its own.

        Parameters
        ----------
        image, valid
            As in a batch.
        column
            The condition of each patch.

        Returns
        -------
        dict of Tensor
            Name -> float64 (B, state, cells_y, cells_x): log p(pixels of the cell | state), up to a constant of the
            cell and 0 where none is valid.
        """
        found = {}
        for name, kind in self.variant.modalities.items():
            shift = self._shift_px(kind, column)
            native = SENSORS[kind].physical(self._native(image[name], shift).double())
            seen = self._native(valid[name][:, None], shift)[:, 0]
            rated = SENSORS[kind].log_likelihood(native, seen, column)
            found[name] = rated[:, list(self.variant.shows[name])]
        return found

    def combined(self, likelihoods: Mapping[str, Tensor], available: Tensor) -> Tensor:
        """Join modalities into a log-posterior.

        A modality and its copy are one observation: the likelihoods of those that are there are averaged. For identical
        pixels this is exact; where a copy was exchanged no posterior exists, and this reader believes both by half.

        Parameters
        ----------
        likelihoods
            From :meth:`log_likelihoods`.
        available
            bool (B, M).

        Returns
        -------
        Tensor
            As in :meth:`posterior`.
        """
        present = {name: available[:, column, None, None, None] for column, name in enumerate(self.modalities)}
        total = torch.zeros_like(likelihoods[self.modalities[0]])
        for origin in (name for name in self.modalities if name not in self.variant.copies):
            group = [name for name in self.modalities if self.variant.copies.get(name, name) == origin]
            rated = torch.stack([likelihoods[name].where(present[name], 0.0) for name in group]).sum(dim=0)
            seen = torch.stack([present[name] for name in group]).sum(dim=0)
            total = total + rated / seen.clamp(min=1)
        class_of = torch.tensor(self.variant.class_of)
        # The state is uniform, so its prior cancels here.
        logits = [total[:, class_of == label].logsumexp(dim=1) for label in range(len(self.classes))]
        return torch.stack(logits, dim=1).log_softmax(dim=1)

    def _truth(self, cell_class: Tensor) -> Batch:
        if self.task == "classification":
            return {"cell_class": cell_class, "label": cell_class[:, 0, 0]}
        mask = cell_class.repeat_interleave(self.cell_px, dim=1).repeat_interleave(self.cell_px, dim=2)
        return {"cell_class": cell_class, "mask": mask}

    def _shift_px(self, kind: str, column: Columns) -> Tensor:
        """Return by how many pixels each patch of a sensor is displaced, int64 (B,); the optical one alone ever is."""
        shift = (column["shift_cells"].flatten() * self.cell_px).round().long()
        return shift if kind == "optical" else torch.zeros_like(shift)

    def _window(self, native: Tensor, shift: Tensor) -> Tensor:
        """Cut patches out of native pixels (B, band, native_y, native_x) with their margin, displaced by ``shift``."""
        pixel = self.cell_px // NATIVE
        grid = native.repeat_interleave(pixel, dim=2).repeat_interleave(pixel, dim=3)
        size = self.cells * self.cell_px
        patches = grid.new_empty((*grid.shape[:2], size, size))
        for step in shift.unique().tolist():
            start = self.cell_px - step
            rows = shift == step
            patches[rows] = grid[rows, :, start : start + size, start : start + size]
        return patches

    def _native(self, patches: Tensor, shift: Tensor) -> Tensor:
        """Undo :meth:`_window`: the native pixels of the patch's own cells, 0 where the shift moved them out."""
        pixel, size = self.cell_px // NATIVE, self.cells * NATIVE
        native = patches.new_zeros((*patches.shape[:2], size, size))
        for step in shift.unique().tolist():
            rows = shift == step
            # All pixels of a native pixel are equal, so its first one that is inside the patch stands for it.
            seen = patches[rows, :, step::pixel, step::pixel][:, :, :size, :size]
            native[rows, :, : seen.shape[2], : seen.shape[3]] = seen
        return native
