import pytest

from mpox.statistics import estimate
from mpox.statistics.estimate import Estimate


@pytest.mark.parametrize(
    ("null", "off"), [(0.5, 0.0), (0.7, -1.0), (0.9, -2.0), (0.4, 1.0), (0.1, 4.0)]
)
def test_off_counts_the_width_of_the_interval_towards_the_null(null, off):
    found = Estimate(value=0.5, low=0.4, high=0.7, null=null, noise=0.1)
    assert found.off == pytest.approx(off)
    assert found.like_real is (abs(off) < 1.001)


def test_the_nulls_own_chance_adds_in_squares():
    found = Estimate(0.0, 0.0, 0.03, null=0.05, null_noise=0.04)
    assert found.off == pytest.approx(-1.0)


def test_without_any_chance_only_the_null_itself_is_like_real():
    assert Estimate(1.0, 1.0, 1.0, null=1.0, noise=0.0).off == 0
    assert Estimate(2.0, 2.0, 2.0, null=1.0, noise=0.0).off == float("inf")
    assert Estimate(0.0, 0.0, 0.0, null=1.0, noise=0.0).off == float("-inf")


FLAT = {
    "identity": {"n_test": 9},
    "fid_half": 50.0, "fid_excess": 3.0, "fid_excess_lo": 1.0, "fid_excess_hi": 5.0,
    "fid_noise": 2.0,
    "copy_rate": 0.0, "copy_rate_lo": 0.0, "copy_rate_hi": 0.1, "copy_rate_null": 0.01,
    "copy_rate_noise": 0.05, "copy_rate_null_noise": 0.02,
    "ssim_nearest": 0.4, "ssim_nearest_null": 0.3, "ssim_nearest_noise": 0.1,
    "hash_bits": 12, "hash_bits_null": 11,
}  # fmt: skip
MEASURES = {
    "identity": {"n_test": 9},
    "fid_half": 50.0,
    "fid_excess": Estimate(3.0, 1.0, 5.0, 0.0, 2.0),
    "copy_rate": Estimate(0.0, 0.0, 0.1, 0.01, 0.05, 0.02),
    "ssim_nearest": Estimate(0.4, null=0.3, noise=0.1),
    "hash_bits": Estimate(12, null=11),
}


def test_flattened_and_read_back():
    assert list(estimate.flatten(MEASURES).items()) == list(FLAT.items())
    for name, measure in MEASURES.items():
        if isinstance(measure, Estimate):
            assert estimate.read(FLAT, name) == measure
    assert estimate.read(FLAT, "kid") is None


def test_numbers_are_flattened_to_six_digits():
    flat = estimate.flatten(
        {"fid": 1234.56789, "kid": Estimate(1 / 3, null=-2e-9 / 3), "n": 1234567}
    )
    assert flat == {"fid": 1234.57, "kid": 0.333333, "kid_null": -6.66667e-10, "n": 1234567}
