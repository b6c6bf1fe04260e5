"""Captions: templates over a table's columns, and texts of one's own."""

from pathlib import Path

import pytest

from mpox import params
from mpox.core import captions, table
from mpox.core.errors import InputError
from mpox.core.picture_set import PictureSet


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


def pictures(folder: Path, columns: list[str], *rows: list[str]) -> PictureSet:
    """Pictures a.png, b.png … with their rows; captions need no pixel."""
    names = [f"{letter}.png" for letter in "abc"[: len(rows)]]
    for name in names:
        (folder / name).touch()
    table.write(folder, columns, dict(zip(names, rows, strict=True)))
    return PictureSet.read(folder)


def test_a_template_is_filled_from_the_table_and_a_text_of_its_own_goes_first(tmp_path):
    shown = pictures(tmp_path, ["tone"], ["tan"], ["dark"])
    assert captions.of(shown, "{tone} skin", "key") == ["tan skin", "dark skin"]
    shown = pictures(tmp_path, ["text"], ['said "so"\nthere'], ["unknown"])
    assert captions.of(shown.subset([0]), "{tone} skin", "key") == ['said "so" there']
    with pytest.raises(InputError, match=r"metadata\.csv: b\.png: no text"):
        captions.of(shown, "{tone} skin", "key")
    (tmp_path / "braces").mkdir()
    shown = pictures(tmp_path / "braces", ["text", "tone"], ["{tone} skin", "tan"])
    with pytest.raises(InputError, match=r"metadata\.csv: a\.png: text: expected no braces"):
        captions.of(shown, "skin", "key")


def test_the_row_and_the_key_of_a_field_without_a_column_are_named(tmp_path):
    shown = pictures(tmp_path, ["tone"], ["tan"])
    with pytest.raises(InputError, match=r"metadata\.csv: a\.png: key: no \{site\}; expected one"):
        captions.of(shown, "{site}", "key")


def test_without_a_table_a_field_is_refused_by_the_key_alone(tmp_path):
    (tmp_path / "a.png").touch()
    with pytest.raises(InputError, match=r"^key: no \{tone\}; expected one of nothing"):
        captions.of(PictureSet.read(tmp_path), "{tone} skin", "key")
