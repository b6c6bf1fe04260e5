"""The kit is complete and blind, and answers are read back or rejected."""

import base64
import csv
import io
import json
import re
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from runs import ROOT, picture
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import cross_val_predict
from sklearn.preprocessing import StandardScaler

from mpox import params
from mpox.core import images, table
from mpox.core.errors import InputError
from mpox.core.picture_set import PictureSet
from mpox.params import Params, Reading
from mpox.reading import answers, kit, study

SIDE, EACH = 32, 24


@pytest.fixture(scope="module")
def sets(tmp_path_factory) -> dict[str, PictureSet]:
    """Photos of twice the side, two for each patient, and synthetic pictures with a seed inside."""
    root = tmp_path_factory.mktemp("pictures")
    for folder in ("test", "synthetic"):
        (root / folder).mkdir()
    rows = {f"{k:02x}ab.png": [k // 2] for k in range(EACH)}
    for k, name in enumerate(rows):
        images.write(root / "test" / name, picture(0, k, side=2 * SIDE))
        images.write(root / f"synthetic/{k:05d}.png", picture(1, k, side=SIDE), {"seed": str(k)})
    table.write(root / "test", ["group"], rows)
    return {name: PictureSet.read(root / name) for name in ("test", "synthetic")}


def settings(**changes) -> Reading:
    own = params.read(ROOT / "params.yaml", Params).reading
    return own.model_copy(update={"pictures": 12, "repeats": 4} | changes)


def build(sets, seed: int = 0, **changes) -> kit.Kit:
    return kit.build(sets["test"], sets["synthetic"], settings(**changes), SIDE, seed)


def rows(made: kit.Kit) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(made.key)))


def test_it_holds_equal_classes_with_one_photo_of_each_patient_first(sets):
    made = build(sets)
    key = rows(made)
    once = [row for row in key if not row["repeat_of"]]
    assert sorted(row["class"] for row in once) == ["real"] * 12 + ["synthetic"] * 12
    patients = dict(zip(sets["test"].names, sets["test"].patients, strict=True))
    real = [row["file"].removeprefix("test/") for row in once if row["class"] == "real"]
    assert len({patients[name] for name in real}) == 12  # of 12 patients with two photos each
    repeats = [row for row in key if row["repeat_of"]]
    assert sorted(row["class"] for row in repeats) == ["real"] * 2 + ["synthetic"] * 2
    by_id = {row["id"]: row for row in key}
    assert all(by_id[row["repeat_of"]]["file"] == row["file"] for row in repeats)
    assert {entry["id"] for entry in made.content["pictures"]} == set(by_id)


def test_too_few_pictures_shrink_the_kit_or_are_rejected(sets):
    assert build(sets, pictures=50).counts["real"] == EACH
    with pytest.raises(InputError, match="24 real pictures, 23 of them for training"):
        build(sets, training=23)


def decoded(made: kit.Kit) -> list[bytes]:
    return [base64.b64decode(each["src"].split(",")[1]) for each in made.content["pictures"]]


def test_files_differ_in_their_pictures_alone(sets):
    files = decoded(build(sets))
    assert len({len(data) for data in files}) == 1
    opened = [Image.open(io.BytesIO(data)) for data in files]
    assert len({str(image.quantization) for image in opened}) == 1
    assert {image.size for image in opened} == {(SIDE, SIDE)}
    assert all("exif" not in image.info and "xmp" not in image.info for image in opened)
    # The same segments at the same places up to the compressed picture.
    heads = {data[: data.index(b"\xff\xda")] for data in files}
    assert len(heads) == 1


def test_a_kit_beyond_the_size_limit_is_compressed_more_and_uniformly(sets, monkeypatch):
    most = 4 / 3 * 28 * max(map(len, decoded(build(sets))))
    monkeypatch.setattr(kit, "MOST_BYTES", 0.85 * most)
    files = decoded(build(sets))
    assert 4 / 3 * sum(map(len, files)) <= 0.85 * most
    assert len({str(Image.open(io.BytesIO(data)).quantization) for data in files}) == 1


