"""Each rule's sentence on numbers whose right reading is known."""

import pytest
from runs import evaluation, preparation, without_training

from mpox.report import words
from mpox.report.measures import MEASURES
from mpox.statistics.estimate import Estimate


def said(preparation_changes: dict | None = None, **changes) -> dict[str, words.Sentence]:
    found = words.sentences(evaluation(**changes), preparation() | (preparation_changes or {}))
    assert 3 <= len(found) <= 8
    assert all(each.measure in (*MEASURES, "identity", "by-tone") for each in found)
    return {each.rule: each for each in found}


def off(found: dict[str, words.Sentence]) -> set[str]:
    return {rule for rule, sentence in found.items() if sentence.state == "off"}


def test_a_perfect_set_has_no_fault_and_no_claim_of_being_alike():
    found = said({"groups_test": 26, "groups_train": 32})
    assert off(found) == set()
    assert {each.state for each in found.values()} == {"fact", "fine"}
    assert "100 synthetic pictures are held against 100 real test photos of 26 patients" in (
        found["amount"].text
    )
    assert "100 photos of 32 other patients" in found["amount"].text
    assert "cannot be told from other real photos" in found["told apart"].text
    assert "no proof that they are alike" in found["told apart"].text
    assert "80 % (70 % to 90 %; of other real photos 80 %)" in found["implausible"].text
    assert "None of the 100 is" in found["copies"].text
    assert "up to 3.6 % of such copies cannot be ruled out" in found["copies"].text


@pytest.mark.parametrize(
    ("changes", "rule", "measure", "text"),
    [
        ({"fid_excess": (30.0, 10.0, 50.0)}, "told apart",
         "fid_excess", "They can be told from real photos (Fréchet distance beyond the floor 30, "
         "interval 10 to 50, 0 for real photos; p = 0.4)"),
        ({"kid_p": 0.002}, "told apart", "kid", "A test tells them from real photos (p = 0.002)"),
        ({"precision": (0.5, 0.4, 0.6)}, "implausible", "precision",
         "Too many are implausible: 50 % (40 % to 60 %; of other real photos 80 %)"),
        ({"density": (0.3, 0.2, 0.4)}, "implausible", "density",
         "Too many are implausible"),
        ({"coverage": (0.3, 0.2, 0.4)}, "missing", "coverage",
         "Some of what real photos show is missing or too rare"),
        ({"repeat_rate": (0.5, 0.4, 0.6)}, "alike", "repeat_rate",
         "They are too alike (50 % repeat another one"),
        ({"vendi_ratio": (0.5, 0.4, 0.6)}, "alike", "vendi_ratio", "too alike"),
        ({"ms_ssim": (0.4, 0.3, 0.5)}, "alike", "ms_ssim", "too alike"),
        ({"copy_rate": (0.1, 0.05, 0.18)}, "copies", "copy_rate",
         "Some are copies of training photos: 10 of 100"),
        ({"hash_rate": (0.1, 0.05, 0.18)}, "copies", "hash_rate",
         "Some are copies of training photos: 10 of 100"),
        ({"fid_gap": (30.0, 10.0, 50.0)}, "copies", "fid_gap",
         "nearer to the training photos than to the test photos"),
    ],
)  # fmt: skip
def test_a_fault_is_named_and_leads_to_its_numbers(changes, rule, measure, text):
    found = said(**changes)
    assert off(found) == {rule}
    assert text in found[rule].text
    assert found[rule].measure == measure


@pytest.mark.parametrize("name", ["precision", "density", "recall", "coverage", "vendi_ratio"])
def test_better_than_real_photos_is_no_fault(name):
    assert off(said(**{name: (2.0, 1.9, 2.1)})) == set()


