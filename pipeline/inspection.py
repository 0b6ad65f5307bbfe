"""Inspection: what a file or product holds, before a line of configuration is written."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ..datasets.grd import product_polarisations
from ..datasets.modality import Band, Modality, Unit
from ..datasets.opening import Handling, family_of, open_scene
from ..datasets.product import Product, grid_of
from ..datasets.quality import Quality
from ..datasets.scene import Scene
from .file_modality import product_of
from .init_units import looks_of
from .verification import verify_checksums

#: Largest edge in pixels of the window whose pixels are looked at.
LOOK = 2048


def inspect(path: Path) -> Iterator[str]:
    """Yield lines that tell what ``path`` is: bands with units and scaling, grid, time, valid and clouded shares.

    A product that carries checksums is compared with them first, all of it. Pixels are read from a window of at most
    2048 x 2048 px in the middle.

    Raises
    ------
    SceneError
        If it does not open, is incomplete, or contradicts its own checksums.
    """
    family, place = family_of(path)
    verified = verify_checksums([path]).get(path)
    yield f"{path}"
    if family != "raster":
        yield f"  verified    {verified or 'no: it carries no checksums; equipoise validate decodes all of it'}"
    if family == "sentinel-1":
        names = sorted(product_polarisations(place), reverse=True)
        bands = tuple(Band(name=name, unit=Unit.LINEAR_POWER) for name in names)
        modality = Modality(name="sar", bands=bands)
        for key, text in open_scene(path, modality).provenance.items():
            yield f"  {key:<11} {text}"
        yield from _describe(path, modality)
        return
    product = product_of(family, place)
    yield f"  kind        {product.kind}"
    for key, text in product.provenance.items():
        yield f"  {key:<11} {text}"
    for unit in dict.fromkeys(band.unit for band in product.bands):
        members = [band for band in product.bands if band.unit is unit]
        yield from _band_lines(product, unit)
        # Names in plain rasters may repeat; positions do not.
        indices = [band.index if product.kind == "raster" else None for band in members]
        wanted = [Band(name=band.name, unit=unit, index=i) for band, i in zip(members, indices, strict=True)]
        yield from _describe(path, Modality(name=unit.value, bands=tuple(wanted)))


def _band_lines(product: Product, unit: Unit) -> Iterator[str]:
    for band in (band for band in product.bands if band.unit is unit):
        grid = grid_of(band.href, product.path, georeferenced=False)
        name = band.name if band.common_name is None else f"{band.name} ({band.common_name})"
        fill = "none" if band.nodata is None else f"{band.nodata:g}"
        radiance = "" if band.planck is None else f" from radiance (K1 {band.planck[0]:g}, K2 {band.planck[1]:g})"
        yield (
            f"  band        {name:<22} {band.unit}{radiance}, scale {band.scale:g}, offset {band.offset:g}, "
            f"nodata {fill}, {grid.shape.x} x {grid.shape.y} px"
        )


def _describe(path: Path, modality: Modality) -> Iterator[str]:
    scene = open_scene(path, modality, georeferenced=False, handling=Handling(clouds="keep"))
    grid = scene.geobox
    crs = "no CRS" if grid.crs is None else f"EPSG:{grid.crs.to_epsg()}" if grid.crs.to_epsg() else str(grid.crs)[:60]
    unit = "px" if grid.crs is None else "m" if grid.crs.projected else "degrees"
    yield f"  grid        {grid.shape.x} x {grid.shape.y} px of {abs(grid.affine.a):.6g} {unit}, {crs}"
    yield f"  acquired    {scene.acquired or 'not told'}"
    yield from _pixels(scene)
    if all(band.unit is Unit.DIGITAL_NUMBER for band in modality.bands):
        yield from _proposal(scene, path.stem)


def _proposal(scene: Scene, name: str) -> Iterator[str]:
    looks = looks_of(scene, name)
    if looks.unit is not None:
        scale = "" if looks.scale is None else f", scale: {looks.scale:g}"
        yield f"  unit        not told by the file; {looks.range} may be {looks.unit} (unit: {looks.unit}{scale})"


def _pixels(scene: Scene) -> Iterator[str]:
    height, width = scene.geobox.shape
    top, left = max(0, (height - LOOK) // 2), max(0, (width - LOOK) // 2)
    roi = (slice(top, top + LOOK), slice(left, left + LOOK))
    values, codes = scene.modality.to_network(scene.read(roi)), scene.read_quality(roi)
    valid = np.isfinite(values).all(axis=0)
    yield f"  valid       {100 * valid.mean():.1f} %"
    if scene.quality is not None:
        share = {code: 100 * float((codes == code).mean()) for code in (Quality.CLOUD, Quality.SHADOW)}
        yield f"  cloud       {share[Quality.CLOUD]:.1f} % cloud, {share[Quality.SHADOW]:.1f} % shadow"
    for band, layer in zip(scene.modality.bands, values, strict=True):
        if valid.any():
            low, middle, high = np.nanpercentile(layer[valid], (2, 50, 98))
            yield f"  values      {band.name:<22} {low:.4g} to {high:.4g} {band.network_unit}, median {middle:.4g}"
