"""The plan: the prompt of each picture."""

import numpy as np
import pytest

from mpox.core.errors import InputError
from mpox.params import Generate
from mpox.sampling import plan
from mpox.sampling.plan import Entry


@pytest.fixture
def settings(small) -> Generate:
    return small.generate


def ask(settings: Generate, **changes) -> Generate:
    """Through the schema, as params.yaml comes in."""
    return Generate.model_validate(settings.model_dump() | changes)


def test_one_prompt_is_used_for_every_picture(settings):
    asked = plan.plan(ask(settings, prompt="skin", num_images=5))
    assert asked == [Entry("skin", {})] * 5


@pytest.mark.parametrize("seed", range(5))
def test_counts_are_exact_and_evenly_spread(seed):
    rng = np.random.default_rng(seed)
    shares = rng.uniform(0.1, 5, rng.integers(1, 7)).tolist()
    number = int(rng.integers(1, 300))
    counts = plan.apportion(shares, number)
    quotas = np.array(shares) / sum(shares) * number
    assert sum(counts) == number
    assert np.all(np.abs(np.array(counts) - quotas) < 1)
    order = plan.spread(counts)
    assert [order.count(k) for k in range(len(counts))] == counts
    for first in range(1, number + 1):
        so_far = np.array([order[:first].count(k) for k in range(len(counts))])
        assert np.all(np.abs(so_far - np.array(counts) * first / number) <= len(counts))


def test_the_largest_remainder_gets_what_is_left():
    # Quotas 1.5, 2.5, 6.0 leave one picture; of equal remainders the first gets it.
    assert plan.apportion([1.5, 2.5, 6.0], 10) == [2, 2, 6]
    assert plan.apportion([1, 1, 1], 3) == [1, 1, 1]
    assert plan.apportion([0.1, 0.2, 0.7], 10) == [1, 2, 7]  # no rounding error of floats


def test_every_prompt_is_combined_with_every_field_value(settings):
    prompts = [{"prompt": "{tone} skin", "share": 3.0}, {"prompt": "{tone}, macro", "share": 1.0}]
    fields = [{"tone": "tan", "share": 1.0}, {"tone": "dark", "share": 1.0}]
    asked = plan.plan(ask(settings, prompts=prompts, fields=fields, num_images=8))
    counted = {each.prompt: asked.count(each) for each in asked}
    assert counted == {"tan skin": 3, "dark skin": 3, "tan, macro": 1, "dark, macro": 1}
    assert {each.fields["tone"] for each in asked if "dark" in each.prompt} == {"dark"}


def test_as_training_uses_the_shares_of_the_photos(settings):
    photos = {"combinations": [{"tone": "dark", "n": 1}, {"tone": "tan", "n": 3}]}
    asked = plan.plan(ask(settings, prompt="{tone}", fields="as_training", num_images=8), photos)
    assert [each.prompt for each in asked].count("dark") == 2


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"prompt": "{tone} skin"}, r"prompt: fields has no values for \{tone\}"),
        (
            {"fields": [{"tone": "tan", "share": 1.0}, {"share": 1.0}]},
            "the same fields in every entry",
        ),
        ({"fields": [{"share": 1.0}]}, "expected a field next to the share"),
        ({"fields": [{"tone": "", "share": 1.0}]}, "at least 1 character"),
        ({"fields": [{"seed": "7", "share": 1.0}]}, "fields: seed is a reserved name"),
        ({"fields": [{"tone": "tan", "share": 0.0}]}, "greater than 0"),
        ({"signal_leak": "field"}, "field needs fields"),
        ({"negative_prompt": "{tone}"}, "fields are not filled in here"),
        ({"prompts": [{"prompt": "{site}", "share": 1.0}]}, r"prompts\.0: fields has no values"),
    ],
)
def test_an_impossible_plan_is_refused(settings, changes, reason):
    with pytest.raises(ValueError, match=reason):
        ask(settings, **changes)


def test_fields_unknown_to_the_training_are_refused(settings):
    photos = {"combinations": [{"tone": "dark", "n": 1}]}
    with pytest.raises(InputError, match=r"generate\.prompt: no \{site\}; expected one of tone"):
        plan.plan(ask(settings, prompt="{site}", fields="as_training"), photos)
