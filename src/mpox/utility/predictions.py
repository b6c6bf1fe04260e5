"""Predictions of any classifier on the test photos, scored as the trial scores its own."""

import csv
import io
import posixpath
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mpox.core import table
from mpox.core.errors import InputError, line
from mpox.core.seeds import derive
from mpox.statistics import roc
from mpox.statistics.estimate import Estimate
from mpox.utility.judge import Judge
from mpox.utility.photos import Photos, find

COLUMNS = ("file", "probability")


def score(file: Path, prepared: Path, controls: Path, seed: int) -> tuple[Estimate, Photos]:
    """AUROC of a CSV with COLUMNS, with the trial's interval over patients, and the test photos.

    InputError, a line for each fault, for rows that are wrong and photos that have none.
    """
    files = find(prepared, controls, "test")
    n = len(files.paths)
    test = Photos(np.empty((n, 0)), files.labels, files.patients, ["unknown"] * n, np.empty((n, 3)))
    if len(set(test.mpox)) < 2:
        raise InputError(f"{controls / 'test'}: holds no photos of other conditions; expected some")
    said = read(file, [path.name for path in files.paths])
    judge = Judge(test, np.random.default_rng(derive(seed, "utility", "bootstrap")))
    return judge.estimate(roc.auroc(said, test.mpox, judge.times)[None]), test


def read(file: Path, names: Sequence[str]) -> np.ndarray:
    """The probability of mpox of each of the n test photos `names`, in their order.

    A row names a photo by its file, in whatever folder that lies. InputError, a line for each
    fault, for a file that is none of them, is repeated or has no row, and for a probability that is
    no number from 0 to 1.
    """
    try:
        text = file.read_bytes().decode("utf-8-sig")
        reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
        if lacking := [column for column in COLUMNS if column not in (reader.fieldnames or ())]:
            raise InputError(
                f"{file}: has no column {' and no column '.join(lacking)} in its first line; "
                f"expected {','.join(COLUMNS)}"
            )
        rows = [(reader.line_num, row["file"] or "", row["probability"] or "") for row in reader]
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise InputError(f"{file}: is not UTF-8; save it as such") from None
    except csv.Error as error:
        raise InputError(f"{file}: line {reader.reader.line_num}: {error}") from None
    wanted, found, faults = set(names), {}, []
    for number, path, value in rows:
        where = f"{file}: line {number}: {line(path)}"
        name = posixpath.basename(table.normal(path))
        if name not in wanted:
            faults.append(f"{where}: is none of the {len(names)} test photos")
        elif name in found:
            faults.append(f"{where}: has a row already")
        elif (probability := _probability(value)) is None:
            faults.append(f"{where}: got {line(value)!r}, expected a probability from 0 to 1")
            found[name] = np.nan
        else:
            found[name] = probability
    faults += [f"{file}: no row for the test photo {name}" for name in names if name not in found]
    if faults:
        raise InputError("\n".join(faults))
    return np.array([found[name] for name in names])


def _probability(value: str) -> float | None:
    try:
        number = float(value)
    except ValueError:
        return None
    return number if 0 <= number <= 1 else None
