"""Predictions of any classifier for the test photos, scored as the trial scores its own."""

import csv
import io
import posixpath
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mpox.core import table
from mpox.core.errors import InputError, line
from mpox.core.picture_set import PictureSet
from mpox.core.seeds import derive
from mpox.statistics import roc
from mpox.statistics.estimate import Estimate
from mpox.utility.bootstrap import Bootstrap
from mpox.utility.scoring import Scorer

COLUMNS = ("file", "probability")


def score(file: Path, mpox: PictureSet, controls: PictureSet, seed: int) -> Estimate:
    """AUROC of a CSV with COLUMNS on the test photos, with the interval that the trial gives.

    Raises InputError, with a line for each fault, for wrong rows and photos without a row.
    """
    if not len(controls):
        raise InputError(f"{controls.folder}: has no photos of other conditions; expected some")
    names = [path.name for path in mpox.paths + controls.paths]
    scores, is_mpox = read_probabilities(file, names), np.arange(len(names)) < len(mpox)
    rng = np.random.default_rng(derive(seed, "utility", "bootstrap"))
    scorer = Scorer(is_mpox, mpox.patients + controls.patients, rng)
    return Bootstrap(roc.auroc(scores, is_mpox, scorer.times)[None], scorer.stretch).estimate()


def read_probabilities(file: Path, names: Sequence[str]) -> np.ndarray:
    """The probability of mpox for each of the n test photos `names`, in their order.

    A row names a photo by its file name; the folder before it is ignored. Raises InputError, with
    a line for each fault, for unknown, repeated and missing files, and for values that are not
    numbers from 0 to 1.
    """
    known, probabilities, faults = set(names), {}, []
    for number, path, value in _read_rows(file):
        where = f"{file}: line {number}: {line(path)}"
        name = posixpath.basename(table.normal(path))
        if name not in known:
            faults.append(f"{where}: is none of the {len(names)} test photos")
        elif name in probabilities:
            faults.append(f"{where}: has a row already")
        else:
            probabilities[name] = probability = _probability(value)
            if np.isnan(probability):
                faults.append(f"{where}: got {line(value)!r}, expected a probability from 0 to 1")
    faults += [
        f"{file}: no row for the test photo {name}" for name in names if name not in probabilities
    ]
    if faults:
        raise InputError("\n".join(faults))
    return np.array([probabilities[name] for name in names])


def _read_rows(file: Path) -> list[tuple[int, str, str]]:
    """Line number, file and probability of each row."""
    try:
        text = file.read_bytes().decode("utf-8-sig")
        reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
        if missing := [column for column in COLUMNS if column not in (reader.fieldnames or ())]:
            raise InputError(
                f"{file}: has no column {' and no column '.join(missing)} in its first line; "
                f"expected {','.join(COLUMNS)}"
            )
        return [(reader.line_num, row["file"] or "", row["probability"] or "") for row in reader]
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise InputError(f"{file}: is not UTF-8; save it as UTF-8") from None
    except csv.Error as error:
        raise InputError(f"{file}: line {reader.reader.line_num}: {error}") from None


def _probability(value: str) -> float:
    """NaN for anything that is not a number from 0 to 1."""
    try:
        number = float(value)
    except ValueError:
        return np.nan
    return number if 0 <= number <= 1 else np.nan
