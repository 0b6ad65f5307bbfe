"""Views for matching: which bands of a scene carry the structure that other sensors see, and on which grid."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from ..datasets.displacement import Displacement
from ..datasets.modality import Modality, Unit
from ..datasets.scene import Scene
from ..datasets.source_positions import pixel_ratio
from ..datasets.warp import warp
from .registration import View

#: Bands whose contrasts other sensors do not share: vegetation is bright in them, or they do not see the ground.
UNSHARED = frozenset({
    "nir", "nir08", "nir09", "rededge", "rededge1", "rededge2", "rededge3", "coastal", "cirrus", "water_vapour",
    "watervapor", "b01", "b05", "b06", "b07", "b08", "b8a", "b09", "b10", "b8",
})  # fmt: skip

#: Names of bands that are matched alone where they are there: they are sharp, and see the ground as radar and thermal
#: sensors do. (In a TerraMesh tile, the bands of 20 m lie a pixel beside those of 10 m.)
VISIBLE = (frozenset({"red", "green", "blue"}), frozenset({"b04", "b03", "b02"}))

#: Bands that are matched at most: more cost time and bring no other edges.
MOST_BANDS = 3

#: Up to this ratio of pixel sizes, matching is done on the finer pixels: thin edges carry the match. On the embedded
#: scene, thermal pixels of 30 m are placed within a metre on 10 m pixels, and not at all on their own.
FINEST_RATIO = 4.0


def view_of(scene: Scene, placed: Displacement | None = None) -> View:
    """Return a scene as it is matched: few bands, no clouds, and corrected as far as it is known.

    Parameters
    ----------
    scene
        What was observed.
    placed
        Correction that is known already: the view is of the scene at its true position, and takes no other.
    """
    chosen = matching_bands(scene.modality)
    bands = replace(scene.modality, bands=tuple(scene.modality.bands[number] for number in chosen))
    seen = replace(scene.without_clouds(), modality=bands, data=scene.without_clouds().data[chosen])

    def view(grid: GeoBox, displacement: Displacement | None) -> NDArray[np.float32]:
        return bands.to_network(warp(seen, grid, displacement=placed if displacement is None else displacement))

    return view


def matching_bands(modality: Modality) -> list[int]:
    """Return the positions of the bands that are matched: the visible ones, or a spread of those that may be."""
    names = [band.name.lower() for band in modality.bands]
    for visible in VISIBLE:
        if visible <= set(names):
            return [number for number, name in enumerate(names) if name in visible][:MOST_BANDS]
    thermal_or_radar = any(band.is_backscatter or band.unit is Unit.KELVIN for band in modality.bands)
    shared = [
        number for number, band in enumerate(modality.bands)
        if thermal_or_radar or band.name.lower() not in UNSHARED
    ] or list(range(len(modality.bands)))  # fmt: skip
    spread = np.linspace(0, len(shared) - 1, min(len(shared), MOST_BANDS))
    return [shared[round(place)] for place in spread.tolist()]


def matching_grid(grid: GeoBox, scene: Scene) -> GeoBox:
    """Return the grid on which a scene is matched: that given, coarser where the scene's pixels are much larger."""
    ratio = 1 / pixel_ratio(scene.geobox, grid)
    return grid.zoom_out(ratio / FINEST_RATIO) if ratio > FINEST_RATIO else grid
