"""How sure the positions of a stack's modalities are over any part of it: place by place where that is known."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from .registration_layer import RegistrationLayer
from .stack import AlignedStack


@dataclass(frozen=True, kw_only=True)
class PositionConfidence:
    """Confidence of positions, read once a stack.

    Attributes
    ----------
    of_scene
        Modality -> one number for the whole scene, where it was measured.
    layers
        Modality -> its registration layer, where there is one: it goes before the number.
    """

    of_scene: Mapping[str, float]
    layers: Mapping[str, RegistrationLayer]

    @classmethod
    def of_stack(cls, stack: AlignedStack) -> "PositionConfidence":
        """Read the layers of a stack.

        Raises
        ------
        SceneError
            If one is missing or damaged.
        """
        layers = {name: RegistrationLayer.load(path) for name, path in stack.registration.items()}
        return cls(of_scene=stack.confidence, layers=layers)

    def over(self, name: str, target: GeoBox) -> NDArray[np.float32] | float | None:
        """Return the mean confidence of a modality over each pixel of a grid in the scene's CRS.

        Returns
        -------
        float32 (y, x), 0 to 1; the number of the whole scene where there is no layer; None where nothing is known.
        """
        if name in self.layers:
            return self.layers[name].confidence_over(target)
        return self.of_scene.get(name)
