"""Does it help? A classifier with and without the synthetic photos, on photos nobody trained on.

docs/utility.md explains each number.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from mpox import estimate, halves, images, listing, table, tone
from mpox.diffusion import base, latents
from mpox.errors import InputError
from mpox.estimate import Estimate
from mpox.measures import collection, features
from mpox.params import Evaluate
from mpox.seeds import derive
from mpox.utility import arms, classifier, guards, scores, worth
from mpox.utility.arms import Arm, Trainer
from mpox.utility.photos import MPOX, Photos, Sets, Version

VARIANTS = 2  # augmented variants of a photo, from which each repeat draws one
MASKED = 0.7  # of the side: the square that is masked in a picture's middle
GREY = 128
POWER = 1.959964 + 0.841621  # standard errors of the smallest gain found with 80 % power at 5 %
FEWEST = 8  # test pictures of mpox, and of controls, from which on a group is judged …
FEWEST_PATIENTS = 3  # … and patients of either
COLUMNS = (
    "arm", "version", "group", "n_mpox", "n_controls", "patients", "strength",
    "auroc", "auroc_lo", "auroc_hi", "auprc", "auprc_lo", "auprc_hi",
    "sensitivity", "sensitivity_lo", "sensitivity_hi",
    "specificity", "specificity_lo", "specificity_hi", "brier", "brier_lo", "brier_hi",
)  # fmt: skip


class Folders(NamedTuple):
    """Where everything lies; of `controls` and `prepared` each has train, val, test."""

    prepared: Path
    controls: Path
    variants: Path
    control_variants: Path
    synthetic: Path
    placebo: Path


class Result(NamedTuple):
    measures: dict[str, Any]  # estimates and numbers by name
    rows: list[dict[str, Any]]  # of a table of every arm, COLUMNS


def run(
    folders: Folders, model: Path, settings: Evaluate, distance: int, resolution: int, seed: int
) -> Result:
    """The whole trial; without a control only `ran`, which is false.

    InputError for test photos that the generator saw (within `distance` bits of the perceptual
    hash), and for sets without patients enough.
    """
    if not listing.find(folders.controls / "train")[0]:
        return Result({"ran": False}, [])
    guards.check_leaks(
        [folders.prepared / "test", folders.controls / "test"],
        [folders.prepared / part for part in ("train", "val")],
        [folders.synthetic],
        distance,
    )
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    extractor = features.load(settings.features, settings.weights, device)
    vae = base.load(model, resolution).vae.to(device)
    sets = collect(folders, extractor, vae, resolution)
    found = measure(sets, seed)
    identity = {
        "features": extractor.name,
        "features_sha256": extractor.sha256[:8],
        "preprocessing": f"square {resolution}, JPEG 95, network {extractor.size}",
    }
    found.measures["identity"] = identity | found.measures["identity"]
    return found


def collect(folders: Folders, extractor: features.Extractor, vae: Any, side: int) -> Sets:
    """Reads every picture once, through one geometry and one JPEG encoder, and takes features."""

    def look(pixels: np.ndarray) -> np.ndarray:
        if not len(pixels):
            return np.empty((0, 0), np.float32)
        return features.extract(iter(pixels), extractor, total=len(pixels))

    def encoded(pixels: np.ndarray) -> np.ndarray:
        return np.stack([images.recode(each) for each in latents.reconstruct(vae, pixels)])

    real, pixels = {}, {}
    for part in ("train", "val", "test"):
        sides = [_read(each / part, side) for each in (folders.prepared, folders.controls)]
        paths = [path for each, _ in sides for path in each]
        pixels[part] = np.concatenate([each for _, each in sides])
        labels = [MPOX] * len(sides[0][0]) + _labels(folders.controls / part, sides[1][0])
        real[part] = Photos(
            look(pixels[part]),
            labels,
            _patients(paths),
            [tone.word(tone.typology_angle(each)) for each in pixels[part]],
            pixels[part].mean((1, 2)),
        )
    _check(real)
    masked = []
    for part, own in real.items():
        shown = pixels[part].copy()
        edge = round(side * (1 - MASKED) / 2)
        shown[:, edge : side - edge, edge : side - edge] = GREY
        masked.append(own.having(look(np.stack([images.recode(each) for each in shown]))))
    stems = [path.stem for path in _paths(folders.prepared / "train")]
    of_controls = [path.stem for path in _paths(folders.controls / "train")]
    variants = []
    for copy in range(1, VARIANTS + 1):
        files = [folders.variants / f"{stem}-{copy}.jpg" for stem in stems]
        files += [folders.control_variants / f"{stem}-{copy}.jpg" for stem in of_controls]
        if not files[0].exists():  # augment.copies is smaller
            break
        variants.append(collection.read(files, side))
    synthetic, placebo = (_read(each, side)[1] for each in (folders.synthetic, folders.placebo))
    train = real["train"]
    return Sets(
        Version(train, [look(each) for each in variants]),
        Version(
            train.having(look(encoded(pixels["train"]))),
            [look(encoded(each)) for each in variants],
        ),
        real["val"],
        real["test"],
        (masked[0], masked[1], masked[2]),
        look(synthetic),
        look(placebo),
    )


def _paths(folder: Path) -> list[Path]:
    return listing.find(folder)[0]


def _read(folder: Path, side: int) -> tuple[list[Path], np.ndarray]:
    paths = _paths(folder)
    return paths, collection.read(paths, side)


def _labels(folder: Path, paths: Sequence[Path]) -> list[str]:
    known = table.read(folder)
    return [known.row(path.name)["label"] for path in paths] if known else []


def _patients(paths: Sequence[Path]) -> list[str]:
    """By prepare's tables, in which a group has one number whether mpox or control."""
    found: list[str] = []
    for folder in dict.fromkeys(path.parent for path in paths):
        names = [path.name for path in paths if path.parent == folder]
        found += table.groups(folder, names)[0]
    return found


