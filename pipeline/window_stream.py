"""WindowStream: the windows of a scene, read on threads, in order."""

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..datasets.stack import AlignedStack, StackReader, StackWindow
from .area import Area
from .mosaic import WindowGrid
from .prefetch import prefetch

#: Pixels that are read at a time, at least one window: neighbours share the blocks of the files that they overlap in.
STRIP_PX = 2**19

#: Makes the network's inputs from windows.
Tensors = Callable[[Sequence[StackWindow]], Mapping[str, Any]]


@dataclass(frozen=True, kw_only=True)
class WindowBatch:
    """Windows that go through the network together.

    Attributes
    ----------
    cols
        First column of each window, as from the grid's origins.
    windows
        What was read.
    seen
        bool (tile, tile) a window: pixels of the area that one modality at least has.
    """

    cols: tuple[int, ...]
    windows: tuple[StackWindow, ...]
    seen: tuple[NDArray[np.bool_], ...]


@dataclass(frozen=True, kw_only=True)
class Strip:
    """Neighbouring windows of one row of windows.

    Attributes
    ----------
    row
        Row of windows.
    batches
        The windows that hold data, in order.
    is_last
        Whether the row ends here.
    """

    row: int
    batches: tuple[WindowBatch, ...]
    is_last: bool


@dataclass(frozen=True, kw_only=True)
class WindowStream:
    """Reads a scene.

    Attributes
    ----------
    stack
        The scene.
    area
        The part that is mapped; windows take their margins from the scene around it.
    grid
        Windows of that part.
    batch_size
        Windows a batch at most.
    readers
        Threads that read; what comes out does not depend on their number.
    """

    stack: AlignedStack
    area: Area
    grid: WindowGrid
    batch_size: int
    readers: int

    @property
    def windows_a_strip(self) -> int:
        """Windows that are read at a time: whole batches."""
        wanted = max(1, STRIP_PX // self.grid.tile**2)
        return -(-wanted // self.batch_size) * self.batch_size

    @property
    def strips_a_row(self) -> int:
        """Strips in each row of windows."""
        return -(-self.grid.col_count // self.windows_a_strip)

    def strips(self, first_row: int) -> Generator[Strip, None, None]:
        """Yield the strips from a row of windows on, row by row, left to right.

        Strips that lie below each other are read by the same thread: the blocks of the files that both need are in
        its handles' cache. As many strips as readers, and the one that is worked on, are in memory.
        """
        places = ((row, number) for row in range(first_row, self.grid.row_count) for number in range(self.strips_a_row))
        # Labels are not looked at: reading them would only take time.
        reader = StackReader(replace(self.stack, labels=None))
        return prefetch(
            lambda place: self._strip(reader, *place), places, lane=lambda place: place[1], threads=self.readers,
            most=self.readers,
        )  # fmt: skip

    def _strip(self, reader: StackReader, row: int, number: int) -> Strip:
        grid, first = self.grid, number * self.windows_a_strip
        count = min(self.windows_a_strip, grid.col_count - first)
        top, left = row * grid.stride - grid.margin, first * grid.stride - grid.margin
        width = (count - 1) * grid.stride + grid.tile
        inside = self.area.inside(top, left, height=grid.tile, width=width)
        found: list[tuple[int, StackWindow, NDArray[np.bool_]]] = []
        if inside.any():
            whole = reader.read(self.area.row + top, self.area.col + left, height=grid.tile, width=width)
            for position in range(count):
                cols = slice(position * grid.stride, position * grid.stride + grid.tile)
                window = _cut(whole, cols)
                seen = inside[:, cols] & np.any(list(window.valid.values()), axis=0)
                if seen.any():
                    found.append((left + cols.start, window, seen))
        groups = [found[start : start + self.batch_size] for start in range(0, len(found), self.batch_size)]
        return Strip(row=row, batches=tuple(_batch(group) for group in groups), is_last=number == self.strips_a_row - 1)


def _batch(group: Sequence[tuple[int, StackWindow, NDArray[np.bool_]]]) -> WindowBatch:
    cols, windows, seen = zip(*group, strict=True)
    return WindowBatch(cols=cols, windows=windows, seen=seen)


def _cut(window: StackWindow, cols: slice) -> StackWindow:
    return StackWindow(
        image={name: values[..., cols] for name, values in window.image.items()},
        valid={name: mask[:, cols] for name, mask in window.valid.items()},
        labels=None,
        quality={name: codes[:, cols] for name, codes in window.quality.items()},
        acquired=window.acquired,
    )
