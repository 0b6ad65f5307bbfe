"""Named peers that align a moving image with a reference, behind one signature.

Each gets the same pair and the same largest shift, and answers a function of places, or None where it gives no answer:
it raised, it refused, or it found a shift beyond the largest one. What is not installed is left out of PEERS. Settings
are the peer's defaults, or what its documentation recommends; each other one has its reason beside it.
"""

from importlib.util import find_spec

import cv2
import numpy as np
from coregister_arosics import arosics_global, arosics_local, arosics_local_relaxed
from coregister_pair import (
    Image,
    Mask,
    Pair,
    Peer,
    Transform,
    by_affine,
    by_shift,
    filled,
    of_gradients,
    peak_of,
    slopes,
    valid_of,
    within,
)
from numpy.typing import NDArray
from scipy import ndimage

# ---- one shift ----


def phase_correlation(pair: Pair) -> Transform | None:
    """Align by scikit-image's phase correlation to a twentieth of a pixel, masked where pixels are not valid."""
    from skimage.registration import phase_cross_correlation

    masks = [valid_of(image) for image in (pair.reference, pair.moving)]
    images = [filled(image) for image in (pair.reference, pair.moving)]
    if all(mask.all() for mask in masks):
        found = phase_cross_correlation(*images, upsample_factor=20)[0]
    else:  # scikit-image's masked form answers in whole pixels
        found = phase_cross_correlation(*images, reference_mask=masks[0], moving_mask=masks[1])[0]
    return within(pair, by_shift(-float(found[0]), -float(found[1])))  # it tells how the moving image has to go


def cross_correlation(pair: Pair) -> Transform | None:
    """Align by the normalised cross-correlation of all of the image but a margin, between pixels by a parabola."""
    from skimage.feature import match_template

    margin = pair.max_shift_px
    template = filled(pair.reference)[margin:-margin, margin:-margin]
    row, col = peak_of(match_template(filled(pair.moving), template))
    return by_shift(row - margin, col - margin)


# ---- affine ----


def mutual_information(pair: Pair) -> Transform | None:
    """Align by SimpleITK's affine registration with Mattes' mutual information, in three resolutions, with masks."""
    import SimpleITK as sitk  # noqa: N813 - the name that its documentation gives it

    images = [sitk.GetImageFromArray(filled(image)) for image in (pair.reference, pair.moving)]
    masks = [sitk.GetImageFromArray(valid_of(image).astype(np.uint8)) for image in (pair.reference, pair.moving)]
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

    return within(pair, transform)


def enhanced_correlation(pair: Pair) -> Transform | None:
    """Align by OpenCV's ECC, affine, with masks, coarse to fine."""
    steps = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 100, 1e-5)
    images = [filled(image) for image in (pair.reference, pair.moving)]
    masks = [valid_of(image).astype(np.uint8) * 255 for image in (pair.reference, pair.moving)]
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
    return within(pair, by_affine(matrix))


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
    images = [(np.clip((filled(image) - low) / max(high - low, 1e-12), 0, 1) * 255).astype(np.uint8)
              for image, (low, high) in zip((pair.reference, pair.moving), lows_highs, strict=True)]  # fmt: skip
    flow = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM).calc(*images, None)

    def transform(points: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.column_stack([ndimage.map_coordinates(flow[..., axis], points.T, order=1, mode="nearest")
                                for axis in (1, 0)]).astype(np.float64)  # fmt: skip

    return transform


# ---- oriented gradients in blocks ----


def _oriented(image: Image, *, channels: int = 9) -> tuple[Image, Mask]:
    """Return channel features of oriented gradients (channel, y, x), each pixel's of length 1, less their means."""
    rows, cols, valid = slopes(image, sigma=1.0)
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
    return peak_of(score / np.sqrt(np.maximum(energy, 1e-6)))


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
    return None if matrix is None else by_affine(matrix)


# ---- which of them are here ----

#: Name -> what aligns, and the packages that it needs beyond the project's own.
_ALL: dict[str, tuple[Peer, tuple[str, ...]]] = {
    "AROSICS global": (arosics_global, ("arosics", "osgeo")),
    "AROSICS global, gradients": (of_gradients(arosics_global), ("arosics", "osgeo")),
    "AROSICS local": (arosics_local, ("arosics", "osgeo")),
    "AROSICS local, gradients": (of_gradients(arosics_local), ("arosics", "osgeo")),
    "AROSICS local, gradients, relaxed": (of_gradients(arosics_local_relaxed), ("arosics", "osgeo")),
    "scikit-image phase correlation": (phase_correlation, ()),
    "scikit-image phase correlation, gradients": (of_gradients(phase_correlation), ()),
    "global NCC, gradients": (of_gradients(cross_correlation), ()),
    "SimpleITK mutual information": (mutual_information, ("SimpleITK",)),
    "OpenCV ECC, gradients": (of_gradients(enhanced_correlation), ()),
    "OpenCV DIS flow, gradients": (of_gradients(optical_flow), ()),
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
