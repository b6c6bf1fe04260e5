"""Does it help? A classifier with and without the synthetic photos, on photos nobody trained on.

docs/utility.md explains each number.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from mpox.core import listing
from mpox.core.seeds import derive
from mpox.model import base
from mpox.params import Evaluate
from mpox.pictures import features
from mpox.statistics.estimate import ALL, Estimate, Metrics
from mpox.utility import arms, classifier, guards, scores
from mpox.utility.arms import Arm, Trainer
from mpox.utility.collection import Folders, collect
from mpox.utility.judge import Judge
from mpox.utility.photos import Sets

Versions = Mapping[str, Mapping[str, Arm]]  # plain, encoded → name → arm


class Result(NamedTuple):
    metrics: Metrics
    rows: list[dict[str, Any]]  # of a table of every arm, judge.COLUMNS


def run(
    folders: Folders, model: Path, settings: Evaluate, distance: int, resolution: int, seed: int
) -> Result:
    """The whole trial; nothing without a control.

    InputError for test photos that the generator saw (within `distance` bits of the perceptual
    hash), and for sets without patients enough.
    """
    if not listing.find(folders.controls / "train")[0]:
        return Result(Metrics(), [])
    guards.check_leaks(
        [folders.prepared / "test", folders.controls / "test"],
        [folders.prepared / part for part in ("train", "val")],
        [folders.synthetic],
        distance,
    )
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    extractor = features.load(settings.features, settings.weights, device)
    vae = base.load(model, resolution).vae.to(device)
    found = measure(collect(folders, extractor, vae, resolution), seed)
    identity = {
        "features": extractor.name,
        "features_sha256": extractor.sha256[:8],
        "preprocessing": f"square {resolution}, JPEG 95, network {extractor.size}",
        **found.metrics.identity,
    }
    return found._replace(metrics=replace(found.metrics, identity=identity))


def measure(sets: Sets, seed: int) -> Result:
    """All arms, their differences, the learning curve and the guards."""

    def rng(purpose: str) -> np.random.Generator:
        return np.random.default_rng(derive(seed, "utility", purpose))

    judge, trainer = Judge(sets.test, rng("bootstrap")), Trainer(sets)
    found = {
        name: arms.train(trainer, version, sets, rng("arms"))
        for name, version in (("plain", sets.plain), ("encoded", sets.encoded))
    }
    curves = arms.curve(trainer, sets.plain, rng("curve"))
    main = arms.name(arms.main(arms.ratios(int(sets.plain.train.mpox.sum()), len(sets.synthetic))))
    of = {name: _better(found, name) for name in found["plain"]}
    worth = judge.worth(curves["real"], found["plain"]["real"], found["plain"][main])
    estimates = {ALL: {"worth": worth, "worth_most": Estimate(max(curves["real"]))}}
    estimates |= _arms(found, of, main, judge)
    rows = [
        row
        for version, each in found.items()
        for name, arm in each.items()
        for group, chosen in judge.groups().items()
        for row in judge.rows(arm, name, version, group, chosen)
    ]
    whole = np.ones(len(sets.test), bool)
    for kind, points in curves.items():
        for number, arm in points.items():
            estimates[f"{kind}, patients: {number}"] = {"auroc": judge.auroc(arm)}
            rows += judge.rows(arm, kind, "plain", ALL, whole, number)
    guarded = _guards(sets, judge, rng)
    alarms = guards.alarms(guarded, judge.value(found["plain"]["real"]))
    for name, auroc in guarded.items():
        estimates[f"guard: {name}"] = {"auroc": auroc, "alarm": Estimate(int(alarms[name]))}
    headlines = {f"utility_{name}": estimates[main][name].value for name in ("auroc", "gain")}
    metrics = Metrics(estimates, _identity(sets) | {"main": main}, headlines=headlines)
    return Result(metrics, rows)


def _identity(sets: Sets) -> dict[str, Any]:
    train, test = sets.plain.train, sets.test
    return {
        "n_train": int(train.mpox.sum()),
        "n_train_controls": int((~train.mpox).sum()),
        "n_val": len(sets.val),
        "n_test": int(test.mpox.sum()),
        "n_test_controls": int((~test.mpox).sum()),
        "patients_train": len(set(train.patients)),
        "patients_test": len(set(test.patients)),
        "n_synthetic": len(sets.synthetic),
        "n_base": len(sets.placebo),
    }


def _better(found: Versions, name: str) -> str:
    """The version of the training photos with which an arm does better on val."""
    return min(found, key=lambda version: found[version][name].val_loss)


def _arms(
    found: Versions, of: Mapping[str, str], main: str, judge: Judge
) -> dict[str, dict[str, Estimate]]:
    """Both real arms, every other in its better version, and what these gain over the real ones.

    Each by its name, and by group as "<arm>, <group>".
    """
    real = {"real": found["plain"]["real"], "real_encoded": found["encoded"]["real"]}
    chosen = real | {name: found[v][name] for name, v in of.items() if name != "real"}
    versions = {**of, "real": "plain", "real_encoded": "encoded"}
    said: dict[str, dict[str, Estimate]] = {}
    for name, arm in chosen.items():
        counts = {
            "encoded": int(versions[name] == "encoded"),
            "n_mpox": arm.n_mpox,
            "n_controls": arm.n_controls,
        }
        said[name] = {k: Estimate(v) for k, v in counts.items()} | judge.measures(arm)
        if name not in real:
            said[name] |= judge.gain(arm, list(real.values()))
        said |= {f"{name}, {group}": each for group, each in judge.by_group(arm).items()}
    for other in ("augmented", "placebo"):
        if other in chosen:
            said[main][f"over_{other}"] = judge.difference(chosen[main], chosen[other])[0]
    return said


def _guards(
    sets: Sets, judge: Judge, rng: Callable[[str], np.random.Generator]
) -> dict[str, Estimate]:
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
