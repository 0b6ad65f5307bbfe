"""Named peers that align a moving image with a reference, behind one signature.

Each gets the same pair and the same largest shift, and answers a function of places, or None where it gives no answer:
it raised, it refused, or it found a shift beyond the largest one. What is not installed is left out of PEERS. Settings
are the peer's defaults, or what its documentation recommends; each other one has its reason beside it.
"""

import contextlib
import io
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

#: Points (n, 2) as (row, col) in reference pixels -> displacement (n, 2) as (rows, cols): where the content at that
#: place of the reference lies in the moving image, minus the place itself. Whole numbers are centres of pixels.
Transform = Callable[[NDArray[np.float64]], NDArray[np.float64]]
Image = NDArray[np.float32]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Pair:
    """What a peer is given: two images of the same size and pixel size, in network units (radar in dB)."""

    #: float32 (y, x), NaN where not valid.
    reference: Image
    #: float32 (y, x), NaN where not valid.
    moving: Image
    #: Largest displacement that is looked for, along rows and along columns.
    max_shift_px: int
    #: Side of a pixel in metres.
    pixel_m: float


Peer = Callable[[Pair], Transform | None]


# ---- what several of them share ----


def _valid(image: Image) -> Mask:
    return np.isfinite(image)


def _filled(image: Image) -> Image:
    """Return the image with its mean where it is not valid, for those that take no mask."""
    valid = _valid(image)
    return np.where(valid, image, image[valid].mean()).astype(np.float32)


def _slopes(image: Image, *, sigma: float = 1.5) -> tuple[Image, Image, Mask]:
    """Return slopes along rows and columns of the smoothed image, and where no invalid pixel had a part in them.

    One sigma for every peer: 1.5 px quiets speckle and keeps what a pixel's fraction is told by.
    """
    valid = _valid(image)
    weight = ndimage.gaussian_filter(valid.astype(np.float32), sigma)
    # Normalised convolution: the border of a mask is not an edge.
    smooth = ndimage.gaussian_filter(np.where(valid, image, 0).astype(np.float32), sigma) / np.maximum(weight, 1e-3)
    rows, cols = np.gradient(smooth)
    inner = valid if valid.all() else ndimage.binary_erosion(valid, iterations=2, border_value=1)
    return rows, cols, inner


def _gradients(image: Image) -> Image:
    """Return the gradient's magnitude, in units of its own mean, NaN where not valid."""
    rows, cols, valid = _slopes(image)
    size = np.hypot(rows, cols)
    return np.where(valid, size / max(float(size[valid].mean()), 1e-12), np.nan).astype(np.float32)


def _of_gradients(peer: Peer) -> Peer:
    """Return the peer, given gradient magnitudes: where a radar and a camera have most in common."""

    def given_gradients(pair: Pair) -> Transform | None:
        return peer(Pair(reference=_gradients(pair.reference), moving=_gradients(pair.moving),
                         max_shift_px=pair.max_shift_px, pixel_m=pair.pixel_m))  # fmt: skip

    return given_gradients


def _shift(rows: float, cols: float) -> Transform:
    return lambda points: np.tile(np.array([rows, cols], dtype=np.float64), (len(points), 1))


def _affine(matrix: NDArray[Any]) -> Transform:
    """Return the displacement by a (2, 3) matrix from reference (x, y) to moving (x, y), OpenCV's habit."""

    def transform(points: NDArray[np.float64]) -> NDArray[np.float64]:
        moved = points[:, ::-1] @ matrix[:, :2].T + matrix[:, 2]
        return (moved[:, ::-1] - points).astype(np.float64)

    return transform


def _within(pair: Pair, transform: Transform) -> Transform | None:
    """Return the answer of a peer that takes no largest shift, or None where the image's centre moves by more."""
    centre = np.array(pair.reference.shape, dtype=np.float64)[None] / 2
    moved = np.abs(transform(centre)).max()
    return transform if np.isfinite(moved) and moved <= pair.max_shift_px else None


