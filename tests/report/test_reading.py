"""What the page says of a reading study: not above chance is not yet indistinguishable."""

import pytest
from runs import finished

from mpox.report import page, reading
from mpox.statistics.estimate import ALL, Estimate, Metrics


def study(value: float, low: float, high: float, equivalent: bool = False) -> Metrics:
    """metrics/reading.json of three readers with this pooled accuracy."""
    found = dict.fromkeys(reading.TITLES, Estimate(0.1, -0.2, 0.4)) | {
        "accuracy": Estimate(value, low, high),
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
        ((0.52, 0.40, 0.64), "is not known (52 % right, interval 40 % to 64 %)"),
        ((0.51, 0.45, 0.57, True), "neither better nor worse than chance, within the 10 points"),
        ((0.7, 0.6, 0.8), "Readers can tell the synthetic pictures from real ones (70 % right"),
        ((0.3, 0.2, 0.4), "Readers took the synthetic pictures for the real ones"),
    ],
)
def test_the_sentence_says_no_more_than_the_interval(given, said):
    text = reading.verdict(study(*given))
    assert said in text and "indistinguishable" not in text


def test_the_page_has_the_readers_and_says_where_none_were_asked(tmp_path):
    text = page.build(finished(tmp_path / "one", reading=study(0.52, 0.4, 0.64)))
    assert "3 readers judged 26 real test photos" in text and "R3" in text
    text = page.build(finished(tmp_path / "two"))
    assert "Experts have not been asked yet" in text
