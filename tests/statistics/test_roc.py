import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from mpox.statistics import roc


def test_areas_are_scikit_learns_with_weights_and_ties():
    rng = np.random.default_rng(0)
    positive = rng.uniform(size=90) < 0.4
    scores = np.round(0.4 + 0.2 * positive + 0.25 * rng.standard_normal(90), 1)
    weights = np.stack([np.ones(90), *rng.integers(0, 4, (2, 90))])
    for row, area, precision in zip(
        weights,
        roc.auroc(scores, positive, weights),
        roc.average_precision(scores, positive, weights),
        strict=True,
    ):
        assert area == pytest.approx(roc_auc_score(positive, scores, sample_weight=row))
        expected = average_precision_score(positive, scores, sample_weight=row)
        assert precision == pytest.approx(expected)
    assert roc.auroc(scores, positive) == roc.auroc(scores, positive, weights[:1])
