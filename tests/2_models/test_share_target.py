"""Share targets: the nearest allowed shares, against a numerical optimiser and by their laws."""

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.optimize import minimize

from equipoise.models.balancing.share_target import ShareTarget
from equipoise.models.errors import ModelError

NAMES = ("eo", "sar", "ir")


@st.composite
def targets(draw):
    pairs = [sorted((draw(st.floats(0, 1)), draw(st.floats(0, 1)))) for _ in NAMES]
    low, high = zip(*pairs, strict=True)
    assume(sum(low) <= 0.999)
    assume(sum(high) >= 1.001)
    return ShareTarget(low=low, high=high)


shares = st.lists(st.floats(0.01, 1), min_size=3, max_size=3).map(lambda x: torch.tensor(x).double() / sum(x))


@given(target=targets(), found=shares)
def test_the_nearest_is_allowed_and_no_allowed_share_is_nearer(target, found):
    nearest = target.nearest(found)
    assert float(nearest.sum()) == pytest.approx(1, abs=1e-9)
    assert target.miss(nearest.tolist()) < 1e-9
    best = minimize(
        lambda x: ((x - found.numpy()) ** 2).sum(), np.full(3, 1 / 3), method="SLSQP",
        bounds=list(zip(target.low, target.high, strict=True)),
        constraints={"type": "eq", "fun": lambda x: x.sum() - 1}, options={"ftol": 1e-14},
    )  # fmt: skip
    ours = float((nearest - found).square().sum())
    assert ours <= best.fun + 1e-7


@given(target=targets(), found=shares)
def test_what_is_allowed_stays(target, found):
    nearest = target.nearest(found)
    torch.testing.assert_close(target.nearest(nearest), nearest, rtol=0, atol=1e-9)


def test_many_shares_at_once_are_as_one_by_one():
    target = ShareTarget(low=(0.4, 0.0, 0.1), high=(0.5, 1.0, 0.2))
    rows = torch.rand(5, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    rows = rows / rows.sum(dim=1, keepdim=True)
    torch.testing.assert_close(target.nearest(rows), torch.stack([target.nearest(row) for row in rows]))


def test_points_ranges_and_free_modalities_are_read_by_name():
    target = ShareTarget.of({"ir": 0.3, "eo": (0.2, 0.5), "sar": None}, NAMES, tolerance=0.02)
    assert target.low == pytest.approx((0.2, 0.0, 0.28))
    assert target.high == pytest.approx((0.5, 1.0, 0.32))
    assert target.miss((0.55, 0.15, 0.30)) == pytest.approx(0.05)
    assert target.miss((0.4, 0.35, 0.25)) == pytest.approx(0.03)
    assert target.miss((0.4, 0.3, 0.3)) == 0


@pytest.mark.parametrize(
    ("wishes", "message"),
    [
        ({"eo": 0.7, "sar": 0.6}, r"sums 1\.26 .*shares with sum 1"),
        ({"eo": 0.2, "sar": 0.2, "ir": 0.2}, r"wanted targets that shares with sum 1"),
        ({"lidar": 0.2}, r"'lidar'.*names among"),
        ({"eo": (0.6, 0.2)}, "lowest <= highest"),
        ({"eo": (0.6, 1.2)}, "highest <= 1"),
    ],
)
def test_contradictions_are_refused(wishes, message):
    with pytest.raises(ModelError, match=message) as caught:
        ShareTarget.of(wishes, NAMES, tolerance=0.02)
    assert "\n" not in str(caught.value)
