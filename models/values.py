"""ValuesEncoder: what an angle or a season's weather says, cell by cell, without looking at neighbours."""

from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional as F


class ValuesEncoder(nn.Module):
    """Reads numbers and no texture: the mean of each cell goes through a perceptron, the same at every scale.

    For modalities that hold one value for a whole scene, or a coarse raster such as a weather model's: convolutions
    over what does not change from pixel to pixel would be paid for and learn nothing. Its parts reach no farther than
    the cell, so windows of any size say the same. Under attention its cells are tokens as those of images are. Ours.

    Parameters
    ----------
    in_channels
        Number of values.
    depth
        Number of strides.
    """

    name: ClassVar[str] = "values"
    _WIDTH: ClassVar[int] = 32

    def __init__(self, *, in_channels: int, depth: int) -> None:
        super().__init__()
        self.out_channels = [in_channels, *[self._WIDTH] * depth]
        self.read = nn.Sequential(
            nn.Conv2d(in_channels, self._WIDTH, 1), nn.SiLU(), nn.Conv2d(self._WIDTH, self._WIDTH, 1), nn.SiLU()
        )

    def forward(self, image: Tensor) -> list[Tensor]:
        """Return maps at strides 1, 2, ..., ``2 ** depth`` of an image float32 (batch, value, y, x)."""
        found, cells = [image], image
        for _ in self.out_channels[1:]:
            cells = F.avg_pool2d(cells, 2)
            found.append(self.read(cells))
        return found
