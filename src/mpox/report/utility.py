"""Section "Utility": whether synthetic pictures help a classifier, and what could mislead it."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import matplotlib
from markupsafe import Markup

from mpox.report.figures import FAINT, SERIES, STYLE, figure, svg
from mpox.report.run import Run
from mpox.statistics.estimate import Estimate, Metrics

TITLES = {
    "real": "real photos alone",
    "real_encoded": "real photos, passed through the autoencoder",
    "augmented": "real photos and as many augmented variants",
    "synthetic": "synthetic pictures instead of the real mpox photos",
    "synthetic_first": "the same first, then real photos alone",
    "placebo": "real photos and pictures of the base model without the LoRA",
}
CLASSIFIERS = {
    "linear": "logistic regression",
    "small": "a network of four convolutions, trained from scratch",
    "resnet18": "a ResNet-18, pretrained on ImageNet",
}
LINEAR = "linear: "  # prefix of logistic regression's groups where networks were trained too
GUARDS = {
    "probe": "tells synthetic from real pictures",
    "probe_encoded": "the same, with real photos passed through the autoencoder",
    "colour": "identifies mpox by the mean colour alone",
    "masked": "identifies mpox with the middle of every picture masked",
}


class Row(NamedTuple):
    """One arm of the table."""

    name: str
    title: str
    measures: Mapping[str, Estimate]  # `gain`: of AUROC, over the better of the two real arms

    @property
    def loss(self) -> bool:
        """Whether the arm loses against both real arms."""
        return "gain" in self.measures and self.measures["gain_over_other"].high < 0


class Tried(NamedTuple):
    """One classifier, and what the judged arm's synthetic pictures do to it."""

    title: str
    real: Estimate  # AUROC of real photos alone
    judged: Mapping[str, Estimate]  # the measures of the judged arm
    verdict: str


def section(run: Run) -> dict[str, Any]:
    """The context of templates/utility.html."""
    if not run.utility.ran:
        return {"ran": False}
    trials = results(run.utility)
    first, main = trials[0], trials[0].identity["main"]
    return {
        "ran": True,
        "counts": first.identity,
        "tried": [
            Tried(
                classifier(trial),
                trial["auroc", "real"],
                trial.estimates[trial.identity["main"]],
                verdict(trial)[1],
            )
            for trial in trials
        ],
        "labels": sorted(first.within("real, label: ")),
        "verdict": verdict(first)[1],
        "rows": [
            Row(name, title(name), measures)
            for name, measures in first.estimates.items()
            if "n_mpox" in measures
        ],
        "main": main,
        "beside": {
            words: over
            for name, words in (
                ("augmented", "augmentation"),
                ("placebo", "the base model's pictures"),
            )
            if (over := first.get(f"over_{name}", main))
        },
        "detectable": first["detectable", main].value,
        "worth": worth(trials[-1]),
        "figure": draw(trials[-1]),
        "guards": {words: first.estimates[f"guard: {name}"] for name, words in GUARDS.items()},
        "by": [
            (kind, group, real["auroc"], first["auroc", f"{main}, {kind}: {group}"])
            for kind in ("tone", "label")
            for group, real in first.within(f"real, {kind}: ").items()
        ],
    }


def results(trial: Metrics) -> list[Metrics]:
    """The results by classifier: networks first, where any were trained, then the regression."""
    linear = trial.within(LINEAR)
    if not linear:
        return [trial]
    networks = {
        name: group for name, group in trial.estimates.items() if not name.startswith(LINEAR)
    }
    identity = {name: value for name, value in trial.identity.items() if name != "network"}
    identity["main"] = identity["linear_main"]
    return [
        replace(trial, estimates=networks),
        replace(trial, estimates=linear, identity=identity),
    ]


def classifier(trial: Metrics) -> str:
    """The classifier, in words."""
    return CLASSIFIERS[trial.identity.get("network", "linear")]


def title(name: str) -> str:
    """What an arm is trained on, in words."""
    if name.startswith("share_"):
        share = name.removeprefix("share_")
        return f"real photos and synthetic pictures, which have {share} % of the weight of mpox"
    if name.startswith("both_"):
        ratio = int(name.removeprefix("both_")) / 100
        return f"real photos and {ratio:.2g} synthetic pictures per mpox photo"
    return TITLES[name]


