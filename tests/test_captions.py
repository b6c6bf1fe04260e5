"""Captions: templates over a table's columns, and texts of one's own."""

import pytest

from mpox import captions, params, table
from mpox.errors import InputError


def test_a_prompt_without_fields_is_itself():
    assert captions.fields("skin, 4k") == []
    assert captions.fill("skin, 4k", {"tone": "tan"}, "key") == "skin, 4k"


def test_fields_are_filled_wherever_they_stand():
    prompt = "{tone} skin of the {site}, {tone}"
    assert captions.fields(prompt) == ["tone", "site"]
    assert (
        captions.fill(prompt, {"tone": "tan", "site": "arm"}, "key") == "tan skin of the arm, tan"
    )


@pytest.mark.parametrize("hostile", ["{0}", "{tone.__class__}", "{tone!r}", "{}"])
def test_a_field_is_a_columns_name_and_nothing_cleverer(hostile):
    with pytest.raises(InputError, match=r"^key: no \{"):
        captions.fill(hostile, {"tone": "tan"}, "key")


@pytest.mark.parametrize("nothing", ["", " ", "unknown", "NA"])
def test_a_field_without_a_value_is_refused(nothing):
    with pytest.raises(InputError, match=r"^key: \{site\}: no value"):
        captions.fill("a lesion of the {site}", {"site": nothing}, "key")


def test_the_schema_knows_the_same_fields():
    assert captions.FIELD == params.FIELD


def test_a_table_says_the_captions_and_a_text_goes_before_the_template(tmp_path):
    table.write(tmp_path, ["tone"], {"a.png": ["tan"], "b.png": ["dark"]})
    assert captions.read(tmp_path, ["b.png", "a.png"], "{tone} skin", "key") == [
        "dark skin",
        "tan skin",
    ]
    table.write(tmp_path, ["text"], {"a.png": ['said "so"\nthere'], "b.png": ["unknown"]})
    assert captions.read(tmp_path, ["a.png"], "{tone} skin", "key") == ['said "so" there']
    with pytest.raises(InputError, match=r"metadata\.csv: b\.png: no text"):
        captions.read(tmp_path, ["b.png"], "{tone} skin", "key")
    table.write(tmp_path, ["text", "tone"], {"a.png": ["{tone} skin", "tan"]})
    with pytest.raises(InputError, match=r"metadata\.csv: a\.png: text: expected no braces"):
        captions.read(tmp_path, ["a.png"], "skin", "key")


def test_the_row_and_the_key_of_a_field_without_a_column_are_named(tmp_path):
    table.write(tmp_path, ["tone"], {"a.png": ["tan"]})
    with pytest.raises(InputError, match=r"metadata\.csv: a\.png: key: no \{site\}; expected one"):
        captions.read(tmp_path, ["a.png"], "{site}", "key")
