"""What the page says of a reading study: not above chance is not yet indistinguishable."""

import pytest
from runs import finished

from mpox.report import page, reading


def study(value: float, low: float, high: float, equivalent: bool = False) -> dict:
    """metrics/reading.json of three readers with this pooled accuracy."""
    names = {*reading.TITLES} - {"accuracy"}
    found: dict = {"ran": True, "accuracy": value, "accuracy_lo": low, "accuracy_hi": high,
                   "equivalent": equivalent, "kappa_class": 0.2, "consistency": 0.8}  # fmt: skip
    for name in names:
        found |= {name: 0.1, f"{name}_lo": -0.2, f"{name}_hi": 0.4}
    rates = ("accuracy", "sensitivity", "specificity")
    one = {f"{name}{end}": 0.5 for name in rates for end in ("", "_lo", "_hi")}
    found["by_reader"] = {f"R{k}": one | {"d_prime": 0.1, "auroc": 0.5} for k in (1, 2, 3)}
    found["by"] = {"tone": {"dark": {"n_real": 2, "n_synthetic": 3}}}
    return found | {
        "identity": {"kit": "0", "readers": 3, "n_real": 26, "n_synthetic": 26, "margin": 0.1}
    }


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
