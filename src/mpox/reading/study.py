"""All that a reading study says: of each reader, of all, of whom. docs/reading.md explains each."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mpox.core import images, table
from mpox.core.errors import InputError
from mpox.params import Reading
from mpox.reading import kit, scores
from mpox.reading.answers import Answers, Row
from mpox.statistics import tone
from mpox.statistics.estimate import Estimate

FEWEST = 5  # pictures of either class of a tone, from which on it is judged


def measure(
    key: Mapping[str, Row],
    readers: Sequence[Answers],
    settings: Reading,
    folders: Mapping[str, Path],
    side: int,
) -> dict[str, Any]:
    """Estimates and numbers by name; readers are R1, R2, … in the order of their codes.

    `folders`: where the files of the key lie, by the name before the slash. Repeats serve
    consistency alone. A picture that some reader left out counts for none.
    """
    ids = [own for own, row in key.items() if not row["repeat_of"]]
    ids = [own for own in ids if all(own in reader.rows for reader in readers)]
    synthetic = np.array([key[own]["class"] == kit.SYNTHETIC for own in ids], bool)
    if min(synthetic.sum(), (~synthetic).sum()) < kit.FEWEST:
        raise InputError(f"reading: {len(ids)} pictures are answered by all readers; expected more")
    files = [_file(key[own]["file"], folders) for own in ids]
    groups, tones = _patients(files), _tones(files, side)
    scale = {question["name"]: question.get("options", []) for question in kit.questions(settings)}

    def asked(name: str) -> np.ndarray:
        """R×N: which of its options, from 0."""
        return np.array(
            [[scale[name].index(reader.rows[own][name]) for own in ids] for reader in readers]
        )

    try:
        calls = asked("class").astype(float)
        sure, realism, diagnosis = map(asked, ("class_confidence", "realism", "diagnosis"))
    except (ValueError, KeyError) as error:
        raise InputError(f"reading: an answer is none of params.yaml's options: {error}") from None
    ratings = np.where(calls == 1, sure + 1, -sure - 1)
    mpox = (diagnosis == 0).astype(float)

    def pooled(statistic: scores.Statistic, given: np.ndarray) -> Estimate:
        return scores.pooled(statistic, given, synthetic, groups)

    right = calls == synthetic
    return {
        "ran": True,
        "identity": {
            "kit": kit.fingerprint(list(key)),
            "readers": len(readers),
            "n_real": int((~synthetic).sum()),
            "n_synthetic": int(synthetic.sum()),
            "margin": settings.margin,
        },
        "accuracy": pooled(scores.accuracy, calls),
        "sensitivity": pooled(scores.sensitivity, calls),
        "specificity": pooled(scores.specificity, calls),
        "d_prime": pooled(scores.d_prime, calls),
        "criterion": pooled(scores.criterion, calls),
        "auroc": pooled(scores.auroc, ratings),
        "equivalent": scores.equivalent(scores.accuracy, calls, synthetic, settings.margin, groups),
        "realism_real": float(1 + realism[:, ~synthetic].mean()),
        "realism_synthetic": float(1 + realism[:, synthetic].mean()),
        "realism_off": pooled(scores.difference, realism.astype(float)),
        "mpox_real": float(mpox[:, ~synthetic].mean()),
        "mpox_synthetic": float(mpox[:, synthetic].mean()),
        "mpox_off": pooled(scores.difference, mpox),
        **_agreement(calls, realism),
        **_consistency(key, readers),
        "by_reader": {
            f"R{k}": _reader(right[k - 1], calls[k - 1 : k], ratings[k - 1 : k], synthetic)
            for k in range(1, len(readers) + 1)
        },
        "by": {"tone": _by_tone(calls, synthetic, tones, groups)},
    }


def _reader(
    right: np.ndarray, calls: np.ndarray, ratings: np.ndarray, synthetic: np.ndarray
) -> dict[str, Any]:
    """One reader's, with exact intervals."""
    return {
        "accuracy": scores.exact(int(right.sum()), len(right)),
        "sensitivity": scores.exact(int(right[synthetic].sum()), int(synthetic.sum())),
        "specificity": scores.exact(int(right[~synthetic].sum()), int((~synthetic).sum())),
        "d_prime": float(scores.d_prime(calls, synthetic)[0]),
        "criterion": float(scores.criterion(calls, synthetic)[0]),
        "auroc": float(scores.auroc(ratings, synthetic)[0]),
    }


def _agreement(calls: np.ndarray, realism: np.ndarray) -> dict[str, float]:
    """Among two readers or more, where their answers vary at all."""
    if len(calls) < 2:
        return {}
    found = {}
    if len(np.unique(calls)) > 1:
        found["kappa_class"] = scores.kappa(calls)
    if len(np.unique(realism)) > 1:
        found["alpha_realism"] = scores.alpha(realism)
    return found


def _consistency(key: Mapping[str, Row], readers: Sequence[Answers]) -> dict[str, Any]:
    """Of pictures shown twice: how often the same reader calls both the same."""
    pairs = [
        reader.rows[own]["class"] == reader.rows[row["repeat_of"]]["class"]
        for reader in readers
        for own, row in key.items()
        if row["repeat_of"] and own in reader.rows and row["repeat_of"] in reader.rows
    ]
    return {"consistency": scores.exact(sum(pairs), len(pairs))} if pairs else {}


def _by_tone(
    calls: np.ndarray, synthetic: np.ndarray, tones: np.ndarray, groups: list[str]
) -> dict[str, Any]:
    """Accuracy by the tone measured in the picture, where both classes have enough of it."""
    found: dict[str, dict[str, Any]] = {}
    for word in tone.BANDS:
        own = tones == word
        counts = int((own & ~synthetic).sum()), int((own & synthetic).sum())
        if not any(counts):
            continue
        found[word] = {"n_real": counts[0], "n_synthetic": counts[1]}
        if min(counts) >= FEWEST:
            whose = [groups[i] for i in np.flatnonzero(own)]
            of = scores.pooled(scores.accuracy, calls[:, own], synthetic[own], whose)
            found[word]["accuracy"] = of
    return found


def _file(said: str, folders: Mapping[str, Path]) -> Path:
    folder, _, name = said.partition("/")
    path = folders.get(folder, Path(folder)) / name
    if not path.is_file():
        raise InputError(f"{path}: no such file, and the key names it; expected the kit's run")
    return path


def _patients(files: Sequence[Path]) -> list[str]:
    """Whose each picture is; a synthetic one is by itself."""
    found: dict[Path, str] = {}
    for folder in {file.parent for file in files}:
        own = [file for file in files if file.parent == folder]
        groups, _ = table.groups(folder, [file.name for file in own])
        found |= {f: f"{folder} {group}" for f, group in zip(own, groups, strict=True)}
    return [found[file] for file in files]


def _tones(files: Sequence[Path], side: int) -> np.ndarray:
    return np.array(
        [tone.word(tone.typology_angle(images.square(images.read(f), side))) for f in files]
    )
