"""AnswerStream: the network's answers to the windows of a scene, several windows at a time, in order."""

import contextlib
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from .prefetch import prefetch
from .window_answers import WindowAnswers
from .window_stream import Strip, Tensors, WindowBatch


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What the network said of a batch of windows.

    Attributes
    ----------
    batch
        Where they lie, without what was read; None at the end of a row of windows.
    probability, phi
        As :class:`~equipoise.pipeline.window_answers.WindowAnswers` gives them; empty without windows.
    row
        Row of windows.
    """

    batch: WindowBatch | None
    probability: NDArray[np.float32]
    phi: NDArray[np.float32]
    row: int


def answer_stream(
    strips: Iterable[Strip], answers: WindowAnswers, *, tensors: Tensors, streams: int
) -> Generator[Answer, None, None]:
    """Answer the windows of strips, and mark the end of each row of windows.

    Parameters
    ----------
    strips
        Row by row.
    answers
        The network; called on several threads at a time.
    tensors
        Makes its inputs from windows, on the same threads.
    streams
        Batches that are worked on at the same time, each by as many threads as torch has been given
        (:func:`divided_threads`).
    """
    nothing = np.zeros((0, 0, 0, 0), dtype=np.float32)

    def answer(job: tuple[int, int, WindowBatch | None]) -> Answer:
        _, row, batch = job
        if batch is None:
            return Answer(batch=None, probability=nothing, phi=nothing, row=row)
        probability, phi = answers(tensors(batch.windows))
        return Answer(batch=replace(batch, windows=()), probability=probability, phi=phi, row=row)

    return prefetch(answer, _jobs(strips), lane=lambda job: job[0], threads=streams, most=streams + 1)


@contextlib.contextmanager
def divided_threads(streams: int) -> Iterator[None]:
    """Give each of ``streams`` threads that are started within its part of torch's threads."""
    given = torch.get_num_threads()
    torch.set_num_threads(max(1, given // streams))
    try:
        yield
    finally:
        torch.set_num_threads(given)


def _jobs(strips: Iterable[Strip]) -> Iterator[tuple[int, int, WindowBatch | None]]:
    number = 0
    for strip in strips:
        for batch in strip.batches:
            yield number, strip.row, batch
            number += 1
        if strip.is_last:
            yield number, strip.row, None
            number += 1
