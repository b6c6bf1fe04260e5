"""Section "Privacy": what an attack on the LoRA itself reveals about the training patients."""

from typing import Any

from mpox.report.run import Run
from mpox.statistics.estimate import Metrics

BOUND = 0.6  # AUC: an attack whose whole interval is below reveals hardly anyone


def section(run: Run) -> dict[str, Any]:
    """The context of templates/privacy.html."""
    state, text = verdict(run.privacy)
    return {
        "counts": run.privacy.identity,
        "state": state,
        "verdict": text,
        **{name: run.privacy[name] for name in ("auc", "tpr", "false_alarms")},
    }


def verdict(privacy: Metrics) -> tuple[str, str]:
    """A state of words.STATES, and a sentence on whether the LoRA reveals training patients."""
    auc, counts = privacy["auc"], privacy.identity
    numbers = f"AUC {auc.value:.2f}, interval {auc.low:.2f} to {auc.high:.2f}; 0.50 is a guess"
    members = (
        f"{counts['patients_training']} training patients from {counts['patients_test']} others"
        if counts["patients"] == "known"
        else f"{counts['n_training']} training photos from {counts['n_test']} others"
    )
    if auc.low > 0.5:
        return "off", (
            f"The LoRA reveals what it was trained on: an attack distinguishes {members} better "
            f"than a guess ({numbers}). Anyone with the LoRA file can test any photo against it."
        )
    text = (
        f"An attack on the LoRA did not distinguish {members} ({numbers}). It had 80 % power "
        f"to find an AUC of {privacy['detectable'].value:.2f}. A better attack may reveal more."
    )
    return "fine" if auc.high < BOUND else "unsure", text
