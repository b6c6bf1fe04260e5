"""Does it help? A classifier with and without synthetic pictures, on photos of other patients.

docs/utility-and-privacy.md explains each number.
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from mpox.core.seeds import derive
from mpox.model import base
from mpox.params import Data, Evaluate, Model, Utility
from mpox.pictures import features
from mpox.statistics.estimate import ALL, Estimate, Metrics
from mpox.utility import arms, arms_csv, end_to_end, leaks, network, scoring, shortcuts, worth
from mpox.utility.arms import Arm, Trained, Trainer
from mpox.utility.end_to_end import Networks
from mpox.utility.loading import load
from mpox.utility.photos import Pictures, Sets
from mpox.utility.scoring import Scorer

Estimates = dict[str, dict[str, Estimate]]  # by group and name


class Result(NamedTuple):
    metrics: Metrics
    rows: list[dict[str, Any]]  # of arms_csv


class Settings(NamedTuple):
    """The parameters of a trial."""

    seed: int
    side: int  # pixels
    model: Model
    data: Data
    evaluate: Evaluate
    utility: Utility


def run(pictures: Pictures, settings: Settings, work: Path | None) -> Result:
    """The whole trial; an empty result without controls.

    `work` is the folder where trained networks are kept; None for logistic regression only. Raises
    InputError for test photos that the generator saw, and for too few patients.
    """
    if not len(pictures.controls["train"]):
        return Result(Metrics(), [])
    side, mpox = settings.side, pictures.mpox
    recipe = network.recipe(settings.utility.weights) if work else None
    leaks.check_leaks(
        [mpox["test"], pictures.controls["test"]],
        [mpox["train"], mpox["val"]],
        [pictures.synthetic],
        settings.data.duplicate_distance,
    )
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    extractor = features.load(settings.evaluate.features, settings.evaluate.weights, device)
    vae = base.load(Path(settings.model.path), side).vae.to(device)
    sets = load(pictures, extractor, vae, side)
    networks = Networks(sets, recipe, settings.seed, work, device) if recipe and work else None
    metrics, rows = compare_arms(sets, settings.seed, networks)
    identity = {
        "features": extractor.name,
        "features_sha256": extractor.sha256[:8],
        "preprocessing": f"square {side}, JPEG 95, network {extractor.size}",
        **metrics.identity,
    }
    return Result(replace(metrics, identity=identity), rows)


class Judge:
    """What the arms of all classifiers are judged by: the same draws, groups and shortcuts."""

    def __init__(self, sets: Sets, seed: int):
        self.rng = _rng(seed, "bootstrap")
        self.scorer = Scorer(sets.test.mpox, sets.test.patients, self.rng)
        self.groups = scoring.groups(sets.test)
        self.shortcuts = shortcuts.measure_shortcuts(sets, self.scorer.times, partial(_rng, seed))

    def estimates(self, trained: Trained) -> Estimates:
        """Of the arms, of points of the learning curve, and of shortcuts with their alarms."""
        plain, estimates = trained.versions["plain"], Estimates()
        if trained.curves:
            estimates[ALL] = self._worth(trained)
        estimates |= self._arms(trained)
        for name, points in trained.curves.items():
            for number, arm in points.items():
                auroc = self.scorer.auroc(arm).estimate()
                estimates[f"{name}, patients: {number}"] = {"auroc": auroc}
        alarms = shortcuts.alarms(self.shortcuts, self.scorer.auroc(plain["real"]).value)
        for name, auroc in self.shortcuts.items():
            estimates[f"guard: {name}"] = {"auroc": auroc, "alarm": Estimate(int(alarms[name]))}
        return estimates

    def _worth(self, trained: Trained) -> dict[str, Estimate]:
        real, arm = (trained.versions["plain"][name] for name in ("real", trained.main))
        points = {n: self.scorer.auroc(each) for n, each in trained.curves["real"].items()}
        added = (arm.n_mpox - real.n_mpox) / arm.n_mpox
        aurocs = (self.scorer.auroc(real), self.scorer.auroc(arm))
        return {
            "worth": worth.estimate(points, *aurocs, added, self.rng),
            "worth_most": Estimate(max(points)),
        }

    def _arms(self, trained: Trained) -> Estimates:
        """Both real arms, every other in its better version, and its gain over the real ones.

        An arm by its name, and its groups as "<arm>, <group>".
        """
        versions, main = trained.versions, trained.main
        best = {name: _better_version(versions, name) for name in versions["plain"]}
        chosen = {"real": ("real", "plain"), "real_encoded": ("real", "encoded")}
        chosen |= {name: (name, version) for name, version in best.items() if name != "real"}
        arms = {key: versions[version][name] for key, (name, version) in chosen.items()}
        aurocs = {name: self.scorer.auroc(arm) for name, arm in arms.items()}
        estimates = Estimates()
        for name, arm in arms.items():
            encoded = int(chosen[name][1] == "encoded")
            counts = {"encoded": encoded, "n_mpox": arm.n_mpox, "n_controls": arm.n_controls}
            estimates[name] = {key: Estimate(count) for key, count in counts.items()}
            for measure, values in self.scorer.measures(arm).items():
                estimates[name][measure] = values.estimate()
            if name not in ("real", "real_encoded"):
                baselines = [aurocs["real"], aurocs["real_encoded"]]
                estimates[name] |= scoring.gain(aurocs[name], baselines)
            for group, mask in self.groups.items():
                if group != ALL:
                    auroc = self.scorer.auroc(arm, mask).estimate()
                    estimates[f"{name}, {group}"] = {"auroc": auroc}
        for other in ("augmented", "placebo"):
            if other in aurocs:
                estimates[main][f"over_{other}"] = aurocs[main].minus(aurocs[other])
        return estimates


def compare_arms(sets: Sets, seed: int, networks: Networks | None = None) -> Result:
    """All arms, their differences, the learning curve and the shortcuts.

    With `networks` the result is that of networks, and the groups of logistic regression, which
    alone has a learning curve, begin with "linear: ".
    """
    judge, linear = Judge(sets, seed), _train_linear(sets, seed)
    main, estimates, trials = linear.main, judge.estimates(linear), [linear]
    identity = _identity(sets) | {"main": main}
    if networks:
        trained = Trained("cnn", networks.train(), end_to_end.MAIN, {})
        main, beside = trained.main, {f"linear: {name}": each for name, each in estimates.items()}
        estimates, trials = judge.estimates(trained) | beside, [trained, linear]
        identity |= {"main": main, "linear_main": linear.main}
        identity |= {"classifier": "cnn", "network": networks.recipe.name}
    headlines = {f"utility_{name}": estimates[main][name].value for name in ("auroc", "gain")}
    rows = [row for each in trials for row in arms_csv.rows(each, judge.scorer, judge.groups)]
    return Result(Metrics(estimates, identity, headlines=headlines), rows)


def _train_linear(sets: Sets, seed: int) -> Trained:
    trainer = Trainer(sets)
    versions = {
        name: arms.train(trainer, version, sets, _rng(seed, "arms"))
        for name, version in (("plain", sets.plain), ("encoded", sets.encoded))
    }
    curves = arms.train_curves(trainer, sets.plain, _rng(seed, "curve"))
    reached = arms.ratios(int(sets.plain.train.mpox.sum()), len(sets.synthetic))
    return Trained("linear", versions, arms.name(arms.main_ratio(reached)), curves)


def _rng(seed: int, purpose: str) -> np.random.Generator:
    return np.random.default_rng(derive(seed, "utility", purpose))


def _better_version(versions: Mapping[str, Mapping[str, Arm]], name: str) -> str:
    """The version of the training photos with which an arm does better on val."""
    return min(versions, key=lambda version: versions[version][name].val_loss)


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
