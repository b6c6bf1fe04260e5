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
from mpox.params import Evaluate, Utility
from mpox.pictures import features
from mpox.statistics import roc
from mpox.statistics.estimate import ALL, Estimate, Metrics
from mpox.utility import arms, classifier, end_to_end, guards
from mpox.utility.arms import Arm, Trainer
from mpox.utility.collection import Folders, collect
from mpox.utility.end_to_end import Networks
from mpox.utility.judge import Judge
from mpox.utility.photos import Sets

Versions = Mapping[str, Mapping[str, Arm]]  # plain, encoded → name → arm


class Settings(NamedTuple):
    """What a trial reads of params.yaml."""

    evaluate: Evaluate
    utility: Utility
    duplicate_distance: int  # bits of the perceptual hash
    resolution: int
    seed: int


class Result(NamedTuple):
    metrics: Metrics
    rows: list[dict[str, Any]]  # of a table of every arm, judge.COLUMNS


class Tried(NamedTuple):
    """One classifier's arms."""

    classifier: str  # as in params.yaml
    arms: Versions
    main: str  # the arm that is judged
    curves: Mapping[str, Mapping[int, Arm]]  # by training patients; none of networks


def run(folders: Folders, model: Path, settings: Settings, work: Path | None) -> Result:
    """The whole trial; nothing without a control.

    `work` is where networks are kept, if there are to be any. InputError for test photos that the
    generator saw, and for sets without patients enough.
    """
    if not listing.find(folders.controls / "train")[0]:
        return Result(Metrics(), [])
    plan = end_to_end.plan(settings.utility.weights) if work else None
    guards.check_leaks(
        [folders.prepared / "test", folders.controls / "test"],
        [folders.prepared / part for part in ("train", "val")],
        [folders.synthetic],
        settings.duplicate_distance,
    )
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    extractor = features.load(settings.evaluate.features, settings.evaluate.weights, device)
    vae = base.load(model, settings.resolution).vae.to(device)
    sets = collect(folders, extractor, vae, settings.resolution)
    networks = Networks(sets, plan, settings.seed, work, device) if plan and work else None
    found = measure(sets, settings.seed, networks)
    identity = {
        "features": extractor.name,
        "features_sha256": extractor.sha256[:8],
        "preprocessing": f"square {settings.resolution}, JPEG 95, network {extractor.size}",
        **found.metrics.identity,
    }
    return found._replace(metrics=replace(found.metrics, identity=identity))


def measure(sets: Sets, seed: int, networks: Networks | None = None) -> Result:
    """All arms, their differences, the learning curve and the guards.

    With `networks` the arms are theirs; those of logistic regression have "linear: " before their
    groups, as the learning curve has, because there is none of networks.
    """

    def rng(purpose: str) -> np.random.Generator:
        return np.random.default_rng(derive(seed, "utility", purpose))

    judge, linear = Judge(sets.test, rng("bootstrap")), _linear(sets, rng)
    guarded = _guards(sets, judge, rng)
    tried, estimates = linear, _estimates(linear, judge, guarded)
    identity, rows = _identity(sets) | {"main": linear.main}, _rows(linear, judge)
    if networks:
        tried = Tried("cnn", networks.train(), end_to_end.MAIN, {})
        beside = {f"linear: {group}": measures for group, measures in estimates.items()}
        estimates = _estimates(tried, judge, guarded) | beside
        identity |= {"main": tried.main, "linear_main": linear.main}
        identity |= {"classifier": "cnn", "network": networks.plan.name}
        rows = _rows(tried, judge) + rows
    headlines = {f"utility_{name}": estimates[tried.main][name].value for name in ("auroc", "gain")}
    return Result(Metrics(estimates, identity, headlines=headlines), rows)


def _linear(sets: Sets, rng: Callable[[str], np.random.Generator]) -> Tried:
    trainer = Trainer(sets)
    found = {
        name: arms.train(trainer, version, sets, rng("arms"))
        for name, version in (("plain", sets.plain), ("encoded", sets.encoded))
    }
    curves = arms.curve(trainer, sets.plain, rng("curve"))
    main = arms.name(arms.main(arms.ratios(int(sets.plain.train.mpox.sum()), len(sets.synthetic))))
    return Tried("linear", found, main, curves)


def _estimates(
    tried: Tried, judge: Judge, guarded: Mapping[str, Estimate]
) -> dict[str, dict[str, Estimate]]:
    """By group: arms, points of the learning curve, guards with their alarms."""
    real, curves = tried.arms["plain"]["real"], tried.curves
    of = {name: _better(tried.arms, name) for name in tried.arms["plain"]}
    estimates: dict[str, dict[str, Estimate]] = {}
    if curves:
        worth = judge.worth(curves["real"], real, tried.arms["plain"][tried.main])
        estimates[ALL] = {"worth": worth, "worth_most": Estimate(max(curves["real"]))}
    estimates |= _arms(tried.arms, of, tried.main, judge)
    for kind, points in curves.items():
        for number, arm in points.items():
            estimates[f"{kind}, patients: {number}"] = {"auroc": judge.auroc(arm)}
    alarms = guards.alarms(guarded, judge.value(real))
    for name, auroc in guarded.items():
        estimates[f"guard: {name}"] = {"auroc": auroc, "alarm": Estimate(int(alarms[name]))}
    return estimates


def _rows(tried: Tried, judge: Judge) -> list[dict[str, Any]]:
    rows = [
        row
        for version, each in tried.arms.items()
        for name, arm in each.items()
        for group, chosen in judge.groups().items()
        for row in judge.rows(arm, name, version, group, chosen)
    ]
    whole = np.ones(len(judge.test), bool)
    for kind, points in tried.curves.items():
        for number, arm in points.items():
            rows += judge.rows(arm, kind, "plain", ALL, whole, number)
    return [{"classifier": tried.classifier, **row} for row in rows]


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
        draws = roc.auroc(fitted.score(unit(asked)), test.mpox, judge.times)
        return guards.interval(draws, test.patients)

    return {
        **probes,
        "colour": told(train.colours, sets.val.colours, test.colours),
        "masked": told(*(each.rows for each in sets.masked)),
    }
