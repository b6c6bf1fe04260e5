"""All that a reading study says: of each reader, of all, of whom. docs/reading.md explains each."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from mpox.core import images, table
from mpox.core.errors import InputError
from mpox.params import Reading
from mpox.reading import kit, scores
from mpox.reading.answers import Answers, Row
from mpox.statistics import rates, tone
from mpox.statistics.estimate import ALL, Estimate, Metrics

FEWEST = 5  # pictures of either class of a tone, from which on it is judged


def measure(
    key: Mapping[str, Row],
    readers: Sequence[Answers],
    settings: Reading,
    folders: Mapping[str, Path],
    side: int,
) -> Metrics:
    """Of all readers, of each and by tone; readers are R1, R2, … in the order of their codes.

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
    equivalent = scores.equivalent(scores.accuracy, calls, synthetic, settings.margin, groups)
    identity = {
        "kit": kit.fingerprint(list(key)),
        "readers": len(readers),
        "n_real": int((~synthetic).sum()),
        "n_synthetic": int(synthetic.sum()),
        "margin": settings.margin,
    }
    measures = {
        "accuracy": pooled(scores.accuracy, calls),
        "sensitivity": pooled(scores.sensitivity, calls),
        "specificity": pooled(scores.specificity, calls),
        "d_prime": pooled(scores.d_prime, calls),
        "criterion": pooled(scores.criterion, calls),
        "auroc": pooled(scores.auroc, ratings),
        "equivalent": Estimate(int(equivalent)),
        "realism_real": Estimate(float(1 + realism[:, ~synthetic].mean())),
        "realism_synthetic": Estimate(float(1 + realism[:, synthetic].mean())),
        "realism_off": pooled(scores.difference, realism.astype(float)),
        "mpox_real": Estimate(float(mpox[:, ~synthetic].mean())),
        "mpox_synthetic": Estimate(float(mpox[:, synthetic].mean())),
        "mpox_off": pooled(scores.difference, mpox),
        **_agreement(calls, realism),
        **_consistency(key, readers),
    }
    by_reader = {
        f"reader: R{k}": _reader(right[k - 1], calls[k - 1 : k], ratings[k - 1 : k], synthetic)
        for k in range(1, len(readers) + 1)
    }
    return Metrics(
        {ALL: measures, **by_reader, **_by_tone(calls, synthetic, tones, groups)},
        identity,
        headlines={"reader_accuracy": measures["accuracy"].value},
    )


def _reader(
    right: np.ndarray, calls: np.ndarray, ratings: np.ndarray, synthetic: np.ndarray
) -> dict[str, Estimate]:
    """One reader's, with exact intervals."""
    return {
        "accuracy": rates.share(int(right.sum()), len(right)),
        "sensitivity": rates.share(int(right[synthetic].sum()), int(synthetic.sum())),
        "specificity": rates.share(int(right[~synthetic].sum()), int((~synthetic).sum())),
        "d_prime": Estimate(float(scores.d_prime(calls, synthetic)[0])),
        "criterion": Estimate(float(scores.criterion(calls, synthetic)[0])),
        "auroc": Estimate(float(scores.auroc(ratings, synthetic)[0])),
    }


def _agreement(calls: np.ndarray, realism: np.ndarray) -> dict[str, Estimate]:
    """Among two readers or more, where their answers vary at all."""
    if len(calls) < 2:
        return {}
    found = {}
    if len(np.unique(calls)) > 1:
        found["kappa_class"] = Estimate(scores.kappa(calls))
    if len(np.unique(realism)) > 1:
        found["alpha_realism"] = Estimate(scores.alpha(realism))
    return found


def _consistency(key: Mapping[str, Row], readers: Sequence[Answers]) -> dict[str, Estimate]:
    """Of pictures shown twice: how often the same reader calls both the same."""
    pairs = [
        reader.rows[own]["class"] == reader.rows[row["repeat_of"]]["class"]
        for reader in readers
        for own, row in key.items()
        if row["repeat_of"] and own in reader.rows and row["repeat_of"] in reader.rows
    ]
    return {"consistency": rates.share(sum(pairs), len(pairs))} if pairs else {}


def _by_tone(
    calls: np.ndarray, synthetic: np.ndarray, tones: np.ndarray, groups: list[str]
) -> dict[str, dict[str, Estimate]]:
    """Accuracy by the tone measured in the picture, where both classes have enough of it."""
    found: dict[str, dict[str, Estimate]] = {}
    for word in tone.BANDS:
        own = tones == word
        counts = int((own & ~synthetic).sum()), int((own & synthetic).sum())
        if not any(counts):
            continue
        group = f"tone: {word}"
        found[group] = {"n_real": Estimate(counts[0]), "n_synthetic": Estimate(counts[1])}
        if min(counts) >= FEWEST:
            whose = [groups[i] for i in np.flatnonzero(own)]
            of = scores.pooled(scores.accuracy, calls[:, own], synthetic[own], whose)
            found[group]["accuracy"] = of
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
