"""Section "For a paper": the methods, and what reporting guidelines ask.

CLAIM 2024 (Tejani et al., Radiology: Artificial Intelligence 6(4), 2024) asks of studies of AI in
medical imaging, the METRIC framework (Schwabe et al., npj Digital Medicine 7, 2024) of their data.
Here in our own words, and only what bears on synthetic pictures. The methods are in
templates/methods.html.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from mpox.report import utility
from mpox.report.run import Run

YOURS = None  # what only the authors can say


class Item(NamedTuple):
    """What a guideline asks, what this run answers, and where on the page."""

    asks: str
    answer: str | None
    section: str = "data"


def section(run: Run) -> dict[str, Any]:
    """The context of templates/paper.html."""
    items = {guideline: make(run) for guideline, make in GUIDELINES.items()}
    every = [item for each in items.values() for item in each]
    return {
        "guidelines": items,
        "answered": sum(item.answer is not None for item in every),
        "total": len(every),
    }


def _known(run: Run) -> bool:
    return run.identity["patients"] == "known"


def _claim(run: Run) -> tuple[Item, ...]:
    p, counts, of = run.params, run.preparation, run.identity
    known = _known(run)
    return (
        Item("What the study is for, and what it set out to show", YOURS),
        Item("Where the photos come from, and when they were taken", YOURS),
        Item("Which patients were eligible, and ethics approval and consent", YOURS),
        Item("How pictures were chosen and how many were lost on the way",
             f"{counts['other_files']} files were no pictures, {counts['invalid']} could not be "
             f"used, {counts['exact_duplicates']} were exact duplicates; {counts['pictures']} are "
             "left"),
        Item("How pictures were processed before use",
             f"turned upright, central square, at most {2 * p.resolution} pixels a side; trained "
             f"at {p.resolution} pixels; {p.augment.copies} augmented variants of each"),
        Item("How patients were de-identified",
             "metadata and file names are removed, patients have numbers in a random order; what a "
             "picture itself shows (faces, tattoos) is for you to check"),
        Item("How the diagnosis was established (the reference standard, as PCR)", YOURS),
        Item("With which cameras and light the photos were taken", YOURS),
        Item("How photos were assigned to sets",
             f"seed {p.seed}, shares {p.data.split.train:g}, {p.data.split.val:g} and "
             f"{p.data.split.test:g}, evenly in tone"),
        Item("At which level the sets are disjoint",
             "patients; near duplicates share a set" if known
             else "only groups of near duplicates: the patients are not known, so that one may be "
             "in several sets"),
        Item("Why so many photos", YOURS),
        Item("The model, so that it can be built again",
             f"{p.model.path} with a LoRA of rank {p.train.rank}; every parameter and hash is "
             "below Provenance", "provenance"),
        Item("Software with versions", "requirements.lock, in full", "provenance"),
        Item("How the model was trained, and how the final one was chosen",
             f"step {run.training['selected']['step']} of {p.train.max_steps}, "
             f"train.select: {p.train.select}", "training"),
        Item("Which measures, and why",
             "each with what it sees and misses", "measures"),
        Item("Uncertainty of every measure",
             f"intervals of 95 %, nulls and noise at N = {of['n_half']} to {of['n_synthetic']}",
             "measures"),
        Item("Tested on data of another source", YOURS),
        Item("How many patients and photos are in each set",
             f"training {counts['train']} of {counts['groups_train']}, validation {counts['val']} "
             f"of {counts['groups_val']}, test {counts['test']} of {counts['groups_test']} "
             f"{'patients' if known else 'groups'}"),
        Item("Who the patients are: age, sex, skin", "tone of the pictures only; all else is for "
             "you to say"),
        Item("Failures", "look at the pictures and the suspicious pairs", "look"),
        Item("Where code, parameters and weights can be had",
             "the repository and the hashes; whether the LoRA may be shared is for you to say",
             "provenance"),
        Item("Limitations, funding, registration", YOURS),
    )  # fmt: skip


def _metric(run: Run) -> tuple[Item, ...]:
    counts, of, rate = run.preparation, run.identity, run.evaluation
    copied, recall, coverage = rate.get("copy_rate"), rate["recall"], rate["coverage"]
    copies = (
        f"{100 * copied.value:.1f} % (up to {100 * copied.high:.1f} %) are as like a "
        "training photo as a copy"
        if copied
        else YOURS
    )
    return (
        Item("Measurement process: devices, noise and completeness of the photos", YOURS),
        Item("Measurement process: how sure the labels are", YOURS),
        Item("Timeliness: whether the photos are of today's disease and practice", YOURS),
        Item("Representativeness: whether patients are like those the model is for", YOURS),
        Item("Representativeness: variety of the synthetic pictures beside the real ones",
             f"recall {recall.value:.2f} (real photos {recall.null:.2f}), coverage "
             f"{coverage.value:.2f} ({coverage.null:.2f})", "measures"),
        Item("Representativeness: tones of skin", "shares by class of tone in every set", "data"),
        Item("Informativeness: redundancy and duplicates",
             f"{counts['exact_duplicates']} exact and {counts['near_duplicates']} near duplicates "
             f"among the photos; {100 * rate['repeat_rate'].value:.1f} % repeats among synthetic "
             "ones"),
        Item("Informativeness: whether the synthetic pictures add anything for the task",
             utility.verdict(run.utility)[1] if run.utility.ran else YOURS, "utility"),
        Item("Consistency: whether synthetic pictures follow the real distribution",
             f"Fréchet distance beyond the floor {rate['fid_excess'].value:.3g} (0 for real "
             f"photos), p = {rate['kid_p'].value:.2g}", "measures"),
        Item("Consistency: one processing for all pictures", of["preprocessing"], "measures"),
        Item("Privacy: whether pictures give training photos away", copies, "measures"),
    )  # fmt: skip


GUIDELINES: dict[str, Callable[[Run], tuple[Item, ...]]] = {
    "CLAIM 2024": _claim,
    "METRIC": _metric,
}
