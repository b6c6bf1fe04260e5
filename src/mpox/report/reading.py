"""Section "Readers": what experts said who did not know which pictures are real."""

from typing import Any

from mpox.report.run import Run
from mpox.statistics.estimate import Metrics

TITLES = {
    "accuracy": "called rightly, mean of both classes",
    "sensitivity": "synthetic pictures called so",
    "specificity": "real photos called so",
    "d_prime": "d′",
    "criterion": "criterion: above 0 in doubt “real”",
    "auroc": "area under the ROC curve of their confidence",
    "realism_off": "realism of 1 to 5, real minus synthetic",
    "mpox_off": "diagnosed as mpox, real minus synthetic",
}


def section(run: Run) -> dict[str, Any]:
    """The context of templates/reading.html."""
    found = run.reading
    if not found.ran:
        return {"ran": False}
    return {
        "ran": True,
        "of": found.identity,
        "verdict": verdict(found),
        "rows": [(title, name, found[name]) for name, title in TITLES.items()],
        "readers": {
            name: [
                own[measure]
                for measure in ("accuracy", "sensitivity", "specificity", "d_prime", "auroc")
            ]
            for name, own in found.within("reader: ").items()
        },
        "tones": found.within("tone: "),
        "others": {
            name: other.value
            for name in ("kappa_class", "alpha_realism", "consistency")
            if (other := found.get(name))
        },
    }


def verdict(found: Metrics) -> str:
    """One sentence: not above chance is not yet indistinguishable."""
    told, margin = found["accuracy"], found.identity["margin"]
    said = f"{_percent(told.value)} right, interval {_percent(told.low)} to {_percent(told.high)}"
    if found["equivalent"].value:
        return (
            "Readers told synthetic pictures from real ones neither better nor worse than chance, "
            f"within the {100 * margin:.0f} points that were laid down beforehand ({said})."
        )
    if told.low > 0.5:
        return f"Readers can tell the synthetic pictures from real ones ({said})."
    if told.high < 0.5:
        return f"Readers took the synthetic pictures for the real ones ({said})."
    return (
        f"Whether readers can tell the synthetic pictures from real ones is not known ({said}): "
        "chance is within the interval, and so is more than the margin."
    )


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
