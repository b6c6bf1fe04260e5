"""Section "Readers": how experts judged the pictures without knowing which are real."""

from typing import Any

from mpox.report.run import Run
from mpox.statistics.estimate import Metrics

TITLES = {
    "accuracy": "accuracy, the mean of the next two",
    "sensitivity": "synthetic pictures called synthetic",
    "specificity": "real photos called real",
    "d_prime": "d′, the separation of real and synthetic in standard deviations",
    "criterion": "criterion, above 0 if readers tend to answer “real”",
    "auroc": "area under the ROC curve of the answers with their confidence",
    "realism_off": "realism (1 to 5), real minus synthetic",
    "mpox_off": "share diagnosed as mpox, real minus synthetic",
}
OF_READERS = ("accuracy", "sensitivity", "specificity", "d_prime", "auroc")
AGREEMENT = ("kappa_class", "alpha_realism", "consistency")


def section(run: Run) -> dict[str, Any]:
    """The context of templates/reading.html."""
    metrics = run.reading
    if not metrics.ran:
        return {"ran": False}
    return {
        "ran": True,
        "counts": metrics.identity,
        "verdict": verdict(metrics),
        "rows": [(title, name, metrics[name]) for name, title in TITLES.items()],
        "readers": {
            name: [scores[measure] for measure in OF_READERS]
            for name, scores in metrics.within("reader: ").items()
        },
        "tones": metrics.within("tone: "),
        "agreement": {
            name: estimate.value for name in AGREEMENT if (estimate := metrics.get(name))
        },
    }


def verdict(metrics: Metrics) -> str:
    """One sentence. An accuracy within chance is not yet proof that readers cannot tell."""
    accuracy, margin = metrics["accuracy"], metrics.identity["margin"]
    value, low, high = (f"{100 * x:.0f} %" for x in (accuracy.value, accuracy.low, accuracy.high))
    numbers = f"accuracy {value}, interval {low} to {high}"
    if metrics["equivalent"].value:
        narrow = metrics["accuracy_90"]
        return (
            "Readers told synthetic pictures from real photos no better and no worse than chance, "
            f"within the declared margin of {100 * margin:.0f} points (accuracy {value}, interval "
            f"of 90 % {100 * narrow.low:.0f} % to {100 * narrow.high:.0f} %)."
        )
    if accuracy.low > 0.5:
        return f"Readers can tell synthetic pictures from real photos ({numbers})."
    if accuracy.high < 0.5:
        return (
            "Readers confused synthetic pictures with real photos more often than chance would "
            f"({numbers})."
        )
    return (
        f"The study does not show whether readers can tell synthetic pictures from real photos "
        f"({numbers}): the interval includes chance, and also values beyond the margin."
    )
