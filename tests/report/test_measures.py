"""The place of a measure on its axis, and the side that is worse."""

import math

import pytest
from runs import evaluation, finished, without_training

from mpox.compare import comparison
from mpox.report import measures
from mpox.report.measures import MEASURES, Row
from mpox.statistics.estimate import Estimate

# Which way a measure goes when its fault is there: docs/metrics.md's known answers.
WORSE = {
    "fid_excess": 1, "kid": 1, "precision": -1, "density": -1, "recall": -1, "coverage": -1,
    "vendi_ratio": -1, "ms_ssim": 1, "repeat_rate": 1, "copy_rate": 1, "hash_rate": 1,
    "fid_gap": 1, "tone_distance": 1,
}  # fmt: skip


def row(name: str, *numbers: float) -> Row:
    return Row(MEASURES[name], Estimate(*numbers), 52)


def test_every_compared_measure_is_listed_once():
    assert {name: measure.worse for name, measure in MEASURES.items()} == WORSE
    assert sorted(comparison.MEASURES) == sorted(WORSE)
    assert len(MEASURES) == sum(len(family) for family in measures.FAMILIES.values())


def test_the_null_is_in_the_middle_and_worse_is_right():
    """kid: higher is worse; precision: lower is. Two units of chance are half-way to the edge."""
    alike = row("kid", 0.1, 0.0, 0.2, 0.1)
    assert (alike.point, alike.verdict) == (measures.MIDDLE, "within chance")
    half_way = measures.MIDDLE + (measures.MIDDLE - 12) / 2
    for worse in (row("kid", 0.3, 0.2, 0.4, 0.1), row("precision", 0.4, 0.3, 0.5, 0.6)):
        assert worse.off == pytest.approx(2)
        assert worse.point == pytest.approx(half_way, abs=0.1)
        assert worse.verdict == "worse than real photos"
        ends = [measures.MIDDLE + units / 4 * (measures.MIDDLE - 12) for units in (1, 3)]
        assert worse.interval == pytest.approx(ends, abs=0.1)
    better = row("precision", 0.9, 0.8, 1.0, 0.6)
    assert better.point < measures.MIDDLE and better.verdict == "beyond chance, better side"


def test_values_far_off_stay_on_the_drawing():
    far = row("kid", 9.0, 8.9, 9.1, 0.1)
    assert far.beyond_edge and far.point == 2 * measures.MIDDLE - 12
    assert far.off == pytest.approx(89)
    certain = row("repeat_rate", 1.0, 1.0, 1.0, 0.0)
    assert math.isinf(certain.off) and certain.point == 2 * measures.MIDDLE - 12
    assert certain.interval == (certain.point, certain.point)


def test_a_family_without_numbers_is_left_out(tmp_path):
    metrics = without_training(evaluation())
    families = measures.rows(finished(tmp_path, metrics=metrics))
    assert list(families) == ["Distance", "Plausible and complete", "Diversity"]
    counts = {each.about.name: each.n for rows in families.values() for each in rows}
    assert (counts["fid_excess"], counts["kid"]) == (50, 100)
