"""Section "Utility": whether the synthetic pictures help a classifier, and what may fool it."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import matplotlib
from markupsafe import Markup

from mpox.report.figures import FAINT, SERIES, STYLE, figure, svg
from mpox.report.run import Run
from mpox.statistics import estimate
from mpox.statistics.estimate import Estimate

TITLES = {
    "real": "real photos alone",
    "real_encoded": "the same through the autoencoder",
    "augmented": "and as many augmented variants",
    "synthetic": "synthetic in the place of the real mpox photos",
    "placebo": "and pictures of the base without the LoRA",
}
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
    said: Mapping[str, Any]
    gain: Estimate | None  # of AUROC, over the better of the two real arms
    loss: bool  # whether it is below 0 over both

    def of(self, measure: str) -> Estimate:
        found = estimate.read(self.said, measure)
        assert found
        return found


def section(run: Run) -> dict[str, Any]:
    """The context of templates/utility.html."""
    found = run.utility
    if not found["ran"]:
        return {"ran": False}
    arms = found["arms"]
    main = arms[found["main"]]
    return {
        "ran": True,
        "of": found["identity"],
        "labels": sorted(arms["real"]["by"].get("label", {})),
        "verdict": verdict(found)[1],
        "rows": [
            Row(name, title(name), said, estimate.read(said, "gain"), _loses(said))
            for name, said in arms.items()
        ],
        "main": found["main"],
        "beside": {
            f"over {name}": over
            for name in ("augmented", "placebo")
            if (over := estimate.read(main, f"over_{name}"))
        },
        "detectable": main["detectable"],
        "worth": worth(found),
        "figure": draw(found),
        "guards": {
            said: (estimate.read(found["guards"], name), found["guards"][f"{name}_alarm"])
            for name, said in GUARDS.items()
        },
        "by": [
            (
                kind,
                group,
                estimate.read(own, "auroc"),
                estimate.read(main["by"][kind][group], "auroc"),
            )
            for kind, groups in arms["real"]["by"].items()
            for group, own in groups.items()
        ],
    }


def _loses(said: Mapping[str, Any]) -> bool:
    other = estimate.read(said, "gain_over_other")
    return other is not None and other.high < 0


def title(name: str) -> str:
    """What an arm is trained on, in words."""
    if name.startswith("both_"):
        return f"and {int(name.removeprefix('both_')) / 100:.2g} synthetic for each of mpox"
    return TITLES[name]


def verdict(found: Mapping[str, Any]) -> tuple[str, str]:
    """A state of words.STATES and one sentence, from the content of metrics/utility.json.

    Only what lies beyond its interval counts; a gain that the base's own pictures or augmentation
    give too is called so.
    """
    if not found["ran"]:
        return "unsure", (
            "Whether they help a classifier is not asked: no photos of other conditions are given "
            "(data.controls)."
        )
    main, of = found["arms"][found["main"]], found["identity"]
    gain = _estimate(main, "gain")
    said = f"AUROC {main['auroc']:.3f}, a gain of {_signed(gain)}"
    tested = f"{of['patients_test']} test patients"
    if _estimate(main, "gain_over_other").high < 0:
        return "off", f"They harm a classifier of mpox ({said})."
    if not main["detectable"]:
        return "unsure", (
            "Whether they help a classifier of mpox cannot be told: it makes no mistake on the "
            "test photos, or none that differs."
        )
    if found["guards"]["colour_alarm"] or found["guards"]["masked_alarm"]:
        return "unsure", (
            f"Nothing is said of a classifier of mpox ({said}): colour or surroundings alone tell "
            "the photos apart."
        )
    if not gain.low > 0:
        return "unsure", (
            f"Whether they help a classifier of mpox cannot be told ({said}): with {tested} only a "
            f"gain of {main['detectable']:.3f} or more would be found."
        )
    for other, what in (("placebo", "the base's own pictures"), ("augmented", "augmentation")):
        over = estimate.read(main, f"over_{other}")
        if over and not over.low > 0:
            return "unsure", (
                f"A classifier of mpox gains by them ({said}), but no more than {what} may give it "
                f"(beyond that {_signed(over)})."
            )
    return "fine", f"They help a classifier of mpox ({said})."


def worth(found: Mapping[str, Any]) -> str:
    """As how many more real patients, in words."""
    k, most = _estimate(found["worth"], "patients"), found["worth"]["most"]

    def shown(number: float) -> str:
        if abs(number) >= most:
            return f"{most} or more" if number > 0 else f"−{most} or less"
        return f"{number:.0f}".replace("-", "−")

    return f"{shown(k.value)} (interval {shown(k.low)} to {shown(k.high)})"


def draw(found: Mapping[str, Any]) -> Markup:
    """AUROC by number of training patients, beside that of the main arm."""
    with matplotlib.rc_context(STYLE):
        drawn = figure(7, 3.6)
        axes = drawn.subplots()
        last = 1.0
        for k, points in enumerate(found["curve"].values()):
            numbers = [float(number) for number in points]
            each = [_estimate(point, "auroc") for point in points.values()]
            values = [of.value for of in each]
            bars = [[of.value - of.low for of in each], [of.high - of.value for of in each]]
            axes.errorbar(
                [number * (1 + 0.02 * k) for number in numbers], values, bars, fmt="os"[k] + "-",
                color=SERIES[k], capsize=3, label=["real photos", "and augmented variants"][k],
            )  # fmt: skip
            last = numbers[-1]
        of = _estimate(found["arms"][found["main"]], "auroc")
        axes.errorbar(
            [last * 1.08], [of.value], [[of.value - of.low], [of.high - of.value]], fmt="D",
            color=SERIES[2], capsize=3, label="and synthetic pictures",
        )  # fmt: skip
        axes.set_xscale("log")
        ticks = [float(number) for number in found["curve"]["real"]]
        axes.set_xticks(ticks, [f"{tick:.0f}" for tick in ticks])
        axes.set_xticks([], minor=True)
        axes.set_xlabel("training patients with mpox (all controls beside them)")
        axes.set_ylabel("AUROC")
        axes.grid(color=FAINT, linewidth=0.5)
        axes.legend(frameon=False, loc="lower right")
        return svg(drawn, "AUROC of the classifier by number of training patients")


def _estimate(found: Mapping[str, Any], name: str) -> Estimate:
    read = estimate.read(found, name)
    assert read
    return read


def _signed(of: Estimate) -> str:
    return f"{of.value:+.3f}, interval {of.low:+.3f} to {of.high:+.3f}".replace("-", "−")
