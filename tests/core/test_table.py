"""The table beside pictures: as people write it, and as Hugging Face's own reader sees ours."""

import json
import unicodedata
from pathlib import Path

import numpy as np
import pandas
import pytest
from datasets import load_dataset
from PIL import Image

from mpox.core import table
from mpox.core.errors import InputError


def put(folder: Path, text: str, name: str = table.NAME, encoding: str = "utf-8") -> None:
    (folder / name).write_bytes(text.encode(encoding))


@pytest.mark.parametrize("mark", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_csv_as_excel_and_others_write_it(mark, encoding, end, tmp_path):
    lines = [["File_Name", "Patient ", "text"], ["a/ä.jpg", " 7", f'"left{mark} ""arm"""'],
             ["b.jpg", "8", ""], []]  # fmt: skip
    put(tmp_path, end.join(mark.join(line) for line in lines), encoding=encoding)
    found = table.read(tmp_path)
    assert found == (
        tmp_path / table.NAME,
        ["patient", "text"],
        {
            "a/ä.jpg": {"patient": "7", "text": f'left{mark.strip()} "arm"'},
            "b.jpg": {"patient": "8", "text": ""},
        },
    )


def test_jsonl_as_hugging_face_writes_it(tmp_path):
    rows = [{"file_name": "a.jpg", "patient": 7, "tone": None}, {"file_name": "b.jpg", "x": True}]
    put(tmp_path, "\n".join(map(json.dumps, rows)) + "\n\n", "metadata.jsonl")
    found = table.read(tmp_path)
    assert found and found.columns == ["patient", "tone", "x"]
    assert found.rows == {
        "a.jpg": {"patient": "7", "tone": "", "x": ""},
        "b.jpg": {"patient": "", "tone": "", "x": "True"},
    }


def test_what_does_not_print_is_a_space_and_unnamed_columns_are_nothing(tmp_path):
    put(tmp_path, 'file_name,text,,\na.jpg,"one\rtwo\n\x00 three\u200b",,\n')
    found = table.read(tmp_path)
    assert found and found.columns == ["text"]
    assert found.rows == {"a.jpg": {"text": "one two three"}}
    (tmp_path / table.NAME).unlink()
    put(tmp_path, json.dumps({"file_name": "a.jpg", "text": "x\ud800\ry"}), "metadata.jsonl")
    found = table.read(tmp_path)
    assert found and found.rows == {"a.jpg": {"text": "x y"}}
    table.write(tmp_path / "out", ["text"], {"a.png": [found.rows["a.jpg"]["text"]]})


def test_columns_are_those_of_the_header(tmp_path):
    put(tmp_path, "file_name,text\n")
    assert table.read(tmp_path) == (tmp_path / table.NAME, ["text"], {})


def test_no_table_is_none(tmp_path):
    assert table.read(tmp_path) is None


def test_one_spelling_of_every_path():
    apart = unicodedata.normalize("NFD", "ä.jpg")
    assert apart != "ä.jpg"
    for name in (f"./a/{apart}", f"a\\{apart}", " a/ä.jpg", "././/a/./ä.jpg"):
        assert table.normal(name) == "a/ä.jpg"


FAULTS = {
    "": "the first line must name the columns, file_name among them; got nothing",
    "image,patient\na.jpg,1\n": "file_name among them; got image,patient",
    "file_name,x,X\na.jpg,1,2\n": "has the column 'x' twice",
    "file_name,patient\na.jpg,1\na.jpg,2\n": "line 3: a.jpg has a row already",
    "file_name,patient\na.jpg\n": "line 2: 1 values, expected 2",
    "file_name,patient\na.jpg,1,2\n": "line 2: 3 values, expected 2",
    "file_name,patient\n,1\n": "line 2: no file_name",
    "file_name,text\na.jpg," + "x" * 200_000: "line 2: field larger than field limit",
    "x" * 200_000: "the first line must name the columns, file_name among them; got xxx",
    'file_name,x\na.jpg,"1\nb.jpg,2\n': "unexpected end of data",
    "file_name,x,\na.jpg,1,2\n": "line 2: 2 is in a column without a name",
}


@pytest.mark.parametrize("text", FAULTS)
def test_faults_name_the_file_and_the_line(text, tmp_path):
    put(tmp_path, text)
    with pytest.raises(InputError) as error:
        table.read(tmp_path)
    assert str(error.value).startswith(f"{tmp_path / table.NAME}: ")
    assert FAULTS[text] in str(error.value)


def test_every_fault_of_rows_has_a_line(tmp_path):
    put(tmp_path, "file_name\na.jpg\na.jpg\n./a.jpg\n")
    with pytest.raises(InputError) as error:
        table.read(tmp_path)
    assert len(str(error.value).splitlines()) == 2


@pytest.mark.parametrize("encoding", ["cp1252", "utf-16"])
def test_another_encoding_says_how_to_save_it(encoding, tmp_path):
    put(tmp_path, "file_name,patient\nä.jpg,1\n", encoding=encoding)
    with pytest.raises(InputError, match="is not UTF-8; save it as UTF-8"):
        table.read(tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        "[1]",
        "{",
        '{"A": 1, "a": 2, "file_name": "x"}',
        '{"file_name": ["a"]}',
        '{"file_name": {"a": 1}}',
    ],
)
def test_bad_json_names_the_line(content, tmp_path):
    put(tmp_path, '{"file_name": "a.jpg"}\n' + content, "metadata.jsonl")
    with pytest.raises(InputError, match=r"metadata\.jsonl: line 2: "):
        table.read(tmp_path)


