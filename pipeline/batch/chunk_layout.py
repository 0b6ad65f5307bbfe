"""ChunkLayout: how large chunks are and how far windows reach beyond them, so that no seam is left between two."""

from dataclasses import dataclass

from ..stage_options import PredictOptions


@dataclass(frozen=True, kw_only=True)
class ChunkLayout:
    """Chunks that hold whole windows.

    A pixel is blended from the windows whose weight there is not zero. All chunks lie on one lattice of windows, and a
    chunk's windows begin ``lead`` px before it and end ``trail`` px after it, far enough to have every window that
    weighs on its pixels: they get the values that a map of the whole would give them. Where the tiles of reliance
    allow it, chunks end in the middle of a window's core, which costs one window more a row and not two.

    Attributes
    ----------
    edge
        Of a chunk, px: a multiple of ``stride``.
    stride
        Distance between windows, px.
    lead, trail
        Px by which windows begin before a chunk and end after it.
    margin
        Px that windows read beyond their cores.
    """

    edge: int
    stride: int
    lead: int
    trail: int
    margin: int

    @classmethod
    def of(cls, options: PredictOptions, *, edge: int) -> "ChunkLayout":
        """Return the layout whose chunks are nearest to ``edge`` px."""
        stride, margin, tile = options.tile - options.overlap, options.overlap // 2, options.reliance_tile
        blended = margin - options.chosen_halo
        lead = stride // tile // 2 * tile
        trail = stride - lead
        if min(lead, trail) < blended or lead == 0:
            lead = trail = stride
        return cls(edge=max(1, round(edge / stride)) * stride, stride=stride, lead=lead, trail=trail, margin=margin)

    @property
    def shift(self) -> int:
        """Px by which the first chunk of a scene is smaller: its windows begin at the scene's edge, not before it."""
        return (self.stride - self.lead) % self.stride

    def cuts(self, length: int) -> list[tuple[int, int, int, int]]:
        """Cut the rows or columns of a scene.

        Parameters
        ----------
        length
            Number of rows or columns, px.

        Returns
        -------
        Of each chunk: its first row, one past its last, and the px by which windows begin before it and end after it;
        none of them beyond the scene.
        """
        starts = [0, *range(self.edge - self.shift, length, self.edge)]
        ends = [*starts[1:], length]
        return [
            (start, end, self.lead if start else 0, min(self.trail, length - end))
            for start, end in zip(starts, ends, strict=True)
        ]
