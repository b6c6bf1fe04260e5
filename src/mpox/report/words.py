"""Section "In words": what the numbers support, by the rules in docs/metrics.md.

No sentence says more than an interval allows. A difference within chance "was not found"; that does
not make pictures "like" real photos. Where even a poor set could pass, a sentence says so.
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
BLIND = 0.5  # of the null: with so wide an interval, a share at half its null can pass
STATES = {"fine": "✓", "off": "✗", "unsure": "?", "fact": "·"}
SHARES = {
    "precision": "plausibility (precision)",
    "recall": "variety (recall)",
    "coverage": "coverage",
}
DIVERSITY = {"repeat_rate": "repeats", "vendi_ratio": "Vendi score", "ms_ssim": "MS-SSIM"}


@dataclass(frozen=True)
class Sentence:
    """One sentence of the page."""

    rule: str
    state: str  # of STATES: no fault found | a fault | cannot tell | a fact
    text: str
    measure: str  # whose numbers the sentence links to

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
    """The sentences on metrics/evaluation.json and metrics/prepare.json, in reading order."""
    measured = {name: estimate for name in MEASURES if (estimate := evaluation.get(name))}
    numbers = Numbers(evaluation, preparation, measured)
    return [sentence for rule in RULES if (sentence := rule(numbers))]


@dataclass(frozen=True)
class Numbers:
    """What the rules look at."""

    evaluation: Metrics
    preparation: Mapping[str, float]
    measured: Mapping[str, Estimate]

    @property
    def identity(self) -> Mapping[str, Any]:
        return self.evaluation.identity

    def worse(self, *names: str) -> list[str]:
        """The measures that are worse than real photos beyond chance."""
        return [
            name
            for name in names
            if name in self.measured and self.measured[name].off * MEASURES[name].worse > 1
        ]

    @property
    def blind(self) -> list[str]:
        """The shares with so wide an interval that a set at half the null could pass."""
        shares = {name: self.measured[name] for name in SHARES}
        return [
            name
            for name, share in shares.items()
            if max(share.high - share.value, share.value - share.low) >= BLIND * share.null
        ]

    @property
    def state_if_no_fault(self) -> str:
        return "unsure" if self.blind else "fine"


def _amount(n: Numbers) -> Sentence:
    counts = n.identity
    text = (
        f"{counts['n_synthetic']} synthetic pictures are compared with {counts['n_test']} real "
        "test photos"
    )
    if counts["patients"] == "unknown":
        text += (
            ". The patients are unknown. Photos of one patient may be in both training and test, "
            "so everything below may look better than it is."
        )
        return Sentence("amount", "unsure", text, "identity")
    text += f" of {n.preparation['groups_test']} patients."
    if counts["n_training"]:
        patients = n.preparation["groups_train"]
        text += (
            f" The LoRA was trained on {counts['n_training']} photos of {patients} other patients."
        )
    return Sentence("amount", "fact", text, "identity")


def _enough(n: Numbers) -> Sentence | None:
    if not n.blind:
        return None
    name, judged = n.blind[0], " and ".join(SHARES[name] for name in n.blind)
    text = (
        f"There are too few pictures to judge {judged}: even a set with half the value of real "
        f"photos could pass ({name}: {_share(n.measured[name])}). The checks below can miss faults."
    )
    return Sentence("enough", "unsure", text, name)


def _told_apart(n: Numbers) -> Sentence:
    p = n.evaluation["kid_p"].value
    numbers = (
        f"excess Fréchet distance {_interval(n.measured['fid_excess'])}; real photos have 0; "
        f"p = {p:.2g}"
    )
    if far := n.worse("fid_excess", "kid"):
        text = f"The distances tell the synthetic pictures apart from real photos ({numbers})."
        return Sentence("told apart", "off", text, far[0])
    if p < ALPHA:
        text = (
            f"A statistical test tells the synthetic pictures apart from real photos, although "
            f"chance could explain each of the two distances by itself ({numbers})."
        )
        return Sentence("told apart", "off", text, "kid")
    text = (
        f"The distances do not tell the synthetic pictures apart from real photos ({numbers}). "
        "This does not prove that they are alike."
    )
    return Sentence("told apart", n.state_if_no_fault, text, "fid_excess")


def _implausible(n: Numbers) -> Sentence:
    within = _against(n.measured["precision"], "lie within the range of real photos")
    if off := n.worse("precision", "density"):
        within = f"only {within}"
        if off[0] == "density":
            within = (
                "they lie too far from typical real photos (density "
                f"{_interval(n.measured['density'])}; other real photos: "
                f"{_plain(n.measured['density'].null)})"
            )
        text = f"Too many synthetic pictures are implausible: {within}."
        return Sentence("implausible", "off", text, off[0])
    text = f"No excess of implausible pictures was found: {within}."
    return Sentence("implausible", n.state_if_no_fault, text, "precision")


def _missing(n: Numbers) -> Sentence:
    reached = _against(
        n.measured["recall"], "of the real photos lie within the range of the synthetic pictures"
    )
    if off := n.worse("recall", "coverage"):
        if off[0] == "coverage":
            near = "of the real photos have a synthetic picture nearby"
            reached = _against(n.measured["coverage"], near)
        text = (
            "Some of what real photos show is missing or too rare in the synthetic pictures: "
            f"{reached}."
        )
        return Sentence("missing", "off", text, off[0])
    text = f"No gap in what real photos show was found: {reached}."
    return Sentence("missing", n.state_if_no_fault, text, "recall")


def _for_whom(n: Numbers) -> Sentence | None:
    """Whether each tone is as frequent as in real photos, and as plausible."""
    difference = n.evaluation.get("p", "by tone")
    if difference is None:
        return None
    p, groups = difference.value, n.evaluation.within("tone: ")
    faults = []
    if p < ALPHA:
        shares = [
            f"{name}: {_percent(group['share_synthetic'].value)} of the synthetic pictures but "
            f"{_percent(group['share_real'].value)} of the real photos"
            for name, group in groups.items()
            if group["share_off"].high < 0 or group["share_off"].low > 0
        ]
        numbers = "; ".join([f"p = {p:.2g}", *shares])
        faults.append(
            f"The tones of the synthetic pictures differ from those of real photos ({numbers})."
        )
    judged = {name: group["precision"] for name, group in groups.items() if "precision" in group}
    # The more groups, the more often one is off by chance: Bonferroni's correction.
    level = NormalDist().inv_cdf(1 - ALPHA / 2 / max(len(judged), 1)) / Z
    for name, precision in judged.items():
        if precision.off < -level:
            within = _against(precision, "lie within the range of real photos")
            faults.append(f"Too many of the {name} pictures are implausible: only {within}.")
    if faults:
        return Sentence("for whom", "off", " ".join(faults), "by-tone")
    checked = (
        f"Plausibility was also checked for {' and '.join(judged)} pictures separately; no fault "
        "was found."
        if judged
        else "No tone has enough pictures to be checked separately."
    )
    text = f"No difference in tone from real photos was found (p = {p:.2g}). {checked}"
    return Sentence("for whom", n.state_if_no_fault, text, "by-tone")


def _alike(n: Numbers) -> Sentence:
    repeats = f"{_percent(n.measured['repeat_rate'].value)} repeat another synthetic picture"
    if off := n.worse(*DIVERSITY):
        beyond = " and ".join(DIVERSITY[name] for name in off)
        text = (
            "The synthetic pictures are too similar to each other "
            f"({repeats}; measures beyond chance: {beyond})."
        )
        return Sentence("alike", "off", text, off[0])
    text = f"No excess similarity among the synthetic pictures was found ({repeats})."
    return Sentence("alike", n.state_if_no_fault, text, "vendi_ratio")


def _copies(n: Numbers) -> Sentence:
    if "copy_rate" not in n.measured:
        text = "Copies were not searched for, because the evaluation had no training photos."
        return Sentence("copies", "unsure", text, "identity")
    total, rates = n.identity["n_synthetic"], {k: n.measured[k] for k in ("copy_rate", "hash_rate")}
    close = "as close to a training photo as a copy would be"
    if off := n.worse(*rates):
        rate = rates[off[0]]
        text = (
            "Some synthetic pictures appear to copy training photos: "
            f"{round(rate.value * total)} of {total} are {close} "
            f"({_interval(rate, percent=True)}; real test photos: {_percent(rate.null)})."
        )
        return Sentence("copies", "off", text, off[0])
    if n.worse("fid_gap"):
        text = (
            "As a set, the synthetic pictures are closer to the training photos than to the test "
            f"photos (difference of Fréchet distances {_interval(n.measured['fid_gap'])}; expected "
            "0). Chance alone could explain the number of individual copies."
        )
        return Sentence("copies", "off", text, "fid_gap")
    name = max(rates, key=lambda each: round(rates[each].value * total))
    count = round(rates[name].value * total)
    verb, null = "is" if count < 2 else "are", _percent(rates[name].null)
    text = f"{count or 'None'} of {total} synthetic pictures {verb} {close}. "
    if count:
        text += f"Chance alone could give that number ({null} of real test photos are as close). "
    most = max(rate.high for rate in rates.values())
    text += f"With only {total} pictures, up to {_percent(most)} could still be such copies."
    return Sentence("copies", "fine" if most < 0.05 else "unsure", text, name)


RULES: tuple[Callable[[Numbers], Sentence | None], ...] = (
    _amount, _enough, _told_apart, _implausible, _missing, _for_whom, _alike, _copies,
)  # fmt: skip


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %" if share >= 0.095 or share == 0 else f"{100 * share:.1f} %"


def _interval(estimate: Estimate, percent: bool = False) -> str:
    show = _percent if percent else _plain
    return f"{show(estimate.value)}, interval {show(estimate.low)} to {show(estimate.high)}"


def _plain(number: float) -> str:
    return f"{number:.3g}".replace("-", "−")


def _share(estimate: Estimate) -> str:
    low, high, null = map(_percent, (estimate.low, estimate.high, estimate.null))
    return f"interval {low} to {high}; real photos: {null}"


def _against(estimate: Estimate, claim: str) -> str:
    low, high, null = map(_percent, (estimate.low, estimate.high, estimate.null))
    numbers = f"interval {low} to {high}; other real photos: {null}"
    return f"{_percent(estimate.value)} {claim} ({numbers})"