def _peak(surface: NDArray[np.floating[Any]]) -> tuple[float, float]:
    """Return row and column of the highest value, between pixels by a parabola along each axis."""
    at = np.unravel_index(int(np.argmax(surface)), surface.shape)
    place = []
    for axis, index in enumerate(at):
        line = np.moveaxis(surface, axis, 0)[(slice(None), at[1 - axis])]
        if not 0 < index < len(line) - 1:
            place.append(float(index))
            continue
        before, here, after = (float(value) for value in line[index - 1 : index + 2])
        bend = before - 2 * here + after
        place.append(float(index) + (0.5 * (before - after) / bend if bend < 0 else 0.0))
    return place[0], place[1]


# ---- AROSICS ----

#: A declared nodata value that no image holds: without one AROSICS takes what the corners hold for it.
_NODATA = -9999.0


def _geo_arrays(pair: Pair) -> tuple[dict[str, Any], tuple[float, ...]]:
    """Return the arguments that both AROSICS classes share, and the geotransform.

    Pixels that are not valid hold the mean and are declared bad, as its documentation asks for clouds.
    """
    from geoarray import GeoArray
    from osgeo import gdal, osr

    if not hasattr(gdal, "config_options"):  # AROSICS asks for GDAL 3.8; all that it misses in 3.6 is this
        gdal.config_options = _config_options
    osr.UseExceptions()
    system = osr.SpatialReference()
    system.ImportFromEPSG(32631)  # any in metres: the pixels' size is all that matters
    geotransform = (500000.0, pair.pixel_m, 0.0, 5000000.0, 0.0, -pair.pixel_m)

    def geo(array: NDArray[Any]) -> Any:
        return GeoArray(array, geotransform, system.ExportToWkt(), q=True)

    given: dict[str, Any] = {
        "im_ref": geo(_filled(pair.reference)), "im_tgt": geo(_filled(pair.moving)),
        "nodata": (_NODATA, _NODATA),
        "max_shift": pair.max_shift_px,  # the benchmark's, not 5 px
        "CPUs": 1,  # seconds of CPU are compared
        "q": True, "progress": False,
    }  # fmt: skip
    for name, image in (("mask_baddata_ref", pair.reference), ("mask_baddata_tgt", pair.moving)):
        if not _valid(image).all():
            given[name] = geo(~_valid(image))
    return given, geotransform


@contextlib.contextmanager
def _config_options(options: dict[str, str]) -> Iterator[None]:
    """Set GDAL's options for a while, as gdal.config_options does since GDAL 3.7."""
    from osgeo import gdal

    before = {key: gdal.GetConfigOption(key) for key in options}
    try:
        for key, value in options.items():
            gdal.SetConfigOption(key, value)
        yield
    finally:
        for key, value in before.items():
            gdal.SetConfigOption(key, value)


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Keep what AROSICS prints and warns of, even when asked to be quiet, out of the benchmark's table."""
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def arosics_global(pair: Pair) -> Transform | None:
    """Align by AROSICS' one shift, from its default window of 256 px at the centre of the overlap."""
    from arosics import COREG

    with _quietly():
        given, _ = _geo_arrays(pair)
        try:
            found = COREG(**given)
            found.calculate_spatial_shifts()
        except (RuntimeError, ValueError, AssertionError):  # what it raises when it finds no match, or refuses one
            return None
    if not found.success or found.x_shift_px is None:
        return None
    # It tells the correction, how the moving image has to go, in pixels that count down and to the right.
    return _shift(-float(found.y_shift_px), -float(found.x_shift_px))


def arosics_local(pair: Pair, **filters: Any) -> Transform | None:
    """Align by AROSICS' tie points with windows of 256 px, and the warp that its own deshifter makes of them.

    That warp is GDAL's thin-plate spline through the tie points that passed its filters, or their mean shift where
    fewer than five did (its min_points_local_corr).
    """
    from arosics import COREG_LOCAL

    with _quietly():
        given, geotransform = _geo_arrays(pair)
        try:
            # A tie point each 64 px: windows overlap by three quarters, 256 points in 1000 x 1000 px.
            found = COREG_LOCAL(**given, grid_res=64, window_size=(256, 256), **filters)
            found.calculate_spatial_shifts()
            info = found.coreg_info if found.success else None
        except (RuntimeError, ValueError, AssertionError):  # as above
            return None
    if info is None:
        return None
    if len(info["GCPList"]) < 5:
        return _shift(-float(info["mean_shifts_px"]["y"]), -float(info["mean_shifts_px"]["x"]))
    return _thin_plates(info["GCPList"], geotransform, pair)


