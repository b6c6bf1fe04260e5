"""Scored predictions: scikit-learn's area, the trial's interval, and refusals by row."""

from pathlib import Path

import numpy as np
import pytest
from runs import picture
from sklearn.metrics import roc_auc_score

from mpox.core import images, table
from mpox.core.errors import InputError
from mpox.core.seeds import derive
from mpox.params import Params, read
from mpox.utility import predictions
from mpox.utility.arms import Arm
from mpox.utility.judge import Judge
from mpox.utility.photos import Photos
from stages import score_predictions

ROOT = Path(__file__).parents[2]
NAMES = {
    "mpox": [f"a{k:015x}.png" for k in range(12)],
    "acne": [f"b{k:015x}.png" for k in range(9)],
}
PATIENTS = {"mpox": [f"{k // 3}" for k in range(12)], "acne": [f"{10 + k // 2}" for k in range(9)]}


@pytest.fixture
def run(tmp_path, monkeypatch) -> Path:
    """The test photos of a run, three of each patient with mpox and two of each control's."""
    monkeypatch.chdir(tmp_path)
    for kind, folder in (("mpox", "data/prepared/test"), ("acne", "data/prepared_controls/test")):
        Path(folder).mkdir(parents=True)
        for k, name in enumerate(NAMES[kind]):
            images.write(Path(folder, name), picture(len(kind), k))
        rows = {n: [p, kind] for n, p in zip(NAMES[kind], PATIENTS[kind], strict=True)}
        table.write(Path(folder), ["group", "label"], rows)
    return tmp_path


@pytest.fixture
def said() -> dict[str, float]:
    rng = np.random.default_rng(5)
    return {
        name: round(float(np.clip(0.2 * (kind == "mpox") + rng.uniform(0.1, 0.8), 0, 1)), 2)
        for kind, names in NAMES.items()
        for name in names
    }


def write(rows: list[tuple[str, object]], head: str = "file,probability") -> Path:
    file = Path("predictions.csv")
    file.write_text("\n".join([head, *(f"{name},{value}" for name, value in rows), ""]))
    return file


def score(file: Path) -> predictions.Estimate:
    return predictions.score(file, Path("data/prepared"), Path("data/prepared_controls"), 7)[0]


def test_the_area_is_scikit_learns_and_the_interval_that_of_an_arm_of_the_trial(run, said):
    rows = list(said.items())
    np.random.default_rng(0).shuffle(rows)
    found = score(write([(f"out/test/x/{name}", value) for name, value in rows]))
    names = [*NAMES["mpox"], *NAMES["acne"]]
    values = np.array([said[name] for name in names])
    mpox = np.arange(len(names)) < len(NAMES["mpox"])
    assert found.value == pytest.approx(roc_auc_score(mpox, values), abs=1e-12)
    n = len(names)
    test = Photos(np.zeros((n, 1)), ["mpox"] * 12 + ["acne"] * 9, PATIENTS["mpox"] +
                  PATIENTS["acne"], ["tan"] * n, np.zeros((n, 3)))  # fmt: skip
    judge = Judge(test, np.random.default_rng(derive(7, "utility", "bootstrap")))
    one = np.ones(1)
    assert found == judge.measures(Arm(values[None], one / 2, one, 0.0, 1, 1))["auroc"]
    assert found.low < found.value < found.high


def test_a_path_of_any_kind_names_a_photo_and_other_columns_say_nothing(run, said):
    plain = score(write(list(said.items())))
    windows = [(rf"0,C:\out\test\mpox\{name}", value) for name, value in said.items()]
    assert score(write(windows, "\N{BYTE ORDER MARK},file,probability")) == plain


def test_the_command_says_it_with_what_it_is_of(run, said):
    text = score_predictions.main(read(ROOT / "params.yaml", Params), write(list(said.items())))
    value = roc_auc_score([True] * 12 + [False] * 9, list(said.values()))
    assert text.startswith(f"AUROC {value:.3f}, interval of 95 % ")
    assert text.endswith("(12 test photos of mpox, 9 of other conditions, 9 patients)")


def test_every_wrong_row_is_named_with_its_line(run, said):
    rows: list[tuple[str, object]] = list(said.items())
    names = [name for name, _ in rows]
    for k, value in enumerate(["nan", 1.01, -0.1, "inf", "", "much"]):
        rows[k] = (names[k], value)
    rows[6] = ("train/mpox/0000.png", 0.5)
    rows[8] = (f"again/{names[7]}", 0.5)
    with pytest.raises(InputError) as refused:
        score(write(rows))
    file = "predictions.csv"
    assert str(refused.value).split("\n") == [
        *(
            f"{file}: line {k + 2}: {names[k]}: got {value!r}, expected a probability from 0 to 1"
            for k, value in enumerate(["nan", "1.01", "-0.1", "inf", "", "much"])
        ),
        f"{file}: line 8: train/mpox/0000.png: is none of the 21 test photos",
        f"{file}: line 10: again/{names[7]}: has a row already",
        f"{file}: no row for the test photo {names[6]}",
        f"{file}: no row for the test photo {names[8]}",
    ]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "has no column file and no column probability in its first line; expected file,prob"),
        (b"file;probability\n", "has no column file and no column probability"),
        (b"file,score\n", "has no column probability in its first line"),
        (b"file,probability\n\xff,1\n", "is not UTF-8"),
        (b'file,probability\n"a,1\n', "line 2: unexpected end of data"),
    ],
)
def test_a_file_of_another_form_is_refused(content, said, run):
    Path("predictions.csv").write_bytes(content)
    with pytest.raises(InputError, match=f"^predictions.csv: {said}"):
        score(Path("predictions.csv"))


def test_no_file_and_no_controls_are_refused(run, said):
    with pytest.raises(InputError, match=r"^none.csv: cannot be read \(No such file"):
        score(Path("none.csv"))
    for path in Path("data/prepared_controls/test").glob("*.png"):
        path.unlink()
    table.write(Path("data/prepared_controls/test"), ["group", "label"], {})
    with pytest.raises(InputError, match="holds no photos of other conditions"):
        score(write(list(said.items())))
