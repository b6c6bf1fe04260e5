"""Chance performance of readers does not yet mean that pictures are indistinguishable."""

import pytest
from runs import finished

from mpox.report import page, reading
from mpox.statistics.estimate import ALL, Estimate, Metrics


def study(value: float, low: float, high: float, equivalent: bool = False) -> Metrics:
    """metrics/reading.json of three readers with this pooled accuracy."""
    found = dict.fromkeys(reading.TITLES, Estimate(0.1, -0.2, 0.4)) | {
        "accuracy": Estimate(value, low, high),
        "accuracy_90": Estimate(value, low + 0.01, high - 0.01),
        "equivalent": Estimate(int(equivalent)),
        "kappa_class": Estimate(0.2),
        "consistency": Estimate(0.8),
    }
    one = dict.fromkeys(("accuracy", "sensitivity", "specificity"), Estimate(0.5, 0.5, 0.5))
    one |= {"d_prime": Estimate(0.1), "auroc": Estimate(0.5)}
    groups = {f"reader: R{k}": one for k in (1, 2, 3)}
    groups["tone: dark"] = {"n_real": Estimate(2), "n_synthetic": Estimate(3)}
    identity = {"kit": "0", "readers": 3, "n_real": 26, "n_synthetic": 26, "margin": 0.1}
    return Metrics({ALL: found, **groups}, identity)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ((0.52, 0.40, 0.64), "does not show whether readers can tell"),
        (
            (0.51, 0.45, 0.57, True),
            "margin of 10 points (accuracy 51 %, interval of 90 % 46 % to 56 %)",
        ),
        (
            (0.7, 0.6, 0.8),
            "Readers can tell synthetic pictures from real photos (accuracy 70 %, interval 60 %",
        ),
        ((0.3, 0.2, 0.4), "Readers confused synthetic pictures with real photos"),
    ],
)
def test_the_sentence_claims_no_more_than_the_interval(given, said):
    text = reading.verdict(study(*given))
    assert said in text and "indistinguishable" not in text


def test_the_page_shows_the_readers_or_that_there_are_none(tmp_path):
    text = page.build(finished(tmp_path / "one", reading=study(0.52, 0.4, 0.64)))
    assert "3 readers judged 26 real test photos" in text and "R3" in text
    text = page.build(finished(tmp_path / "two"))
    assert "No experts have judged the pictures yet" in text
