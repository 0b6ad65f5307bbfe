"""The network's door: working units to normalised tensors, with the statistics that the model was trained with."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .acquisition_dates import date_key, date_values
from .errors import DatasetError
from .modality import Modality
from .stack import StackWindow
from .statistics import BandStatistics


@dataclass(frozen=True, kw_only=True)
class Normaliser:
    """Turns stack windows into network inputs.

    Attributes
    ----------
    modalities
        Bands in the network's order.
    training
        Statistics of the training split, by modality.
    scenes
        Scene -> modality -> statistics of that scene alone, where every scene is normalised by itself (products
        whose radiometry was stretched for display); None normalises all scenes by ``training``.
    reference
        Modality whose date is that of the map, for networks that read when images were taken; None: they do not.
    """

    modalities: tuple[Modality, ...]
    training: Mapping[str, BandStatistics]
    scenes: Mapping[str, Mapping[str, BandStatistics]] | None = None
    reference: str | None = None

    def of_scene(self, scene: str, modality: str) -> BandStatistics:
        """Return the statistics that apply to a modality of a scene.

        Raises
        ------
        DatasetError
            If scenes are normalised one by one and this one has no statistics.
        """
        if self.scenes is None:
            return self.training[modality]
        try:
            return self.scenes[scene][modality]
        except KeyError as error:
            raise DatasetError(
                f"scene '{scene}': found no statistics of modality '{modality}'; wanted them, since `normalisation: "
                "scene` is set; run `equipoise tile` for this scene"
            ) from error

    def inputs(self, scene: str, window: StackWindow) -> dict[str, NDArray[np.float32]]:
        """Return modality -> float32 (band, y, x), normalised, 0 where not valid or missing.

        With a :attr:`reference`, also the date of each, :func:`~equipoise.datasets.acquisition_dates.date_key` ->
        :func:`~equipoise.datasets.acquisition_dates.date_values`.
        """
        height, width = next(iter(window.valid.values())).shape
        images = {}
        for modality in self.modalities:
            working = window.image.get(modality.name)
            if working is None:
                images[modality.name] = np.zeros((len(modality.bands), height, width), dtype=np.float32)
                continue
            values = modality.to_network(working)
            self.of_scene(scene, modality.name).normalise(values, out=values, nan=None)
            np.copyto(values, 0, where=~window.valid[modality.name])  # where any band is NaN, too
            images[modality.name] = values
        return images | self.dates(scene, window.acquired)

    def dates(self, scene: str, acquired: Mapping[str, str]) -> dict[str, NDArray[np.float32]]:
        """Return what a network is told of when a scene's images were taken: nothing without a :attr:`reference`.

        Raises
        ------
        DatasetError
            If an acquisition time is not ISO 8601.
        """
        if self.reference is None:
            return {}
        return {
            date_key(item.name): date_values(acquired, item.name, reference=self.reference, scene=scene)
            for item in self.modalities
        }