def _check(real: Mapping[str, Photos]) -> None:
    for part, photos in real.items():
        for kind, chosen in (("mpox", photos.mpox), ("controls", ~photos.mpox)):
            patients = {p for p, own in zip(photos.patients, chosen, strict=True) if own}
            least = 1 if part == "val" else 2
            if len(patients) < least:
                raise InputError(
                    f"data.split.{part}: photos of {len(patients)} patients of {kind}, and a "
                    f"classifier needs {least}: more patients, or data.controls: data/none"
                )


# ---------------------------------------------------------------- the numbers


def measure(sets: Sets, seed: int) -> Result:
    """All arms, their differences, the learning curve and the guards."""

    def rng(purpose: str) -> np.random.Generator:
        return np.random.default_rng(derive(seed, "utility", purpose))

    test = sets.test
    judge = Judge(test, rng("bootstrap"))
    trainer = Trainer(sets)
    found = {
        name: arms.train(trainer, version, sets, rng("arms"))
        for name, version in (("plain", sets.plain), ("encoded", sets.encoded))
    }
    curves = arms.curve(trainer, sets.plain, rng("curve"))
    rows = [
        judge.row(arm, name, version, group, chosen)
        for version, each in found.items()
        for name, arm in each.items()
        for group, chosen in judge.groups().items()
    ]
    whole = np.ones(len(test), bool)
    for kind, points in curves.items():
        rows += [judge.row(arm, kind, "plain", "all", whole, n) for n, arm in points.items()]
    chosen_of = {name: _better(found, name) for name in found["plain"]}
    measured = {name: found[version][name] for name, version in chosen_of.items()}
    n, m = int(sets.plain.train.mpox.sum()), len(sets.synthetic)
    main = arms.name(arms.main(arms.ratios(n, m)))
    real = [found[version]["real"] for version in ("plain", "encoded")]
    said: dict[str, Any] = {}
    for name, arm in measured.items():
        said[name] = {
            "version": chosen_of[name],
            "n_mpox": arm.n_mpox,
            "n_controls": arm.n_controls,
        }
        said[name] |= judge.measures(arm)
        if name != "real":
            gain, detectable = judge.gain(arm, real)
            said[name] |= {"gain": gain, "detectable": detectable}
        said[name]["by"] = judge.by_group(arm)
    for other in ("augmented", "placebo"):
        if other in measured:
            said[main][f"over_{other}"] = judge.difference(measured[main], measured[other])[0]
    if "augmented" in measured:
        said["augmented"]["over_real"] = judge.difference(measured["augmented"], measured["real"])[
            0
        ]
    points = curves["real"]
    guarded = _guards(sets, judge, trainer, rng)
    value = judge.value(measured["real"])
    return Result(
        {
            "ran": True,
            "identity": {
                "n_train": n,
                "n_train_controls": int((~sets.plain.train.mpox).sum()),
                "n_val": len(sets.val),
                "n_test": int(test.mpox.sum()),
                "n_test_controls": int((~test.mpox).sum()),
                "patients_train": max(points),
                "patients_test": len(set(test.patients)),
                "n_synthetic": m,
                "n_base": len(sets.placebo),
            },
            "main": main,
            "arms": said,
            "worth": {
                "patients": judge.worth(points, found["plain"]["real"], measured[main]),
                "most": max(points),
            },
            "curve": {
                kind: {str(number): {"auroc": judge.auroc(arm)} for number, arm in each.items()}
                for kind, each in curves.items()
            },
            "guards": {**guarded, **guards.alarms(guarded, value)},
        },
        rows,
    )


