"""Every number of a reading study: of all readers, of each reader and by tone (docs/reading.md)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Self

import numpy as np

from mpox.core import images
from mpox.core.errors import InputError
from mpox.core.picture_set import PictureSet
from mpox.params import Reading
from mpox.reading import kit, scores
from mpox.reading.answers import Answers, Row
from mpox.statistics import rates, tone
from mpox.statistics.estimate import ALL, Estimate, Metrics

FEWEST = 5  # pictures of each class that a tone needs to be scored by itself


@dataclass(frozen=True)
class Judgements:
    """What R readers answered about the same N pictures."""

    synthetic: np.ndarray  # N, the truth
    patients: np.ndarray  # N; each synthetic picture counts as a patient
    tones: np.ndarray  # N, measured in the picture
    calls: np.ndarray  # R×N, 1 for "synthetic"
    ratings: np.ndarray  # R×N, from −5, certainly real, to 5, certainly synthetic
    realism: np.ndarray  # R×N, 1 to 5
    mpox: np.ndarray  # R×N, 1 for a diagnosis of mpox

    def subset(self, chosen: np.ndarray) -> Self:
        """The judgements of the chosen pictures, a boolean array of N."""
        return type(self)(*(getattr(self, field.name)[..., chosen] for field in fields(self)))

    def pooled(
        self, statistic: scores.Statistic, values: np.ndarray, confidence: float = 0.95
    ) -> Estimate:
        return scores.pooled(statistic, values, self.synthetic, self.patients, confidence)

    def counts(self) -> tuple[int, int]:
        """The numbers of real and of synthetic pictures."""
        return int((~self.synthetic).sum()), int(self.synthetic.sum())


def measure(
    key: Mapping[str, Row],
    readers: Sequence[Answers],
    settings: Reading,
    pictures: Mapping[str, PictureSet],
    side: int,
) -> Metrics:
    """Scores for all readers, for each and by tone; readers are R1, R2, … in the order of codes.

    `pictures`: the sets that the key's files come from, by the folder's name. Repeats count for
    consistency alone. A picture that any reader left out is excluded for all readers.
    """
    judgements = _collect(key, readers, settings, pictures, side)
    real, synthetic = judgements.counts()
    identity = {
        "kit": kit.fingerprint(list(key)),
        "readers": len(readers),
        "n_real": real,
        "n_synthetic": synthetic,
        "margin": settings.margin,
    }
    measures = _of_all(judgements, settings.margin) | _consistency(key, readers)
    by_reader = {f"reader: R{k + 1}": _of_one(judgements, k) for k in range(len(readers))}
    return Metrics(
        {ALL: measures, **by_reader, **_by_tone(judgements)},
        identity,
        headlines={"reader_accuracy": measures["accuracy"].value},
    )


def _collect(
    key: Mapping[str, Row],
    readers: Sequence[Answers],
    settings: Reading,
    pictures: Mapping[str, PictureSet],
    side: int,
) -> Judgements:
    """Every picture that all readers answered, once."""
    ids = [
        picture
        for picture, row in key.items()
        if not row["repeat_of"] and all(picture in reader.rows for reader in readers)
    ]
    synthetic = np.array([key[picture]["class"] == kit.SYNTHETIC for picture in ids], bool)
    if min(synthetic.sum(), (~synthetic).sum()) < kit.FEWEST:
        raise InputError(
            f"reading: all readers answered {(~synthetic).sum()} real and {synthetic.sum()} "
            f"synthetic pictures; expected at least {kit.FEWEST} of each"
        )
    options = {
        question["name"]: question["options"]
        for question in kit.questions(settings)
        if "options" in question
    }

    def choices(question: str) -> np.ndarray:
        """R×N: the place of each answer among the question's options."""
        answers = [[reader.rows[picture][question] for picture in ids] for reader in readers]
        try:
            return np.array([[options[question].index(one) for one in row] for row in answers])
        except ValueError as error:
            raise InputError(
                f"reading: an answer to {question!r} is not among its options ({error}); expected "
                "the options of `reading` in params.yaml with which the kit was made"
            ) from None

    calls, sure = choices("class").astype(float), choices("class_confidence")
    patients, tones = _look_up([key[picture]["file"] for picture in ids], pictures, side)
    return Judgements(
        synthetic,
        patients,
        tones,
        calls,
        ratings=np.where(calls == 1, sure + 1, -sure - 1),
        realism=choices("realism") + 1.0,
        mpox=(choices("diagnosis") == 0).astype(float),
    )


