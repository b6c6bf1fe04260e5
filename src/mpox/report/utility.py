"""Section "Utility": whether the synthetic pictures help a classifier, and what may fool it."""

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
    "real_encoded": "the same through the autoencoder",
    "augmented": "and as many augmented variants",
    "synthetic": "synthetic in the place of the real mpox photos",
    "synthetic_first": "the same first, then real photos alone",
    "placebo": "and pictures of the base without the LoRA",
}
CLASSIFIERS = {
    "linear": "logistic regression",
    "small": "a network of four convolutions, trained from scratch",
    "resnet18": "a ResNet-18, trained on from ImageNet's weights",
}
LINEAR = "linear: "  # before the groups of logistic regression where networks were trained too
GUARDS = {
    "probe": "tells synthetic from real pictures",
    "probe_encoded": "the same, real ones through the autoencoder too",
    "colour": "tells mpox by the mean colour alone",
    "masked": "tells mpox with the middle of every picture masked",
}


class Row(NamedTuple):
    """One arm of the table."""

    name: str
    title: str
    measures: Mapping[str, Estimate]  # `gain`: of AUROC, over the better of the two real arms

    @property
    def loss(self) -> bool:
        """Whether the gain is below 0 over both."""
        return "gain" in self.measures and self.measures["gain_over_other"].high < 0


class Tried(NamedTuple):
    """One classifier, and what the synthetic pictures that are judged do to it."""

    title: str
    real: Estimate  # AUROC of real photos alone
    judged: Mapping[str, Estimate]  # the measures of the arm that is judged
    verdict: str


def section(run: Run) -> dict[str, Any]:
    """The context of templates/utility.html."""
    if not run.utility.ran:
        return {"ran": False}
    every = results(run.utility)
    found, main = every[0], every[0].identity["main"]
    return {
        "ran": True,
        "of": found.identity,
        "tried": [
            Tried(
                classifier(each),
                each["auroc", "real"],
                each.estimates[each.identity["main"]],
                verdict(each)[1],
            )
            for each in every
        ],
        "labels": sorted(found.within("real, label: ")),
        "verdict": verdict(found)[1],
        "rows": [
            Row(name, title(name), measures)
            for name, measures in found.estimates.items()
            if "n_mpox" in measures
        ],
        "main": main,
        "beside": {
            f"over {name}": over
            for name in ("augmented", "placebo")
            if (over := found.get(f"over_{name}", main))
        },
        "detectable": found["detectable", main].value,
        "worth": worth(every[-1]),
        "figure": draw(every[-1]),
        "guards": {said: found.estimates[f"guard: {name}"] for name, said in GUARDS.items()},
        "by": [
            (kind, group, real["auroc"], found["auroc", f"{main}, {kind}: {group}"])
            for kind in ("tone", "label")
            for group, real in found.within(f"real, {kind}: ").items()
        ],
    }


def results(found: Metrics) -> list[Metrics]:
    """By classifier: what networks gave, where any were trained, and logistic regression."""
    linear = found.within(LINEAR)
    if not linear:
        return [found]
    own = {name: of for name, of in found.estimates.items() if not name.startswith(LINEAR)}
    identity = {name: of for name, of in found.identity.items() if name != "network"}
    identity["main"] = identity["linear_main"]
    return [replace(found, estimates=own), replace(found, estimates=linear, identity=identity)]


def classifier(found: Metrics) -> str:
    """What is trained, in words."""
    return CLASSIFIERS[found.identity.get("network", "linear")]


def title(name: str) -> str:
    """What an arm is trained on, in words."""
    if name.startswith("share_"):
        return f"and synthetic pictures, {name.removeprefix('share_')} % of the weight of mpox"
    if name.startswith("both_"):
        return f"and {int(name.removeprefix('both_')) / 100:.2g} synthetic for each of mpox"
    return TITLES[name]