def _thin_plates(tie_points: list[Any], geotransform: tuple[float, ...], pair: Pair) -> Transform:
    """Return GDAL's spline from places on the ground to pixels of the moving image, at full precision."""
    from osgeo import gdal, osr

    system = osr.SpatialReference()
    system.ImportFromEPSG(32631)
    height, width = pair.moving.shape
    image = gdal.GetDriverByName("MEM").Create("", width, height, 1)
    image.SetGCPs(tie_points, system.ExportToWkt())
    spline = gdal.Transformer(image, None, ["METHOD=GCP_TPS"])

    def transform(points: NDArray[np.float64]) -> NDArray[np.float64]:
        x = geotransform[0] + (points[:, 1] + 0.5) * geotransform[1]
        y = geotransform[3] + (points[:, 0] + 0.5) * geotransform[5]
        moved, _ = spline.TransformPoints(True, np.column_stack([x, y]).tolist())
        # GDAL counts from a pixel's corner.
        return np.array([(line - 0.5, pixel - 0.5) for pixel, line, _ in moved]) - points

    return transform


def arosics_local_relaxed(pair: Pair) -> Transform | None:
    """Align by AROSICS' tie points, with fewer of them thrown away."""
    # Level 1 leaves out the test of structural similarity, which images of two kinds cannot pass, and the RANSAC after
    # it; its documentation asks for a lower reliability where the signal is poor (default: 60 %).
    return arosics_local(pair, tieP_filter_level=1, min_reliability=30)


# ---- one shift ----


def phase_correlation(pair: Pair) -> Transform | None:
    """Align by scikit-image's phase correlation to a twentieth of a pixel, masked where pixels are not valid."""
    from skimage.registration import phase_cross_correlation

    masks = [_valid(image) for image in (pair.reference, pair.moving)]
    images = [_filled(image) for image in (pair.reference, pair.moving)]
    if all(mask.all() for mask in masks):
        found = phase_cross_correlation(*images, upsample_factor=20)[0]
    else:  # scikit-image's masked form answers in whole pixels
        found = phase_cross_correlation(*images, reference_mask=masks[0], moving_mask=masks[1])[0]
    return _within(pair, _shift(-float(found[0]), -float(found[1])))  # it tells how the moving image has to go


def cross_correlation(pair: Pair) -> Transform | None:
    """Align by the normalised cross-correlation of all of the image but a margin, between pixels by a parabola."""
    from skimage.feature import match_template

    margin = pair.max_shift_px
    template = _filled(pair.reference)[margin:-margin, margin:-margin]
    row, col = _peak(match_template(_filled(pair.moving), template))
    return _shift(row - margin, col - margin)


# ---- affine ----


def mutual_information(pair: Pair) -> Transform | None:
    """Align by SimpleITK's affine registration with Mattes' mutual information, in three resolutions, with masks."""
    import SimpleITK as sitk  # noqa: N813 - the name that its documentation gives it

    images = [sitk.GetImageFromArray(_filled(image)) for image in (pair.reference, pair.moving)]
    masks = [sitk.GetImageFromArray(_valid(image).astype(np.uint8)) for image in (pair.reference, pair.moving)]
    method = sitk.ImageRegistrationMethod()
    method.SetNumberOfThreads(1)  # seconds of CPU are compared, and sums in one order give one answer
    method.SetMetricAsMattesMutualInformation(numberOfHistogramBins=50)
    method.SetMetricFixedMask(masks[0])
    method.SetMetricMovingMask(masks[1])
    # Every other pixel: its examples' 1 % at random are of volumes with many more voxels, and gave worse answers here.
    method.SetMetricSamplingStrategy(method.REGULAR)
    method.SetMetricSamplingPercentage(0.5, seed=1)
    method.SetInterpolator(sitk.sitkLinear)
    # As in its examples of mutual information; their plain gradient descent ran away from a shift of optical images.
    method.SetOptimizerAsRegularStepGradientDescent(learningRate=1.0, minStep=1e-4, numberOfIterations=200)
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetShrinkFactorsPerLevel([4, 2, 1])
    method.SetSmoothingSigmasPerLevel([4, 2, 1])  # its examples' 2, 1, 0 lost radar more often
    start = sitk.CenteredTransformInitializer(*images, sitk.AffineTransform(2),
                                              sitk.CenteredTransformInitializerFilter.GEOMETRY)  # fmt: skip
    method.SetInitialTransform(start, inPlace=False)
    try:
        found = method.Execute(*images)
    except RuntimeError:  # too few samples fall on both images: it has run away
        return None

    def transform(points: NDArray[np.float64]) -> NDArray[np.float64]:
        moved = [found.TransformPoint((col, row)) for row, col in points.tolist()]
        return np.array(moved)[:, ::-1] - points

    return _within(pair, transform)


