"""Trained models for Python: images in as xarray, maps out as xarray, by the same way as `equipoise predict`."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from html import escape
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

from ..datasets.modality import Modality
from ..datasets.stack import AlignedStack
from ..datasets.training_statistics import scene_statistics
from .array_stack import write_array_stack
from .model_folder import load_predictor
from .predict import Predictor
from .predict_scenes import predict_scenes
from .prediction import Prediction
from .run_folder import fingerprint
from .scene_options import ClassOptions
from .stage_options import PredictOptions


@dataclass(frozen=True, kw_only=True)
class TrainedModel:
    """A model folder, loaded.

    Attributes
    ----------
    folder
        Where it was loaded from.
    predictor
        The network with bands, statistics and classes.
    """

    folder: Path
    predictor: Predictor

    @property
    def modalities(self) -> tuple[Modality, ...]:
        """Sensors and their bands, in the order of training."""
        return tuple(self.predictor.normaliser.modalities)

    @property
    def bands(self) -> dict[str, tuple[str, ...]]:
        """Names of the bands of each modality, in the order of the images' band axis."""
        return {item.name: item.band_names for item in self.modalities}

    @property
    def units(self) -> dict[str, tuple[str, ...]]:
        """Unit of each band that :meth:`predict` takes where nothing else is said; radar is in linear power."""
        return {item.name: tuple(str(band.working_unit) for band in item.bands) for item in self.modalities}

    @property
    def classes(self) -> tuple[ClassOptions, ...]:
        """Classes with value, name and colour."""
        return tuple(self.predictor.classes)

    def predict(
        self,
        images: Mapping[str, Any],
        *,
        units: Mapping[str, str] | None = None,
        clouds: Mapping[str, Any] | None = None,
        acquired: Mapping[str, str] | None = None,
        reliance: Literal["shapley", "leave_one_out", "none"] = "shapley",
        reliance_tile: int = 32,
        tile: int = 256,
        overlap: int = 64,
        name: str = "scene",
        folder: Path | str | None = None,
    ) -> Prediction:
        """Map images.

        Parameters
        ----------
        images
            Modality -> :class:`xarray.DataArray` (band, y, x), all on one grid, as rioxarray, odc-stac and
            :func:`odc.geo.xr.wrap_xr` give them; NaN or the ``nodata`` attribute where not valid. A modality that the
            model knows may be left out: it is then missing.
        units
            Modality -> unit of its values, such as ``db``, where it is not that of :attr:`units`.
        clouds
            Modality -> :class:`xarray.DataArray` (y, x) on the same grid, True, or a number other than 0, where cloud
            or shadow hides the ground. These pixels of the modality are not used, and the trust map knows why.
        acquired
            Modality -> acquisition time, ISO 8601, for models that read dates; what is left out is not known.
        reliance, reliance_tile, tile, overlap
            As `predict.*` of the configuration; px.
        name
            Of the scene.
        folder
            Keeps the maps as `equipoise predict` writes them: GeoTIFFs, styles and STAC item. None: nothing is kept,
            and the maps come back in memory.

        Returns
        -------
        The maps, with the same pixels as those of `equipoise predict` with the same options.

        Raises
        ------
        PipelineError
            If an image has other bands, another grid, a unit that its values cannot be in, or no valid pixel; clouds
            are of no image; or the model knows none of the modalities.
        """
        options = PredictOptions.model_validate(
            {"reliance": reliance, "reliance_tile": reliance_tile, "tile": tile, "overlap": overlap}
        )
        with TemporaryDirectory(prefix="equipoise-") as scratch:
            stack = write_array_stack(
                images, self.modalities, units=units or {}, clouds=clouds, name=name, folder=Path(scratch) / "in"
            )
            stack = replace(stack, acquired=dict(acquired or {}))
            maps = Path(scratch) / "maps" if folder is None else Path(folder)
            maps.mkdir(parents=True, exist_ok=True)
            resume = fingerprint(options=options.model_dump(mode="json"), scratch=scratch)
            predict_scenes(
                [stack], self._for(stack), options=options, informative={}, folder=maps, resume=resume,
                model=self.folder,
            )  # fmt: skip
            made = Prediction.open(maps, name, legend=self.classes)
            return made.load() if folder is None else made

    def _for(self, stack: AlignedStack) -> Predictor:
        """Return the predictor, with the scene's own statistics where the model was trained with such."""
        if self.predictor.normaliser.scenes is None:
            return self.predictor
        own = {stack.name: scene_statistics(stack, self.modalities)}
        return replace(self.predictor, normaliser=replace(self.predictor.normaliser, scenes=own))

    def _repr_html_(self) -> str:
        """Return sensors, bands and classes, for notebooks."""
        rows = "".join(
            f"<tr><th>{escape(name)}</th><td>{escape(', '.join(bands))}</td>"
            f"<td>{escape(', '.join(sorted(set(self.units[name]))))}</td></tr>"
            for name, bands in self.bands.items()
        )
        swatches = " ".join(
            f'<span style="color:{escape(item.color)}">&#9632;</span> {escape(item.name)}' for item in self.classes
        )
        return (
            f"<b>Model</b> {escape(self.folder.name)} ({escape(self.predictor.digest)})"
            f"<table><tr><th>sensor</th><th>bands</th><th>unit</th></tr>{rows}</table>{swatches}"
        )


def load_model(folder: Path | str, *, device: Literal["auto", "cpu", "cuda"] = "auto") -> TrainedModel:
    """Load a model folder, as `equipoise train` writes it.

    Raises
    ------
    CheckpointError
        If the model is missing, damaged or foreign.
    RunFolderError
        If there is no GPU for ``device="cuda"``.
    """
    return TrainedModel(folder=Path(folder), predictor=load_predictor(Path(folder), device=device))
