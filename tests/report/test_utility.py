"""The sentences on a trial, for numbers whose correct reading is known."""

import pytest
from runs import finished, networks, utility

from mpox.report import page
from mpox.report import utility as section
from mpox.statistics.estimate import Estimate, Metrics

UP, NONE, DOWN = (0.03, 0.01, 0.05), (0.001, -0.02, 0.022), (-0.04, -0.06, -0.02)


@pytest.mark.parametrize(
    ("gains", "state", "text"),
    [
        ({}, "unsure", "is unclear (AUROC 0.800, gain +0.001, interval −0.020 to +0.022). With 52 "
         "test patients, the trial had 80 % power to find a gain of 0.031."),
        ({"gain": DOWN}, "unsure", "loses against the better of the two arms of real"),
        ({"gain": (0.03, float("nan"), float("nan"))}, "unsure", "is unclear"),
        ({"gain": DOWN, "gain_over_other": DOWN}, "off",
         "With the synthetic pictures, a classifier recognises mpox less well (AUROC 0.800, "
         "gain −0.040"),
        ({"gain": UP}, "unsure", "but the base model's own pictures may give as much"),
        ({"gain": UP, "over_placebo": UP}, "unsure", "but augmentation may give as much"),
        ({"gain": UP, "over_placebo": UP, "over_augmented": UP}, "fine",
         "The synthetic pictures help a classifier recognise mpox (AUROC 0.800, gain +0.030"),
        ({"gain": UP, "over_placebo": NONE, "over_augmented": UP}, "unsure", "the base model's"),
    ],
)  # fmt: skip
def test_only_what_is_beyond_chance_placebo_and_augmentation_is_called_help(gains, state, text):
    found, said = section.verdict(utility(**gains))
    assert found == state and text in said


def test_an_alarm_or_a_faultless_classifier_leaves_help_unclear():
    gains = dict.fromkeys(("gain", "over_placebo", "over_augmented"), UP)
    alarmed = utility(**gains)
    alarmed.estimates["guard: masked"]["alarm"] = Estimate(1)
    state, text = section.verdict(alarmed)
    assert state == "unsure" and "surroundings alone identify" in text
    faultless = utility(gain=(0.0, 0.0, 0.0))
    faultless.estimates["both_100"]["detectable"] = Estimate(0.0)
    assert "makes the same mistakes" in section.verdict(faultless)[1]


def test_worth_is_bounded():
    assert section.worth(utility()) == "2 (interval −5 to 32 or more)"


def test_the_page_has_every_arm_or_says_that_nothing_was_tested(tmp_path):
    hostile = "<script>window.hostile = 1</script>"
    text = page.build(finished(tmp_path / "one", trial=utility(hostile)))
    assert (
        "real photos and 1 synthetic pictures per mpox photo" in text
        and "real photos alone" in text
    )
    assert hostile not in text and "tells synthetic from real pictures" in text
    text = page.build(finished(tmp_path / "two", trial=Metrics()))
    assert "Whether the synthetic pictures help a classifier was not tested" in text


def test_networks_and_logistic_regression_each_have_a_row(tmp_path):
    gains = dict.fromkeys(("gain", "over_placebo"), UP)
    text = " ".join(page.build(finished(tmp_path / "both", trial=networks(**gains))).split())
    section_ = text.partition('<section id="utility"')[2]
    assert "). It is a network of four convolutions, trained from scratch, trained on" in section_
    help_ = "The synthetic pictures help a network recognise mpox (AUROC 0.800, gain +0.030"
    assert f"<strong>{help_}" in section_
    rows = section_.partition('aria-label="Table of classifiers"')[2].partition("</table>")[0]
    first, second = rows.split("<tr>")[2:]
    assert "a network of four convolutions" in first and "+0.030" in first
    assert "logistic regression" in second and "+0.001" in second and "+0.030" not in second
    assert "For logistic regression: Whether the synthetic pictures help a classifier" in section_
    assert "synthetic pictures, which have 40 % of the weight of mpox <span" in section_
    assert "the same first, then real photos alone" in section_
    assert "2 (interval −5 to 32 or more), read off the learning curve of logistic" in section_


def test_a_single_classifier_has_no_table_of_classifiers(tmp_path):
    text = page.build(finished(tmp_path / "one"))
    assert "logistic regression" in text and "Table of classifiers" not in text