def test_where_n_is_too_small_nothing_is_called_fine():
    """An interval in which half of the null lies cannot see that half is gone."""
    found = said(precision=(0.7, 0.25, 1.0))
    assert "too few pictures to tell" in found["enough"].text
    assert found["enough"].state == "unsure"
    assert {each.state for each in found.values()} == {"fact", "unsure", "fine"}
    assert [rule for rule, each in found.items() if each.state == "fine"] == ["copies"]
    assert "enough" not in said(precision=(0.7, 0.31, 1.0))


def test_few_pictures_leave_many_copies_possible():
    found = said(n=8, copy_rate=(0.0, 0.0, 0.37))
    assert found["copies"].state == "unsure"
    assert "None of the 8" in found["copies"].text and "37 %" in found["copies"].text


def test_copies_within_false_alarms_are_counted_and_no_fault():
    found = said(copy_rate=(0.02, 0.002, 0.07))
    assert found["copies"].state == "unsure"
    assert "2 of 100 are as like a training photo as a copy would be, no more than chance" in (
        found["copies"].text
    )


def test_unknown_patients_come_first_and_no_number_of_them_is_given():
    found = said(identity={"patients": "unknown"})
    assert found["amount"].state == "unsure"
    assert "may look better than it is" in found["amount"].text
    assert "patients;" not in found["amount"].text and "6 patients" not in found["amount"].text


def test_without_training_photos_nothing_is_said_of_copies():
    metrics = without_training(evaluation(identity={"n_training": 0}))
    found = {each.rule: each for each in words.sentences(metrics, preparation())}
    assert "Nothing is said of copies" in found["copies"].text
    assert found["copies"].state == "unsure"
    assert "the LoRA was trained" not in found["amount"].text


# ---------------------------------------------------------------- for whom


def for_whom(p: float, **groups: dict) -> words.Sentence:
    tones = {f"tone: {name}": own for name, own in groups.items()}
    return said(groups={"by tone": {"p": Estimate(p)}, **tones})["for whom"]


def group(real: float, synthetic: float, width: float, precision: float | None = None) -> dict:
    """Its shares, and its precision beside a null of 0.8 and chance of ±0.1."""
    off = synthetic - real
    own = {"n_real": Estimate(25), "n_synthetic": Estimate(25), "share_real": Estimate(real),
           "share_synthetic": Estimate(synthetic),
           "share_off": Estimate(off, off - width, off + width)}  # fmt: skip
    if precision is not None:
        own["precision"] = Estimate(precision, precision - 0.1, precision + 0.1, 0.8)
    return own


def test_a_tone_drawn_too_rarely_is_named_with_both_shares():
    found = for_whom(0.01, dark=group(0.25, 0.05, 0.1), light=group(0.25, 0.3, 0.1))
    assert found.state == "off"
    assert "as light and dark as real photos are (p = 0.01): dark 5.0 % of them" in found.text
    assert "of real photos 25 %" in found.text and "light 30" not in found.text


def test_a_tone_that_is_drawn_worse_is_named_though_all_are_drawn_as_often():
    found = for_whom(0.5, dark=group(0.25, 0.25, 0.1, 0.5), light=group(0.25, 0.25, 0.1, 0.8))
    assert found.state == "off"
    assert found.text.startswith("Of the dark ones too many are implausible: 50 %")


def test_one_of_six_groups_that_is_just_off_is_what_chance_gives():
    """0.11 of ±0.1: beyond chance alone, not among six, where the limit is ±0.135."""
    alone = {"dark": group(0.2, 0.2, 0.1, 0.69)}
    assert for_whom(0.5, **alone).state == "off"
    six = alone | {f"tone {k}": group(0.2, 0.2, 0.1, 0.8) for k in range(5)}
    assert for_whom(0.5, **six).state == "fine"


def test_no_difference_found_says_what_was_judged():
    found = for_whom(0.4, dark=group(0.2, 0.2, 0.1, 0.8), tan=group(0.1, 0.1, 0.1))
    assert found.state == "fine" and found.text.endswith("judged apart are dark pictures.")
    assert "for whom" not in said()
