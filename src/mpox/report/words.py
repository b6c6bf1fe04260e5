"""Section "In words": what the numbers allow to say, by the rules that docs/metrics.md has.

No sentence says more than an interval allows: what lies within chance "cannot be told" from real
photos, which is not "is like" them, and where even a poor set could pass, that is said.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

from mpox.report import privacy, utility
from mpox.report.measures import MEASURES
from mpox.report.run import Run
from mpox.statistics.estimate import Estimate, Metrics, Z

ALPHA = 0.05  # of tests
BLIND = 0.5  # of the null: a share whose chance is as large misses that half of it is gone
STATES = {"fine": "✓", "off": "✗", "unsure": "?", "fact": "·"}


@dataclass(frozen=True)
class Sentence:
    """One sentence, what kind it is, and the measure at which its numbers stand on the page."""

    rule: str
    state: str  # of STATES: nothing found | a fault | too few pictures to tell | only a fact
    text: str
    measure: str

    @property
    def sign(self) -> str:
        return STATES[self.state]


def section(run: Run) -> dict[str, Any]:
    """The context of templates/words.html."""
    state, text = utility.verdict(run.utility)
    helps = Sentence("helps", state, text, "utility")
    remembers = Sentence("remembers", *privacy.verdict(run.privacy), "auc")
    return {"sentences": [*sentences(run.evaluation, run.preparation), remembers, helps]}


def sentences(evaluation: Metrics, preparation: Mapping[str, float]) -> list[Sentence]:
    """What metrics/evaluation.json and metrics/prepare.json say, in the reader's order."""
    found = {name: estimate for name in MEASURES if (estimate := evaluation.get(name))}
    numbers = Numbers(evaluation, preparation, found)
    return [sentence for rule in RULES if (sentence := rule(numbers))]


@dataclass(frozen=True)
class Numbers:
    """What the rules look at."""

    evaluation: Metrics
    preparation: Mapping[str, float]
    found: Mapping[str, Estimate]

    @property
    def identity(self) -> Mapping[str, Any]:
        return self.evaluation.identity

    def worse(self, *names: str) -> list[str]:
        """Those of the measures that are beyond chance, on the worse side."""
        return [n for n in names if n in self.found and self.found[n].off * MEASURES[n].worse > 1]

    @property
    def blind(self) -> list[str]:
        """The shares by which a set that lacks half of what it should have could pass."""
        shares = {n: self.found[n] for n in ("precision", "recall", "coverage")}
        return [
            n for n, e in shares.items() if max(e.high - e.value, e.value - e.low) >= BLIND * e.null
        ]


def _amount(n: Numbers) -> Sentence:
    of = n.identity
    text = (
        f"{of['n_synthetic']} synthetic pictures are held against {of['n_test']} real test photos"
    )
    if of["patients"] == "unknown":
        text += (
            ". Whose photos these are is not known: photos of one patient may be both in training "
            "and in test, so that everything below may look better than it is."
        )
        return Sentence("amount", "unsure", text, "identity")
    text += f" of {n.preparation['groups_test']} patients"
    if of["n_training"]:
        patients = n.preparation["groups_train"]
        text += f"; the LoRA was trained on {of['n_training']} photos of {patients} other patients"
    return Sentence("amount", "fact", f"{text}.", "identity")


def _enough(n: Numbers) -> Sentence | None:
    if not n.blind:
        return None
    name = n.blind[0]
    text = (
        f"There are too few pictures to tell: by {' and '.join(n.blind)} a set that lacks half of "
        f"what real photos have could pass for real ({_share(n.found[name])}). What is not found "
        "below may be there all the same."
    )
    return Sentence("enough", "unsure", text, name)


def _told_apart(n: Numbers) -> Sentence:
    excess, p = n.found["fid_excess"], n.evaluation["kid_p"].value
    numbers = f"Fréchet distance beyond the floor {_interval(excess)}, 0 for real photos"
    if far := n.worse("fid_excess", "kid"):
        text = f"They can be told from real photos ({numbers}; p = {p:.2g})."
        return Sentence("told apart", "off", text, far[0])
    if p < ALPHA:
        text = (
            f"A test tells them from real photos (p = {p:.2g}), though the intervals of the "
            f"distances still reach what real photos have ({numbers})."
        )
        return Sentence("told apart", "off", text, "kid")
    text = (
        f"By these distances they cannot be told from other real photos ({numbers}; p = {p:.2g}). "
        "That is no proof that they are alike."
    )
    return Sentence("told apart", _none(n), text, "fid_excess")


def _implausible(n: Numbers) -> Sentence:
    of = _against(n.found["precision"])
    if off := n.worse("precision", "density"):
        text = f"Too many are implausible: {of} lie where real photos lie."
        return Sentence("implausible", "off", text, off[0])
    text = (
        "No more of them are found implausible than of other real photos: "
        f"{of} lie where real photos lie."
    )
    return Sentence("implausible", _none(n), text, "precision")


