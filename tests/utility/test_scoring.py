"""The measures of an arm against scikit-learn's."""

import numpy as np
import pytest
from sklearn.metrics import brier_score_loss, recall_score
from test_trial import made_up

from mpox.utility import scoring


def test_rates_are_scikit_learns():
    rng = np.random.default_rng(0)
    mpox = rng.uniform(size=90) < 0.4
    scores = np.round(np.clip(0.4 + 0.2 * mpox + 0.25 * rng.standard_normal(90), 0, 1), 1)
    measures = scoring.performance(scores, 0.5, mpox, np.ones((1, 90)))
    called = scores >= 0.5
    assert measures["sensitivity"][0] == pytest.approx(recall_score(mpox, called))
    assert measures["specificity"][0] == pytest.approx(recall_score(~mpox, ~called))
    even = np.where(mpox, 1 / mpox.sum(), 1 / (~mpox).sum())
    assert measures["brier"][0] == pytest.approx(brier_score_loss(mpox, scores, sample_weight=even))


def test_groups_have_enough_pictures_and_patients_of_both_classes():
    test = made_up().test
    groups = scoring.groups(test)
    assert list(groups) == ["all", "tone: tan", "tone: dark", "label: acne", "label: eczema"]
    acne = np.array(test.labels) == "acne"
    assert (groups["label: acne"] == (test.mpox | acne)).all() and groups["all"].all()
    few = test.subset(test.mpox | (acne & (np.cumsum(acne) <= 6)))  # two patients with acne
    assert list(scoring.groups(few)) == ["all"]
