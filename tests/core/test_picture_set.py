"""A folder of pictures with its table, and whose they are."""

import numpy as np
import pytest

from mpox.core import images, table
from mpox.core.errors import InputError
from mpox.core.picture_set import PictureSet


@pytest.fixture
def folder(tmp_path):
    """Two pictures, one of them in a sub-folder."""
    for name in ("b.png", "a/c.png"):
        images.write(tmp_path / name, np.zeros((8, 8, 3), np.uint8))
    return tmp_path


def test_pictures_are_in_the_order_of_their_names_with_their_rows(folder):
    table.write(folder, ["tone", "site"], {"b.png": ["tan", "arm"], "a/c.png": ["dark", ""]})
    pictures = PictureSet.read(folder)
    assert len(pictures) == 2 and pictures.names == ["a/c.png", "b.png"]
    assert pictures.rows == [{"tone": "dark", "site": ""}, {"tone": "tan", "site": "arm"}]
    assert pictures.columns == ["tone", "site"] and pictures.table == folder / "metadata.csv"
    last = pictures.subset([1])
    assert last.names == ["b.png"] and last.rows == pictures.rows[1:]
    assert last.columns == pictures.columns


def test_without_a_table_nothing_is_known_of_them(folder):
    pictures = PictureSet.read(folder)
    assert pictures.table is None and pictures.columns == [] and pictures.rows == [{}, {}]


def test_a_picture_without_a_row_is_refused(folder):
    table.write(folder, ["patient"], {"b.png": [3]})
    with pytest.raises(InputError, match=r"metadata\.csv: has no row for a/c\.png"):
        PictureSet.read(folder)


@pytest.mark.parametrize(
    ("columns", "first", "second", "patients", "known"),
    [
        (["patient", "group"], [3, 7], [4, 7], ["7", "7"], True),
        (["patient", "group"], ["unknown", 0], ["unknown", 1], ["0", "1"], False),
        (["patient"], [3], [3], ["3", "3"], True),
        (["group"], [3], [3], ["3", "3"], False),
        (["tone"], [3], [3], ["0", "1"], False),
        (["patient"], [3], ["unknown"], ["3", "picture 1"], False),
    ],
)
def test_patients_are_those_of_the_table(columns, first, second, patients, known, folder):
    table.write(folder, columns, {"a/c.png": first, "b.png": second})
    pictures = PictureSet.read(folder)
    assert (pictures.patients, pictures.known) == (patients, known)


def test_of_no_picture_the_patients_are_known_where_the_table_has_them(tmp_path):
    assert not PictureSet.read(tmp_path).known
    table.write(tmp_path, ["patient"], {})
    assert PictureSet.read(tmp_path).known