def enhanced_correlation(pair: Pair) -> Transform | None:
    """Align by OpenCV's ECC, affine, with masks, coarse to fine."""
    steps = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 100, 1e-5)
    images = [_filled(image) for image in (pair.reference, pair.moving)]
    masks = [_valid(image).astype(np.uint8) * 255 for image in (pair.reference, pair.moving)]
    matrix = np.eye(2, 3, dtype=np.float32)
    # It climbs from where it begins, so its documentation wants a rough alignment first: a pyramid gives it. OpenCV's
    # own (findTransformECCMultiScale, new in 5.0) lost radar more often.
    for level in (4, 2, 1):
        small = [cv2.resize(image, None, fx=1 / level, fy=1 / level, interpolation=cv2.INTER_AREA) for image in images]
        usable = [cv2.resize(mask, image.shape[::-1], interpolation=cv2.INTER_NEAREST)
                  for mask, image in zip(masks, small, strict=True)]  # fmt: skip
        scaled = _rescaled(matrix, 1 / level)
        try:
            _, scaled = cv2.findTransformECCWithMask(*small, *usable, scaled, cv2.MOTION_AFFINE, steps, 5)
        except cv2.error:  # it did not converge
            return None
        matrix = _rescaled(scaled, level)
    return _within(pair, _affine(matrix))


def _rescaled(matrix: NDArray[np.float32], factor: float) -> NDArray[np.float32]:
    """Return a transformation of pixels as one of pixels that are smaller by the factor."""
    offset = (factor - 1) / 2  # old pixel p has its centre at p * factor + offset
    linear = matrix[:, :2]
    shift = factor * matrix[:, 2] + offset - linear @ np.full(2, offset)
    return np.column_stack([linear, shift]).astype(np.float32)


# ---- local ----