def _look_up(
    files: Sequence[str], pictures: Mapping[str, PictureSet], side: int
) -> tuple[np.ndarray, np.ndarray]:
    """The patient and the tone of each file, N and N."""
    places = {
        f"{folder}/{name}": (shown, place)
        for folder, shown in pictures.items()
        for place, name in enumerate(shown.names)
    }
    patients, tones = [], []
    for file in files:
        if file not in places:
            raise InputError(
                f"{file}: no such picture, but the key names it; restore the pictures from which "
                "the kit was made"
            )
        shown, place = places[file]
        patients.append(f"{shown.folder} {shown.patients[place]}")
        angle = tone.typology_angle(images.square(images.read(shown.paths[place]), side))
        tones.append(tone.word(angle))
    return np.array(patients), np.array(tones)


def _of_all(judgements: Judgements, margin: float) -> dict[str, Estimate]:
    """The pooled scores."""
    calls, synthetic = judgements.calls, judgements.synthetic
    statistics = (
        scores.accuracy, scores.sensitivity, scores.specificity, scores.d_prime, scores.criterion,
    )  # fmt: skip
    pooled = {each.__name__: judgements.pooled(each, calls) for each in statistics}
    pooled["auroc"] = judgements.pooled(scores.auroc, judgements.ratings)
    narrow = pooled["accuracy_90"] = judgements.pooled(scores.accuracy, calls, confidence=0.9)
    pooled["equivalent"] = Estimate(int(scores.equivalent(narrow, margin)))
    for name, values in (("realism", judgements.realism), ("mpox", judgements.mpox)):
        pooled[f"{name}_real"] = Estimate(float(values[:, ~synthetic].mean()))
        pooled[f"{name}_synthetic"] = Estimate(float(values[:, synthetic].mean()))
        pooled[f"{name}_off"] = judgements.pooled(scores.difference, values)
    return pooled | _agreement(calls, judgements.realism)


def _of_one(judgements: Judgements, reader: int) -> dict[str, Estimate]:
    """The scores of one reader, with exact intervals."""
    calls, synthetic = judgements.calls[reader : reader + 1], judgements.synthetic
    ratings = judgements.ratings[reader : reader + 1]
    right = calls[0] == synthetic
    return {
        "accuracy": rates.share(int(right.sum()), len(right)),
        "sensitivity": rates.share(int(right[synthetic].sum()), int(synthetic.sum())),
        "specificity": rates.share(int(right[~synthetic].sum()), int((~synthetic).sum())),
        "d_prime": Estimate(float(scores.d_prime(calls, synthetic)[0])),
        "criterion": Estimate(float(scores.criterion(calls, synthetic)[0])),
        "auroc": Estimate(float(scores.auroc(ratings, synthetic)[0])),
    }


def _agreement(calls: np.ndarray, realism: np.ndarray) -> dict[str, Estimate]:
    """Agreement of two or more readers; undefined where all answers are equal."""
    agreement = {}
    if len(calls) > 1 and len(np.unique(calls)) > 1:
        agreement["kappa_class"] = Estimate(scores.kappa(calls))
    if len(calls) > 1 and len(np.unique(realism)) > 1:
        agreement["alpha_realism"] = Estimate(scores.alpha(realism))
    return agreement


def _consistency(key: Mapping[str, Row], readers: Sequence[Answers]) -> dict[str, Estimate]:
    """Of the pictures shown twice, the share that a reader called the same both times."""
    pairs = [
        reader.rows[again]["class"] == reader.rows[row["repeat_of"]]["class"]
        for reader in readers
        for again, row in key.items()
        if row["repeat_of"] and again in reader.rows and row["repeat_of"] in reader.rows
    ]
    return {"consistency": rates.share(sum(pairs), len(pairs))} if pairs else {}


def _by_tone(judgements: Judgements) -> dict[str, dict[str, Estimate]]:
    """Counts by tone, and accuracy where each class has enough pictures."""
    groups: dict[str, dict[str, Estimate]] = {}
    for word in tone.BANDS:
        subset = judgements.subset(judgements.tones == word)
        real, synthetic = subset.counts()
        if not real + synthetic:
            continue
        groups[f"tone: {word}"] = {"n_real": Estimate(real), "n_synthetic": Estimate(synthetic)}
        if min(real, synthetic) >= FEWEST:
            accuracy = subset.pooled(scores.accuracy, subset.calls)
            groups[f"tone: {word}"]["accuracy"] = accuracy
    return groups