def verdict(found: Metrics) -> tuple[str, str]:
    """A state of words.STATES and one sentence, from metrics/utility.json.

    Only what lies beyond its interval counts; a gain that the base's own pictures or augmentation
    give too is called so.
    """
    if not found.ran:
        return "unsure", (
            "Whether they help a classifier is not asked: no photos of other conditions are given "
            "(data.controls)."
        )
    main = found.identity["main"]
    gain, detectable = found["gain", main], found["detectable", main].value
    said = f"AUROC {found['auroc', main].value:.3f}, a gain of {_signed(gain)}"
    tested = f"{found.identity['patients_test']} test patients"
    one = (
        "a network trained to tell mpox" if "network" in found.identity else "a classifier of mpox"
    )
    if found["gain_over_other", main].high < 0:
        return "off", f"They harm {one} ({said})."
    if not detectable:
        return "unsure", (
            f"Whether they help {one} cannot be told: it makes no mistake on the test photos, or "
            "none that differs."
        )
    if any(found["alarm", f"guard: {name}"].value for name in ("colour", "masked")):
        return "unsure", (
            f"Nothing is said of {one} ({said}): colour or surroundings alone tell the photos "
            "apart."
        )
    if not gain.low > 0:
        return "unsure", (
            f"Whether they help {one} cannot be told ({said}): with {tested} only a "
            f"gain of {detectable:.3f} or more would be found."
        )
    for other, what in (("placebo", "the base's own pictures"), ("augmented", "augmentation")):
        over = found.get(f"over_{other}", main)
        if over and not over.low > 0:
            return "unsure", (
                f"{one.capitalize()} gains by them ({said}), but no more than {what} may give it "
                f"(beyond that {_signed(over)})."
            )
    return "fine", f"They help {one} ({said})."


def worth(found: Metrics) -> str:
    """As how many more real patients, in words."""
    k, most = found["worth"], found["worth_most"].value

    def shown(number: float) -> str:
        if abs(number) >= most:
            return f"{most} or more" if number > 0 else f"−{most} or less"
        return f"{number:.0f}".replace("-", "−")

    return f"{shown(k.value)} (interval {shown(k.low)} to {shown(k.high)})"


def draw(found: Metrics) -> Markup:
    """AUROC by number of training patients, beside that of the main arm."""
    with matplotlib.rc_context(STYLE):
        drawn = figure(7, 3.6)
        axes = drawn.subplots()
        last = 1.0
        curves = [found.within(f"{kind}, patients: ") for kind in ("real", "augmented")]
        for k, points in enumerate(filter(None, curves)):
            numbers = [float(number) for number in points]
            each = [point["auroc"] for point in points.values()]
            values = [of.value for of in each]
            bars = [[of.value - of.low for of in each], [of.high - of.value for of in each]]
            axes.errorbar(
                [number * (1 + 0.02 * k) for number in numbers], values, bars, fmt="os"[k] + "-",
                color=SERIES[k], capsize=3, label=["real photos", "and augmented variants"][k],
            )  # fmt: skip
            last = numbers[-1]
        of = found["auroc", found.identity["main"]]
        axes.errorbar(
            [last * 1.08], [of.value], [[of.value - of.low], [of.high - of.value]], fmt="D",
            color=SERIES[2], capsize=3, label="and synthetic pictures",
        )  # fmt: skip
        axes.set_xscale("log")
        ticks = [float(number) for number in curves[0]]
        axes.set_xticks(ticks, [f"{tick:.0f}" for tick in ticks])
        axes.set_xticks([], minor=True)
        axes.set_xlabel("training patients with mpox (all controls beside them)")
        axes.set_ylabel("AUROC")
        axes.grid(color=FAINT, linewidth=0.5)
        axes.legend(frameon=False, loc="lower right")
        return svg(drawn, "AUROC of the classifier by number of training patients")


def _signed(of: Estimate) -> str:
    return f"{of.value:+.3f}, interval {of.low:+.3f} to {of.high:+.3f}".replace("-", "−")