def _better(found: Mapping[str, Mapping[str, Arm]], name: str) -> str:
    """The version of the training photos with which an arm does better on val."""
    return min(found, key=lambda version: found[version][name].val_loss)


def _guards(sets: Sets, judge: "Judge", trainer: Trainer, rng: Any) -> dict[str, Estimate]:
    train, test = sets.plain.train, sets.test
    mpox = train.mpox
    who = [train.patients[i] for i in np.flatnonzero(mpox)]
    probes = {
        name: guards.probe(version.train.rows[mpox], who, sets.synthetic, rng(name))
        for name, version in (("probe", sets.plain), ("probe_encoded", sets.encoded))
    }

    def told(own: np.ndarray, val: np.ndarray, asked: np.ndarray) -> Estimate:
        unit = classifier.Unit(own)
        fitted = classifier.fit(unit(own), mpox, (unit(val), sets.val.mpox))
        draws = scores.auroc(fitted.score(unit(asked)), test.mpox, judge.times)
        return guards.interval(draws, test.patients)

    return {
        **probes,
        "colour": told(train.colours, sets.val.colours, test.colours),
        "masked": told(*(each.rows for each in sets.masked)),
    }


class Judge:
    """Scores arms on the test photos, all on the same draws of patients."""

    def __init__(self, test: Photos, rng: np.random.Generator):
        self.test, self.rng = test, rng
        self.times = scores.redraw(test.patients, test.mpox, rng)
        kinds = (test.mpox, ~test.mpox)
        names = np.array(test.patients)
        least = max(min(len(set(names[kind])) for kind in kinds), 2)
        self.stretch = np.sqrt(
            least / (least - 1)
        )  # P patients drawn again vary less than P others

    def draws(self, arm: Arm, chosen: np.ndarray | None = None) -> dict[str, np.ndarray]:
        """Every measure on the test photos (or those chosen), R×(1+B)."""
        keep = np.ones(len(self.test), bool) if chosen is None else chosen
        mpox, times = self.test.mpox[keep], self.times[:, keep]
        # A draw without mpox, or without a control, of a small group says nothing.
        with np.errstate(invalid="ignore", divide="ignore"):
            each = [
                scores.measure(own[keep], threshold, mpox, times)
                for own, threshold in zip(arm.scores, arm.thresholds, strict=True)
            ]
        return {name: np.stack([one[name] for one in each]) for name in each[0]}

    def aurocs(self, arm: Arm) -> np.ndarray:
        """R×(1+B)."""
        return np.stack([scores.auroc(own, self.test.mpox, self.times) for own in arm.scores])

    def value(self, arm: Arm) -> float:
        return float(self.aurocs(arm)[:, 0].mean())

    def estimate(self, drawn: np.ndarray) -> Estimate:
        """Of R×(1+B): the repeats' mean, and the chance in patients and in what repeats draw."""
        width = halves.Z * self.error(drawn)
        value = float(drawn[:, 0].mean())
        return Estimate(value, max(value - width, 0.0), min(value + width, 1.0))

    def error(self, drawn: np.ndarray) -> float:
        """The standard error of the mean of the repeats."""
        tested = self.stretch * np.nanstd(drawn[:, 1:].mean(0), ddof=1)
        return float(np.hypot(tested, _repeated(drawn[:, 0])))

    def measures(self, arm: Arm) -> dict[str, Estimate]:
        return {name: self.estimate(drawn) for name, drawn in self.draws(arm).items()}

    def auroc(self, arm: Arm) -> Estimate:
        return self.estimate(self.aurocs(arm))

    def difference(self, arm: Arm, other: Arm) -> tuple[Estimate, float]:
        """AUROC of `arm` minus that of `other` on the same draws, and its standard error."""
        one, two = self.aurocs(arm), self.aurocs(other)
        tested = self.stretch * np.std(one[:, 1:].mean(0) - two[:, 1:].mean(0), ddof=1)
        error = float(np.sqrt(tested**2 + _repeated(one[:, 0]) ** 2 + _repeated(two[:, 0]) ** 2))
        value = float(one[:, 0].mean() - two[:, 0].mean())
        return Estimate(value, value - halves.Z * error, value + halves.Z * error), error

    def gain(self, arm: Arm, baselines: Sequence[Arm]) -> tuple[Estimate, float]:
        """Over the better of the baselines; and the smallest gain that 80 % power would have."""
        found = [self.difference(arm, each) for each in baselines]
        gain, error = min(found, key=lambda each: each[0].value)
        return gain, POWER * error

    def worth(self, points: Mapping[int, Arm], real: Arm, arm: Arm) -> Estimate:
        """Which patients are in training is chance too: repeats are drawn again.

        Of n patients as much as halves of them vary (the delete-half jackknife), of m pictures
        added to n √(m/(n+m)) of that.
        """

        def redrawn(of: Arm) -> np.ndarray:
            every = self.aurocs(of)
            r, b = every.shape
            chosen = self.rng.integers(r, size=(b, r))
            drawn = every[chosen, np.arange(b)[:, None]].mean(1)
            return np.r_[every[:, 0].mean(), drawn[1:]]

        curve = np.stack([redrawn(each) for each in points.values()], axis=1)
        half = min(points, key=lambda n: abs(n - max(points) / 2))
        halved = worth.probit(self.aurocs(points[half])[:, 0])
        share = (arm.n_mpox - real.n_mpox) / arm.n_mpox
        chance = np.std(halved, ddof=1) * np.sqrt(share) if len(halved) > 1 else 0.0
        drawn = chance * self.rng.standard_normal(len(self.times) - 1)
        return worth.patients(list(points), curve, redrawn(real), redrawn(arm), drawn)

    def groups(self) -> dict[str, np.ndarray]:
        """`all`, and the test photos of each tone and label that are enough to judge by."""
        test = self.test
        found = {"all": np.ones(len(test), bool)}
        tones, names = np.array(test.tones), np.array(test.patients)
        for word in tone.BANDS:
            found[f"tone: {word}"] = tones == word
        for label in sorted(set(test.labels) - {MPOX}):
            found[f"label: {label}"] = arms.photos_of(test, label)

        def enough(chosen: np.ndarray) -> bool:
            kinds = (chosen & test.mpox, chosen & ~test.mpox)
            pictures = min(int(kind.sum()) for kind in kinds)
            return pictures >= FEWEST and min(len(set(names[kind])) for kind in kinds) >= (
                FEWEST_PATIENTS
            )

        return {name: chosen for name, chosen in found.items() if name == "all" or enough(chosen)}

    def by_group(self, arm: Arm) -> dict[str, dict[str, dict[str, Estimate]]]:
        """AUROC by tone and by label."""
        found: dict[str, dict[str, dict[str, Estimate]]] = {}
        for name, chosen in self.groups().items():
            if name != "all":
                kind, value = name.split(": ", 1)
                drawn = self.draws(arm, chosen)["auroc"]
                found.setdefault(kind, {})[value] = {"auroc": self.estimate(drawn)}
        return found

    def row(
        self,
        arm: Arm,
        name: str,
        version: str,
        group: str,
        chosen: np.ndarray,
        patients: int | None = None,
    ) -> dict[str, Any]:
        """One of the table's, COLUMNS; `patients` where the arm is a point of the curve."""
        row: dict[str, Any] = {
            "arm": name, "version": version, "group": group,
            "n_mpox": arm.n_mpox, "n_controls": arm.n_controls,
            "patients": "all" if patients is None else patients,
            "strength": float(np.exp(np.log(arm.strengths).mean())),
        }  # fmt: skip
        said = {k: self.estimate(drawn) for k, drawn in self.draws(arm, chosen).items()}
        return row | json.loads(json.dumps(estimate.flatten(said)))


def _repeated(values: np.ndarray) -> float:
    """The standard error of the mean of R repeats; of one, that nothing is drawn in, none."""
    return float(np.std(values, ddof=1) / np.sqrt(len(values))) if len(values) > 1 else 0.0