def test_nothing_but_the_picture_tells_the_classes(sets):
    """A classifier of identifiers, places and lengths performs at chance over five kits."""
    areas = []
    for seed in range(5):
        made = build(sets, seed, pictures=EACH, repeats=0)
        classes = {row["id"]: row["class"] == "synthetic" for row in rows(made)}
        ids, data = [entry["id"] for entry in made.content["pictures"]], decoded(made)
        features = [
            [k, *bytes.fromhex(own[1:]), len(data[k]), *data[k][-8:]] for k, own in enumerate(ids)
        ]
        truth = [classes[own] for own in ids]
        scaled = StandardScaler().fit_transform(np.array(features, float))
        scores = cross_val_predict(LogisticRegression(), scaled, truth, method="decision_function")
        areas.append(roc_auc_score(truth, scores))
    assert 0.35 < np.mean(areas) < 0.65


def test_the_page_names_no_class_and_the_seed_gives_no_identifier(sets):
    made = build(sets)
    page = kit.page(made)
    content = json.loads(re.search(r'id="content">(.*?)</script>', page, re.DOTALL)[1])
    assert all(set(entry) == {"id", "src"} for entry in content["pictures"])
    ids = [entry["id"] for entry in content["pictures"]]
    assert ids == sorted(ids)
    for row in rows(made):
        assert row["file"] not in page and row["file"].split("/")[1] not in page
    assert {row["id"] for row in rows(build(sets))}.isdisjoint(ids)
    assert "Content-Security-Policy" in page and "default-src 'none'" in page
    assert "destroy this file after the study" in page


def test_training_cases_appear_nowhere_else(sets):
    made = build(sets, training=3)
    assert [each["class"] for each in made.content["lessons"]].count("real") == 3
    shown = {each["src"] for each in made.content["pictures"]}
    assert not shown & {each["src"] for each in made.content["lessons"]}


def resaved(made: kit.Kit) -> list[list[str]]:
    """The key's cells after a spreadsheet, which rewrites what it reads as a number."""
    cells = list(csv.reader(io.StringIO(made.key)))
    for row in cells:
        for k, cell in enumerate(row):
            if re.fullmatch(r"\d+(\.\d*)?(e\d+)?", cell, re.IGNORECASE):
                row[k] = f"{float(cell):.6g}"
    return cells


def written(file: Path, cells: list[list[str]], mark: str, encoding: str) -> Path:
    with file.open("w", encoding=encoding, newline="") as stream:
        csv.writer(stream, delimiter=mark).writerows(cells)
    return file