def optical_flow(pair: Pair) -> Transform | None:
    """Align by OpenCV's DIS optical flow, the most careful of its presets."""
    # It takes bytes and no masks: 1 to 99 % of the values fill the range.
    lows_highs = [np.nanpercentile(image, (1, 99)) for image in (pair.reference, pair.moving)]
    images = [(np.clip((_filled(image) - low) / max(high - low, 1e-12), 0, 1) * 255).astype(np.uint8)
              for image, (low, high) in zip((pair.reference, pair.moving), lows_highs, strict=True)]  # fmt: skip
    flow = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM).calc(*images, None)

    def transform(points: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.column_stack([ndimage.map_coordinates(flow[..., axis], points.T, order=1, mode="nearest")
                                for axis in (1, 0)]).astype(np.float64)  # fmt: skip

    return transform


# ---- oriented gradients in blocks ----


def _oriented(image: Image, *, channels: int = 9) -> tuple[Image, Mask]:
    """Return channel features of oriented gradients (channel, y, x), each pixel's of length 1, less their means."""
    rows, cols, valid = _slopes(image, sigma=1.0)
    angles = np.arange(channels) * np.pi / channels
    strength = np.stack([np.abs(np.cos(angle) * cols + np.sin(angle) * rows) for angle in angles])
    blurred = ndimage.gaussian_filter(strength, (0, 1.5, 1.5))
    # Neighbouring orientations are blurred as 1 3 1, round the circle, as in the paper (Ye et al. 2019).
    blurred = (3 * blurred + np.roll(blurred, 1, axis=0) + np.roll(blurred, -1, axis=0)) / 5
    unit = blurred / (np.linalg.norm(blurred, axis=0) + 1e-6 * blurred.mean() + 1e-12)
    unit -= unit[:, valid].mean(axis=1)[:, None, None]
    return np.where(valid, unit, 0).astype(np.float32), valid


def _block_peak(template: Image, window: Image) -> tuple[float, float]:
    """Return the place in the window (channel, y, x) where the template fits best, by NCC in Fourier space."""
    from scipy import fft

    size = [fft.next_fast_len(length, real=True) for length in window.shape[1:]]
    free = tuple(slice(0, whole - part + 1) for whole, part in zip(window.shape[1:], template.shape[1:], strict=True))
    product = fft.rfft2(window, size) * np.conj(fft.rfft2(template, size))
    score = fft.irfft2(product.sum(axis=0), size)[free]
    sums = np.pad((window**2).sum(axis=0, dtype=np.float64), ((1, 0), (1, 0))).cumsum(axis=0).cumsum(axis=1)
    rows, cols = template.shape[1:]
    energy = (sums[rows:, cols:] - sums[:-rows, cols:] - sums[rows:, :-cols] + sums[:-rows, :-cols])[free]
    return _peak(score / np.sqrt(np.maximum(energy, 1e-6)))


def oriented_gradients(pair: Pair, *, largest: int = 128, grid: int = 9) -> Transform | None:
    """Align as CFOG does: oriented gradients matched in blocks, and an affine fit to them by RANSAC."""
    (reference, valid), (moving, usable) = _oriented(pair.reference), _oriented(pair.moving)
    reach = pair.max_shift_px
    block = min(largest, (min(valid.shape) - 2 * reach) // 2)  # smaller scenes still have several blocks
    if block < 32:
        return None
    origins = [np.unique(np.linspace(reach, length - reach - block, grid).astype(int)) for length in valid.shape]
    places, found = [], []
    for top in origins[0]:
        for left in origins[1]:
            inside = slice(top, top + block), slice(left, left + block)
            around = slice(top - reach, top + block + reach), slice(left - reach, left + block + reach)
            if valid[inside].mean() < 0.5 or usable[around].mean() < 0.5:  # a block more masked than not tells little
                continue
            row, col = _block_peak(reference[:, *inside], moving[:, *around])
            place = np.array([left, top]) + (block - 1) / 2
            places.append(place)
            found.append(place + np.array([col, row]) - reach)
    if len(places) < 6:
        return None
    matrix, _ = cv2.estimateAffine2D(np.array(places), np.array(found), method=cv2.RANSAC, ransacReprojThreshold=1.5)
    return None if matrix is None else _affine(matrix)


# ---- which of them are here ----

#: Name -> what aligns, and the packages that it needs beyond the project's own.
_ALL: dict[str, tuple[Peer, tuple[str, ...]]] = {
    "AROSICS global": (arosics_global, ("arosics", "osgeo")),
    "AROSICS global, gradients": (_of_gradients(arosics_global), ("arosics", "osgeo")),
    "AROSICS local": (arosics_local, ("arosics", "osgeo")),
    "AROSICS local, gradients": (_of_gradients(arosics_local), ("arosics", "osgeo")),
    "AROSICS local, gradients, relaxed": (_of_gradients(arosics_local_relaxed), ("arosics", "osgeo")),
    "scikit-image phase correlation": (phase_correlation, ()),
    "scikit-image phase correlation, gradients": (_of_gradients(phase_correlation), ()),
    "global NCC, gradients": (_of_gradients(cross_correlation), ()),
    "SimpleITK mutual information": (mutual_information, ("SimpleITK",)),
    "OpenCV ECC, gradients": (_of_gradients(enhanced_correlation), ()),
    "OpenCV DIS flow, gradients": (_of_gradients(optical_flow), ()),
    "CFOG-like blocks, RANSAC affine": (oriented_gradients, ()),
}


def installed_peers() -> dict[str, Peer]:
    """Return the peers whose packages can be found, and say in a line which others are left out."""
    missing = {name: [item for item in needs if find_spec(item) is None] for name, (_, needs) in _ALL.items()}
    for name, items in missing.items():
        if items:
            print(f"{name}: left out, not installed: {', '.join(items)}")
    return {name: peer for name, (peer, _) in _ALL.items() if not missing[name]}


PEERS: dict[str, Peer] = installed_peers()