def _missing(n: Numbers) -> Sentence:
    of = _against(n.found["recall"])
    if off := n.worse("recall", "coverage"):
        text = (
            "Some of what real photos show is missing or too rare: "
            f"{of} of the real photos are within reach."
        )
        return Sentence("missing", "off", text, off[0])
    text = f"Nothing is found missing: {of} of the real photos are within reach."
    return Sentence("missing", _none(n), text, "recall")


def _for_whom(n: Numbers) -> Sentence | None:
    """Of tone: how often each is drawn, and whether any is drawn worse than its own real photos."""
    difference = n.evaluation.get("p", "by tone")
    if difference is None:
        return None
    p, groups = difference.value, n.evaluation.within("tone: ")
    found = []
    if p < ALPHA:
        named = [
            f"{name} {_percent(own['share_synthetic'].value)} of them, of real photos "
            f"{_percent(own['share_real'].value)}"
            for name, own in groups.items()
            if own["share_off"].high < 0 or own["share_off"].low > 0
        ]
        found.append(
            f"They are not as light and dark as real photos are (p = {p:.2g})"
            + (f": {'; '.join(named)}." if named else ".")
        )
    judged = {name: own["precision"] for name, own in groups.items() if "precision" in own}
    # Of several groups one is off by chance more often than each: Bonferroni's correction.
    level = NormalDist().inv_cdf(1 - ALPHA / 2 / max(len(judged), 1)) / Z
    for name, precision in judged.items():
        if precision.off < -level:
            shown = _against(precision)
            found.append(
                f"Of the {name} ones too many are implausible: {shown} lie where real ones lie."
            )
    if found:
        return Sentence("for whom", "off", " ".join(found), "by-tone")
    text = f"No difference in tone from real photos is found (p = {p:.2g}); "
    text += (
        f"judged apart are {' and '.join(judged)} pictures." if judged else "none is judged apart."
    )
    return Sentence("for whom", _none(n), text, "by-tone")


def _alike(n: Numbers) -> Sentence:
    repeats = f"{_percent(n.found['repeat_rate'].value)} repeat another one"
    if off := n.worse("repeat_rate", "vendi_ratio", "ms_ssim"):
        text = f"They are too alike ({repeats}; beyond chance: {', '.join(off)})."
        return Sentence("alike", "off", text, off[0])
    text = f"They are not found more alike than real photos are ({repeats})."
    return Sentence("alike", _none(n), text, "vendi_ratio")


def _copies(n: Numbers) -> Sentence:
    if "copy_rate" not in n.found:
        text = "Nothing is said of copies: the evaluation was given no training photos."
        return Sentence("copies", "unsure", text, "identity")
    total, rate = n.identity["n_synthetic"], n.found["copy_rate"]
    counts = {name: round(n.found[name].value * total) for name in ("copy_rate", "hash_rate")}
    name = max(counts, key=lambda each: counts[each])
    most = max(n.found[each].high for each in counts)
    left = f"with {total} pictures, up to {_percent(most)} of such copies cannot be ruled out"
    if off := n.worse("copy_rate", "hash_rate"):
        worst = n.found[off[0]]
        text = (
            f"Some are copies of training photos: {round(worst.value * total)} of {total} are as "
            f"like one as a copy ({_interval(worst, percent=True)}; of real test photos "
            f"{_percent(worst.null)})."
        )
        return Sentence("copies", "off", text, off[0])
    if n.worse("fid_gap"):
        text = (
            f"As a whole they are nearer to the training photos than to the test photos "
            f"({_interval(n.found['fid_gap'])}, 0 expected), though no more are found to be copies "
            "than chance gives."
        )
        return Sentence("copies", "off", text, "fid_gap")
    if counts[name]:
        text = (
            f"{counts[name]} of {total} {'is' if counts[name] == 1 else 'are'} as like a training "
            "photo as a copy would be, no more "
            f"than chance gives ({_percent(n.found[name].null)} of real test photos are); {left}."
        )
    else:
        text = f"None of the {total} is as like a training photo as a copy would be; {left}."
    return Sentence("copies", "fine" if rate.high < 0.05 else "unsure", text, name)


RULES: tuple[Callable[[Numbers], Sentence | None], ...] = (
    _amount, _enough, _told_apart, _implausible, _missing, _for_whom, _alike, _copies,
)  # fmt: skip


def _none(n: Numbers) -> str:
    """The state of a sentence that finds nothing."""
    return "unsure" if n.blind else "fine"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %" if share >= 0.095 or share == 0 else f"{100 * share:.1f} %"


def _interval(of: Estimate, percent: bool = False) -> str:
    show = _percent if percent else _plain
    return f"{show(of.value)}, interval {show(of.low)} to {show(of.high)}"


def _plain(number: float) -> str:
    return f"{number:.3g}".replace("-", "−")


def _share(of: Estimate) -> str:
    return f"interval {_percent(of.low)} to {_percent(of.high)}, real photos {_percent(of.null)}"


def _against(of: Estimate) -> str:
    return (
        f"{_percent(of.value)} ({_percent(of.low)} to {_percent(of.high)}; of other real photos "
        f"{_percent(of.null)})"
    )