@pytest.mark.parametrize("mark", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_a_key_saved_by_a_spreadsheet_is_still_the_key(sets, tmp_path, mark, encoding):
    made = build(sets)
    cells = resaved(made)
    assert all(cell[:1].isalpha() for row in cells for cell in row if cell and "/" not in cell)
    key = answers.read_key(written(tmp_path / "key.csv", cells, mark, encoding))
    assert kit.fingerprint(list(key)) == made.content["kit"]
    assert {name: row["class"] for name, row in key.items()} == {
        row["id"]: row["class"] for row in rows(made)
    }


@pytest.mark.parametrize("column", range(6))
def test_a_changed_line_of_the_key_is_named(sets, tmp_path, column):
    cells = resaved(build(sets))
    cells[5][column] = {1: "real" if cells[5][1] == "synthetic" else "synthetic"}.get(column, "x")
    file = written(tmp_path / "key.csv", cells, ",", "utf-8")
    with pytest.raises(InputError, match=rf"key\.csv: line 6 was changed \({cells[5][0]},"):
        answers.read_key(file)


def test_a_key_with_missing_or_foreign_lines_is_rejected(sets, tmp_path):
    cells = resaved(build(sets))
    strange = cells + resaved(build(sets))[1:]
    for wrong in (cells[:-1], [*cells, cells[-1]], strange):
        with pytest.raises(InputError, match="lines are missing or come from another kit"):
            answers.read_key(written(tmp_path / "key.csv", wrong, ";", "utf-8"))
    for wrong in (cells[:1], [row[:4] for row in cells]):
        with pytest.raises(InputError, match="is not a key; expected the columns id, class,"):
            answers.read_key(written(tmp_path / "key.csv", wrong, ",", "utf-8"))


# ---------------------------------------------------------------- answers


def answered(
    made: kit.Kit, reader: str, right: float, as_json: bool = False, leave: int = 0
) -> str:
    """A file as the page saves it; `right` is the share of right calls."""
    rng = np.random.default_rng(zlib.crc32(reader.encode()))
    asked = kit.questions(settings())
    given = []
    for row in rows(made)[leave:]:
        other = "real" if row["class"] == "synthetic" else "synthetic"
        answer: dict = {"id": row["id"]}
        for question in asked:
            options = question.get("options", [""])
            answer[question["name"]] = options[rng.integers(len(options))]
        answer["class"] = row["class"] if rng.uniform() < right else other
        given.append(answer | {"reason": 'odd, "smooth" & é', "seconds": 3.5})
    if as_json:
        said = {"kit": made.content["kit"], "reader": reader, "answers": given}
        text = json.dumps(said, separators=(",", ":"), ensure_ascii=False)
        return json.dumps(said | {"checksum": f"{zlib.crc32(text.encode()):08x}"})
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n", quoting=csv.QUOTE_ALL)
    names = ["position", "id", *(question["name"] for question in asked), "seconds"]
    buffer.write(f"kit,{made.content['kit']}\nreader,{reader}\n{','.join(names)}\n")
    writer.writerows([k, *(each[n] for n in names[1:])] for k, each in enumerate(given, 1))
    text = buffer.getvalue()
    return f"{text}checksum,{zlib.crc32(text.encode()):08x}\n"


@pytest.fixture
def saved(sets, tmp_path):
    made = build(sets)
    (tmp_path / "key.csv").write_text(made.key)
    files = []
    for reader, right, as_json in (("zoe", 0.9, False), ("ann", 0.6, True), ("bob", 0.7, False)):
        files.append(tmp_path / f"{reader}.{'json' if as_json else 'csv'}")
        files[-1].write_text(answered(made, reader, right, as_json))
    return made, files, answers.read_key(tmp_path / "key.csv")


def test_answers_are_scored_against_the_key(saved, sets):
    _made, files, key = saved
    read = answers.read(files, key, incomplete=False)
    assert [each.reader for each in read] == ["ann", "bob", "zoe"]
    found = study.measure(key, read, settings(), sets, SIDE)
    assert found.identity | {"kit": ""} == {
        "kit": "", "readers": 3, "n_real": 12, "n_synthetic": 12, "margin": 0.1,
    }  # fmt: skip
    once = [own for own, row in key.items() if not row["repeat_of"]]
    for k, reader in enumerate(read, 1):
        right = np.mean([reader.rows[own]["class"] == key[own]["class"] for own in once])
        assert found["accuracy", f"reader: R{k}"].value == pytest.approx(right)
    accuracy = found["accuracy"]
    assert accuracy.low < accuracy.value < accuracy.high
    assert found.headlines == {"reader_accuracy": accuracy.value}
    assert "zoe" not in found.to_json()
    assert 0 <= found["consistency"].value <= 1


def test_incomplete_answers_are_rejected_or_counted(saved, sets):
    made, files, key = saved
    files[0].write_text(answered(made, "zoe", 0.9, leave=3))
    with pytest.raises(InputError, match=r"zoe\.csv: 25 of 28 pictures are answered"):
        answers.read(files, key, incomplete=False)
    read = answers.read(files, key, incomplete=True)
    found = study.measure(key, read, settings(), sets, SIDE).identity
    assert found["n_real"] + found["n_synthetic"] in (21, 22, 23, 24)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda text: text.replace("real", "unreal", 1), r"zoe\.csv: is damaged"),
        (lambda text: text[: len(text) // 2], r"zoe\.csv: is damaged"),
        (lambda text: "", r"zoe\.csv: is damaged"),
        (lambda text: "{}", r"zoe\.csv: cannot be read as answers"),
    ],
)
def test_a_damaged_file_is_rejected(saved, spoil, said):
    _, files, key = saved
    files[0].write_text(spoil(files[0].read_text()))
    with pytest.raises(InputError, match=said):
        answers.read(files, key, incomplete=False)


def test_answers_of_another_kit_and_a_second_file_are_each_named_on_a_line(saved, sets):
    made, files, key = saved
    files[1].write_text(answered(build(sets), "ann", 0.6))
    files[2].write_text(answered(made, "zoe", 0.9))
    with pytest.raises(InputError) as refused:
        answers.read(files, key, incomplete=False)
    one, two = str(refused.value).splitlines()
    assert "ann.json: holds answers for another kit" in one
    assert "a second file of reader zoe" in two
