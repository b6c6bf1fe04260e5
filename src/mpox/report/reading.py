"""Section "Readers": what experts said who did not know which pictures are real."""

from collections.abc import Mapping
from typing import Any

from mpox.report.run import Run
from mpox.statistics import estimate
from mpox.statistics.estimate import Estimate

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
    if not found["ran"]:
        return {"ran": False}
    return {
        "ran": True,
        "of": found["identity"],
        "verdict": verdict(found),
        "rows": [(title, name, of(found, name)) for name, title in TITLES.items()],
        "readers": {
            name: [
                of(own, measure) or Estimate(own[measure])
                for measure in ("accuracy", "sensitivity", "specificity", "d_prime", "auroc")
            ]
            for name, own in found["by_reader"].items()
        },
        "tones": {
            word: (own["n_real"], own["n_synthetic"], estimate.read(own, "accuracy"))
            for word, own in found["by"]["tone"].items()
        },
        "others": {
            name: found[name]
            for name in ("kappa_class", "alpha_realism", "consistency")
            if name in found
        },
    }


def of(found: Mapping[str, Any], name: str) -> Estimate:
    """A measure that must be there."""
    read = estimate.read(found, name)
    assert read
    return read


def verdict(found: Mapping[str, Any]) -> str:
    """One sentence: not above chance is not yet indistinguishable."""
    told, margin = of(found, "accuracy"), found["identity"]["margin"]
    said = f"{_percent(told.value)} right, interval {_percent(told.low)} to {_percent(told.high)}"
    if found["equivalent"]:
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
