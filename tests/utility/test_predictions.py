"""Scored predictions: scikit-learn's area, the trial's interval, and a line for each wrong row."""

from pathlib import Path

import numpy as np
import pytest
from runs import picture
from sklearn.metrics import roc_auc_score

from mpox.core import images, table
from mpox.core.errors import InputError
from mpox.core.picture_set import PictureSet
from mpox.core.seeds import derive
from mpox.params import Params, read
from mpox.statistics.estimate import Estimate
from mpox.utility import predictions
from mpox.utility.arms import Arm
from mpox.utility.scoring import Scorer
from stages import score_predictions

ROOT = Path(__file__).parents[2]
FOLDERS = {"mpox": Path("data/prepared/test"), "acne": Path("data/prepared_controls/test")}
NAMES = {
    "mpox": [f"a{k:015x}.png" for k in range(12)],
    "acne": [f"b{k:015x}.png" for k in range(9)],
}
PATIENTS = {"mpox": [f"{k // 3}" for k in range(12)], "acne": [f"{10 + k // 2}" for k in range(9)]}


@pytest.fixture
def answers(tmp_path, monkeypatch) -> dict[str, float]:
    """Predictions for the test photos of a run, which is in the working directory."""
    monkeypatch.chdir(tmp_path)
    rng, answers = np.random.default_rng(5), {}
    for kind, folder in FOLDERS.items():
        folder.mkdir(parents=True)
        for k, name in enumerate(NAMES[kind]):
            images.write(folder / name, picture(len(kind), k))
            score = 0.2 * (kind == "mpox") + rng.uniform(0.1, 0.8)
            answers[name] = round(float(np.clip(score, 0, 1)), 2)
        rows = {n: [p, kind] for n, p in zip(NAMES[kind], PATIENTS[kind], strict=True)}
        table.write(folder, ["group", "label"], rows)
    return answers


def write(rows: list[tuple[str, object]], head: str = "file,probability") -> Path:
    file = Path("predictions.csv")
    file.write_text("\n".join([head, *(f"{name},{value}" for name, value in rows), ""]))
    return file


def score(file: Path) -> Estimate:
    return predictions.score(file, *map(PictureSet.read, FOLDERS.values()), seed=7)


def test_the_area_is_scikit_learns_and_the_interval_the_trials(answers):
    rows = list(answers.items())
    np.random.default_rng(0).shuffle(rows)
    auroc = score(write([(f"out/test/x/{name}", value) for name, value in rows]))
    values = np.array(list(answers.values()))
    mpox = np.arange(21) < 12
    assert auroc.value == pytest.approx(roc_auc_score(mpox, values), abs=1e-12)
    rng = np.random.default_rng(derive(7, "utility", "bootstrap"))
    scorer, one = Scorer(mpox, PATIENTS["mpox"] + PATIENTS["acne"], rng), np.ones(1)
    arm = Arm(values[None], one / 2, one, 0.0, 1, 1)
    assert auroc == scorer.measures(arm)["auroc"].estimate()
    assert auroc.low < auroc.value < auroc.high


def test_folders_and_other_columns_are_ignored(answers):
    plain = score(write(list(answers.items())))
    windows = [(rf"0,C:\out\test\mpox\{name}", value) for name, value in answers.items()]
    assert score(write(windows, "row,file,probability")) == plain
    file = write([(f"./{name}", value) for name, value in answers.items()])
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes().replace(b"\n", b"\r\n"))
    assert score(file) == plain


def test_the_command_prints_the_area_with_the_numbers_of_photos_and_patients(answers):
    text = score_predictions.main(read(ROOT / "params.yaml", Params), write(list(answers.items())))
    value = roc_auc_score([True] * 12 + [False] * 9, list(answers.values()))
    assert text.startswith(f"AUROC {value:.3f}, interval of 95 % ")
    assert text.endswith("(12 test photos of mpox, 9 of other conditions, 9 patients)")


def test_every_wrong_row_is_named_with_its_line(answers):
    rows: list[tuple[str, object]] = list(answers.items())
    names, wrong = list(answers), ["nan", "1.01", "-0.1", "inf", "", "much"]
    for k, value in enumerate(wrong):
        rows[k] = (names[k], value)
    rows[6] = ("train/mpox/0000.png", 0.5)
    rows[8] = (f"again/{names[7]}", 0.5)
    with pytest.raises(InputError) as refused:
        score(write(rows))
    file = "predictions.csv"
    assert str(refused.value).split("\n") == [
        *(
            f"{file}: line {k + 2}: {names[k]}: got {value!r}, expected a probability from 0 to 1"
            for k, value in enumerate(wrong)
        ),
        f"{file}: line 8: train/mpox/0000.png: is none of the 21 test photos",
        f"{file}: line 10: again/{names[7]}: has a row already",
        f"{file}: no row for the test photo {names[6]}",
        f"{file}: no row for the test photo {names[8]}",
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "has no column file and no column probability in its first line; expected file,prob"),
        (b"file;probability\n", "has no column file and no column probability"),
        (b"file,score\n", "has no column probability in its first line"),
        (b"file,probability\n\xff,1\n", "is not UTF-8"),
        (b'file,probability\n"a,1\n', "line 2: unexpected end of data"),
        (None, r"cannot be read \(No such file"),
    ],
)
def test_another_file_is_refused(content, message, tmp_path):
    file = tmp_path / "predictions.csv"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(InputError, match=f"predictions.csv: {message}"):
        predictions.read_probabilities(file, ["a.png"])


def test_no_controls_are_refused(answers):
    mpox, controls = map(PictureSet.read, FOLDERS.values())
    file = write(list(answers.items()))
    with pytest.raises(InputError, match="test: has no photos of other conditions"):
        predictions.score(file, mpox, controls.subset([]), seed=7)
