"""Each rule's sentence, for numbers whose correct reading is known."""

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


def test_a_perfect_set_has_no_fault_but_is_not_called_alike():
    found = said({"groups_test": 26, "groups_train": 32})
    assert off(found) == set()
    assert {each.state for each in found.values()} == {"fact", "fine"}
    assert "100 synthetic pictures are compared with 100 real test photos of 26 patients" in (
        found["amount"].text
    )
    assert "100 photos of 32 other patients" in found["amount"].text
    assert "do not tell the synthetic pictures apart from real photos" in found["told apart"].text
    assert "does not prove that they are alike" in found["told apart"].text
    assert (
        "80 % lie within the range of real photos (interval 70 % to 90 %; other real photos: 80 %)"
        in found["implausible"].text
    )
    assert "None of 100 synthetic pictures is" in found["copies"].text
    assert "up to 3.6 % could still be such copies" in found["copies"].text


@pytest.mark.parametrize(
    ("changes", "rule", "measure", "text"),
    [
        ({"fid_excess": (30.0, 10.0, 50.0)}, "told apart",
         "fid_excess", "The distances tell the synthetic pictures apart from real photos (excess "
         "Fréchet distance 30, interval 10 to 50; real photos have 0; p = 0.4)"),
        ({"kid_p": 0.002}, "told apart", "kid", "A statistical test tells the synthetic"),
        ({"precision": (0.5, 0.4, 0.6)}, "implausible", "precision",
         "Too many synthetic pictures are implausible: only 50 % lie within the range"),
        ({"density": (0.3, 0.2, 0.4)}, "implausible", "density",
         "they lie too far from typical real photos (density 0.3, interval 0.2 to 0.4; other real "
         "photos: 0.8)"),
        ({"coverage": (0.3, 0.2, 0.4)}, "missing", "coverage",
         "is missing or too rare in the synthetic pictures: 30 % of the real photos have"),
        ({"repeat_rate": (0.5, 0.4, 0.6)}, "alike", "repeat_rate",
         "(50 % repeat another synthetic picture; measures beyond chance: repeats)"),
        ({"vendi_ratio": (0.5, 0.4, 0.6)}, "alike", "vendi_ratio", "beyond chance: Vendi score"),
        ({"ms_ssim": (0.4, 0.3, 0.5)}, "alike", "ms_ssim", "beyond chance: MS-SSIM"),
        ({"copy_rate": (0.1, 0.05, 0.18)}, "copies", "copy_rate",
         "Some synthetic pictures appear to copy training photos: 10 of 100"),
        ({"hash_rate": (0.1, 0.05, 0.18)}, "copies", "hash_rate",
         "Some synthetic pictures appear to copy training photos: 10 of 100"),
        ({"fid_gap": (30.0, 10.0, 50.0)}, "copies", "fid_gap",
         "closer to the training photos than to the test photos"),
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


def test_with_too_few_pictures_only_copies_are_called_fine():
    """An interval that includes half the null cannot show that half is missing."""
    found = said(precision=(0.7, 0.25, 1.0))
    assert "too few pictures to judge plausibility (precision): even a set" in found["enough"].text
    assert found["enough"].state == "unsure"
    assert {each.state for each in found.values()} == {"fact", "unsure", "fine"}
    assert [rule for rule, each in found.items() if each.state == "fine"] == ["copies"]
    assert "enough" not in said(precision=(0.7, 0.31, 1.0))


def test_few_pictures_leave_many_copies_possible():
    found = said(n=8, copy_rate=(0.0, 0.0, 0.37))
    assert found["copies"].state == "unsure"
    assert "None of 8 synthetic pictures is" in found["copies"].text
    assert "37 %" in found["copies"].text


def test_copies_within_chance_are_counted_but_no_fault():
    by_hash = said(hash_rate=(0.01, 0.0002, 0.052))["copies"]
    assert by_hash.state == "unsure" and "up to 5.2 % could still be such" in by_hash.text
    found = said(copy_rate=(0.02, 0.002, 0.07))
    assert found["copies"].state == "unsure"
    assert (
        "2 of 100 synthetic pictures are as close to a training photo as a copy would be. Chance "
        "alone could give that number (1.0 % of real test photos are as close)."
    ) in found["copies"].text


def test_unknown_patients_are_mentioned_first_without_a_number():
    found = said(identity={"patients": "unknown"})
    assert found["amount"].state == "unsure"
    assert "may look better than it is" in found["amount"].text
    assert "6 patients" not in found["amount"].text


def test_without_training_photos_copies_are_not_judged():
    metrics = without_training(evaluation(identity={"n_training": 0}))
    found = {each.rule: each for each in words.sentences(metrics, preparation())}
    assert "Copies were not searched for" in found["copies"].text
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
    assert "differ from those of real photos (p = 0.01; dark: 5.0 % of the synthetic" in found.text
    assert "25 % of the real photos" in found.text and "light: 30" not in found.text


def test_an_implausible_tone_is_named_although_all_are_equally_frequent():
    found = for_whom(0.5, dark=group(0.25, 0.25, 0.1, 0.5), light=group(0.25, 0.25, 0.1, 0.8))
    assert found.state == "off"
    assert found.text.startswith("Too many of the dark pictures are implausible: only 50 %")


def test_one_of_six_groups_just_beyond_chance_is_no_fault():
    """0.11 off, with chance at ±0.1 for one group and ±0.135 for one among six."""
    alone = {"dark": group(0.2, 0.2, 0.1, 0.69)}
    assert for_whom(0.5, **alone).state == "off"
    six = alone | {f"tone {k}": group(0.2, 0.2, 0.1, 0.8) for k in range(5)}
    assert for_whom(0.5, **six).state == "fine"


def test_where_no_tone_differs_the_judged_tones_are_listed():
    found = for_whom(0.4, dark=group(0.2, 0.2, 0.1, 0.8), tan=group(0.1, 0.1, 0.1))
    assert found.state == "fine"
    assert found.text.endswith("for dark pictures separately; no fault was found.")
    assert "for whom" not in said()
