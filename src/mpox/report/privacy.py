"""Section "Weights": what an attack on the LoRA itself finds of the training patients."""

from typing import Any

from mpox.report.run import Run
from mpox.statistics.estimate import Metrics

BOUND = 0.6  # AUC: an attack whose interval stays below gives hardly anybody away


def section(run: Run) -> dict[str, Any]:
    """The context of templates/privacy.html."""
    found = run.privacy
    state, text = verdict(found)
    return {
        "of": found.identity,
        "state": state,
        "verdict": text,
        **{name: found[name] for name in ("auc", "tpr", "false_alarms")},
    }


def verdict(found: Metrics) -> tuple[str, str]:
    """A state of words.STATES, and one sentence on whether the weights remember patients."""
    auc, counts = found["auc"], found.identity
    said = f"AUC {auc.value:.2f}, interval {auc.low:.2f} to {auc.high:.2f}, 0.50 is a guess"
    whom = (
        f"{counts['patients_training']} training patients from {counts['patients_test']} others"
        if counts["patients"] == "known"
        else f"{counts['n_training']} training photos from {counts['n_test']} others"
    )
    if auc.low > 0.5:
        return "off", (
            f"The weights remember whom they were trained on: an attack tells {whom} ({said}). "
            "Who has them can find out whose photos were used."
        )
    text = (
        f"An attack on the weights does not tell {whom} ({said}); one of "
        f"{found['detectable'].value:.2f} or more would most likely have been found. A better "
        "attack may find more."
    )
    return "fine" if auc.high < BOUND else "unsure", text
