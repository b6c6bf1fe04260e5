"""What the page says of a trial, on numbers whose right reading is known."""

import pytest
from runs import finished, networks, utility

from mpox.report import page
from mpox.report import utility as section
from mpox.statistics.estimate import Estimate, Metrics

UP, NONE, DOWN = (0.03, 0.01, 0.05), (0.001, -0.02, 0.022), (-0.04, -0.06, -0.02)


@pytest.mark.parametrize(
    ("gains", "state", "text"),
    [
        ({}, "unsure", "cannot be told (AUROC 0.800, a gain of +0.001, interval −0.020 to +0.022): "
         "with 52 test patients only a gain of 0.031 or more would be found."),
        ({"gain": DOWN}, "unsure", "cannot be told"),  # a loss against one baseline alone
        ({"gain": (0.03, float("nan"), float("nan"))}, "unsure", "cannot be told"),
        ({"gain": DOWN, "gain_over_other": DOWN}, "off",
         "They harm a classifier of mpox (AUROC 0.800, a gain of −0.040"),
        ({"gain": UP}, "unsure", "no more than the base's own pictures may give it"),
        ({"gain": UP, "over_placebo": UP}, "unsure", "no more than augmentation may give it"),
        ({"gain": UP, "over_placebo": UP, "over_augmented": UP}, "fine",
         "They help a classifier of mpox (AUROC 0.800, a gain of +0.030"),
        ({"gain": UP, "over_placebo": NONE, "over_augmented": UP}, "unsure", "the base's own"),
    ],
)  # fmt: skip
def test_only_what_is_beyond_chance_placebo_and_augmentation_is_called_help(gains, state, text):
    found, said = section.verdict(utility(**gains))
    assert found == state and text in said


def test_an_alarm_and_a_faultless_classifier_leave_nothing_to_say():
    gains = dict.fromkeys(("gain", "over_placebo", "over_augmented"), UP)
    alarmed = utility(**gains)
    alarmed.estimates["guard: masked"]["alarm"] = Estimate(1)
    state, text = section.verdict(alarmed)
    assert state == "unsure" and "surroundings alone tell" in text
    faultless = utility(gain=(0.0, 0.0, 0.0))
    faultless.estimates["both_100"]["detectable"] = Estimate(0.0)
    assert "makes no mistake" in section.verdict(faultless)[1]


def test_worth_is_said_with_the_bound_that_it_stops_at():
    assert section.worth(utility()) == "2 (interval −5 to 32 or more)"


def test_the_page_has_every_arm_and_says_where_nothing_was_asked(tmp_path):
    hostile = "<script>window.hostile = 1</script>"
    text = page.build(finished(tmp_path / "one", trial=utility(hostile)))
    assert "and 1 synthetic for each of mpox" in text and "real photos alone" in text
    assert hostile not in text and "tells synthetic from real pictures" in text
    text = page.build(finished(tmp_path / "two", trial=Metrics()))
    assert "Whether they help a classifier is not asked" in text


def test_of_networks_and_logistic_regression_the_page_has_both_rows(tmp_path):
    gains = dict.fromkeys(("gain", "over_placebo"), UP)
    text = " ".join(page.build(finished(tmp_path / "both", trial=networks(**gains))).split())
    section_ = text.partition('<section id="utility"')[2]
    assert "): a network of four convolutions, trained from scratch. It is trained" in section_
    help_ = "They help a network trained to tell mpox (AUROC 0.800, a gain of +0.030"
    assert f"<strong>{help_}" in section_
    rows = section_.partition('aria-label="Table of classifiers"')[2].partition("</table>")[0]
    first, second = rows.split("<tr>")[2:]
    assert "a network of four convolutions" in first and "+0.030" in first
    assert "logistic regression" in second and "+0.001" in second and "+0.030" not in second
    assert "Of logistic regression: Whether they help a classifier of mpox cannot be" in section_
    assert "and synthetic pictures, 40 % of the weight of mpox <span" in section_
    assert "the same first, then real photos alone" in section_
    assert "2 (interval −5 to 32 or more), read off the learning curve of logistic" in section_


def test_where_one_was_tried_there_is_no_table_of_classifiers(tmp_path):
    text = page.build(finished(tmp_path / "one"))
    assert "logistic regression" in text and "Table of classifiers" not in text