def verdict(trial: Metrics) -> tuple[str, str]:
    """A state of words.STATES and one sentence, from metrics/utility.json.

    Only a gain beyond its interval counts. A gain that may come from augmentation or from the
    base's own pictures is not credited to the LoRA.
    """
    if not trial.ran:
        return "unsure", (
            "Whether the synthetic pictures help a classifier was not tested, because "
            "data.controls names no photos of other conditions."
        )
    main = trial.identity["main"]
    gain, detectable = trial["gain", main], trial["detectable", main].value
    numbers = f"AUROC {trial['auroc', main].value:.3f}, gain {_signed(gain)}"
    one = "a network" if "network" in trial.identity else "a classifier"
    unclear = f"Whether the synthetic pictures help {one} recognise mpox is unclear"
    if trial["gain_over_other", main].high < 0:
        return "off", f"With the synthetic pictures, {one} recognises mpox less well ({numbers})."
    if not detectable:
        return "unsure", (
            f"{unclear}: with and without them, {one} makes the same mistakes on the test photos, "
            "or none."
        )
    if any(trial["alarm", f"guard: {name}"].value for name in ("colour", "masked")):
        return "unsure", (
            f"{unclear} ({numbers}): colour or surroundings alone identify mpox nearly as well as "
            "the whole picture."
        )
    if gain.high < 0:
        return "unsure", (
            f"{unclear} ({numbers}): the judged arm loses against the better of the two arms of "
            "real photos, but not against both."
        )
    if not gain.low > 0:
        return "unsure", (
            f"{unclear} ({numbers}). With {trial.identity['patients_test']} test patients, the "
            f"trial had 80 % power to find a gain of {detectable:.3f}."
        )
    sources = {"placebo": "the base model's own pictures", "augmented": "augmentation"}
    for other, source in sources.items():
        over = trial.get(f"over_{other}", main)
        if over and not over.low > 0:
            return "unsure", (
                f"With the synthetic pictures, {one} recognises mpox better ({numbers}), but "
                f"{source} may give as much (difference {_signed(over)})."
            )
    return "fine", f"The synthetic pictures help {one} recognise mpox ({numbers})."


def worth(trial: Metrics) -> str:
    """The equivalent number of additional real patients, in words."""
    patients, most = trial["worth"], trial["worth_most"].value

    def shown(number: float) -> str:
        if abs(number) >= most:
            return f"{most} or more" if number > 0 else f"−{most} or less"
        return f"{number:.0f}".replace("-", "−")

    return f"{shown(patients.value)} (interval {shown(patients.low)} to {shown(patients.high)})"


def draw(trial: Metrics) -> Markup:
    """AUROC by number of training patients, with that of the judged arm."""
    with matplotlib.rc_context(STYLE):
        drawn = figure(7, 3.6)
        axes = drawn.subplots()
        last = 1.0
        curves = [trial.within(f"{kind}, patients: ") for kind in ("real", "augmented")]
        for k, points in enumerate(filter(None, curves)):
            numbers = [float(number) for number in points]
            areas = [point["auroc"] for point in points.values()]
            bars = [[a.value - a.low for a in areas], [a.high - a.value for a in areas]]
            axes.errorbar(
                [number * (1 + 0.02 * k) for number in numbers], [a.value for a in areas], bars,
                fmt="os"[k] + "-", color=SERIES[k], capsize=3,
                label=["real photos", "with augmented variants"][k],
            )  # fmt: skip
            last = numbers[-1]
        area = trial["auroc", trial.identity["main"]]
        axes.errorbar(
            [last * 1.08], [area.value], [[area.value - area.low], [area.high - area.value]],
            fmt="D", color=SERIES[2], capsize=3, label="with synthetic pictures",
        )  # fmt: skip
        axes.set_xscale("log")
        ticks = [float(number) for number in curves[0]]
        axes.set_xticks(ticks, [f"{tick:.0f}" for tick in ticks])
        axes.set_xticks([], minor=True)
        axes.set_xlabel("training patients with mpox (all controls are used throughout)")
        axes.set_ylabel("AUROC")
        axes.grid(color=FAINT, linewidth=0.5)
        axes.legend(frameon=False, loc="lower right")
        return svg(drawn, "AUROC of the classifier by number of training patients")


def _signed(estimate: Estimate) -> str:
    value, low, high = estimate.value, estimate.low, estimate.high
    return f"{value:+.3f}, interval {low:+.3f} to {high:+.3f}".replace("-", "−")