def test_two_tables_are_one_too_many(tmp_path):
    put(tmp_path, "file_name\n")
    put(tmp_path, "", "metadata.jsonl")
    with pytest.raises(InputError, match=r"holds metadata\.csv and metadata\.jsonl"):
        table.read(tmp_path)


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        (["1", "20", "-3"], ["1", "20", "-3"]),
        (["1", "02", "+3"], ["tone 1", "tone 02", "tone +3"]),
        (["1", "2.5", "1e3"], ["1.0", "2.5", "1000.0"]),
        (["1", "", "3"], ["tone 1", "unknown", "tone 3"]),
        (["true", "False"], ["True", "False"]),
        (["true", "N/A"], ["tone true", "unknown"]),
        (["III", "none", "2"], ["III", "unknown", "tone 2"]),
        (["12345678901234567890123"], ["tone 12345678901234567890123"]),
        (["", ""], ["unknown", "unknown"]),
        ([], []),
    ],
)
def test_a_column_has_one_type(values, wanted):
    assert table.uniform("tone", values) == wanted


VALUES = [
    "1",
    "2",
    "2.5",
    "1e5",
    "",
    "NA",
    "nan",
    "true",
    "False",
    "III",
    "inf",
    "-7",
    "007",
    "x y",
]


@pytest.mark.parametrize("seed", range(200))
def test_every_part_of_a_column_reads_as_one_type(seed, tmp_path):
    """As pandas guesses it, and `datasets` with it, from each part alone."""
    rng = np.random.default_rng(seed)
    pool = rng.choice(VALUES, rng.integers(1, 5), replace=False)
    found = table.uniform("tone", [str(value) for value in rng.choice(pool, 12)])
    types = set()
    for part in range(3):
        rows = {f"{k}.png": [value] for k, value in enumerate(found[4 * part : 4 * part + 4])}
        folder = tmp_path / str(part)
        table.write(folder, ["tone"], rows)
        column = pandas.read_csv(folder / table.NAME)["tone"]
        assert not column.isna().any()
        types.add(str(column.dtype))
    assert len(types) == 1


def test_hugging_face_opens_what_is_written(tmp_path, monkeypatch):
    """Nested splits, further columns, one of them missing here and there, and a file beside."""
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    tones = table.uniform("tone", ["2", "3", "", "", "5", "6"])
    for part in range(3):
        folder = tmp_path / "data" / ("train", "val", "test")[part]
        folder.mkdir(parents=True)
        rows = {}
        for k in range(2):
            Image.new("RGB", (8, 8)).save(folder / f"{k}.png")
            rows[f"{k}.png"] = [2 * part + k, tones[2 * part + k]]
        table.write(folder, ["patient", "tone"], rows)
    (tmp_path / "data" / "manifest.csv").write_text("source\n")
    opened = load_dataset(
        "imagefolder", data_dir=str(tmp_path / "data"), cache_dir=str(tmp_path / "cache")
    )
    assert set(opened) == {"train", "validation", "test"}
    assert opened["test"]["patient"][:] == [4, 5]
    assert opened["validation"]["tone"][:] == ["unknown", "unknown"]
    assert opened["train"]["tone"][:] == ["tone 2", "tone 3"]


def test_groups_are_those_of_the_table(tmp_path):
    names = ["a.png", "b.png"]
    assert table.groups(tmp_path, names) == (["0", "1"], False)
    table.write(tmp_path, ["patient", "group"], {"a.png": [3, 7], "b.png": [4, 7]})
    assert table.groups(tmp_path, names) == (["7", "7"], True)
    table.write(tmp_path, ["patient", "group"], {n: ["unknown", k] for k, n in enumerate(names)})
    assert table.groups(tmp_path, names) == (["0", "1"], False)
    table.write(tmp_path, ["patient"], {"a.png": [3], "b.png": [3]})
    assert table.groups(tmp_path, names) == (["3", "3"], True)
    table.write(tmp_path, ["tone"], {"a.png": [3], "b.png": [3]})
    assert table.groups(tmp_path, names) == (["0", "1"], False)
    table.write(tmp_path, ["patient"], {"a.png": [3], "b.png": ["unknown"]})
    assert table.groups(tmp_path, names) == (["3", "picture 1"], False)
    with pytest.raises(InputError, match=r"metadata\.csv: has no row for c\.png"):
        table.write(tmp_path, ["patient"], {"a.png": [3]})
        table.groups(tmp_path, ["c.png"])
