"""Section "For a paper": the methods, and what reporting guidelines ask.

CLAIM 2024 (Tejani et al., Radiology: Artificial Intelligence 6(4), 2024) is for studies of AI in
medical imaging, the METRIC framework (Schwabe et al., npj Digital Medicine 7, 2024) for their data.
The items are in our own words and only those that concern synthetic pictures. The methods are in
templates/methods.html.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from mpox.report import utility
from mpox.report.run import Run

YOURS = None  # an answer that only the authors can give


class Item(NamedTuple):
    """A question of a guideline, the answer of this run, and its section on the page."""

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
    p, counts, identity = run.params, run.preparation, run.identity
    known = _known(run)
    return (
        Item("The purpose of the study and its hypothesis", YOURS),
        Item("Where and when the photos were taken", YOURS),
        Item("Eligibility of patients, ethics approval and consent", YOURS),
        Item("How photos were selected, and how many were excluded",
             f"{counts['other_files']} files were not pictures, {counts['invalid']} could not be "
             f"used, {counts['exact_duplicates']} were exact duplicates; {counts['pictures']} "
             "remain"),
        Item("How photos were processed before use",
             f"turned upright and cropped to a central square of at most {2 * p.resolution} "
             f"pixels; trained at {p.resolution} pixels; {p.augment.copies} augmented variants "
             "of each"),
        Item("How patients were de-identified",
             "metadata and file names are removed, and patients are numbered in random order; "
             "please check what the pictures themselves show (faces, tattoos)"),
        Item("How the diagnosis was established (reference standard such as PCR)", YOURS),
        Item("Cameras and lighting", YOURS),
        Item("How photos were assigned to the sets",
             f"seed {p.seed}, shares {p.data.split.train:g}, {p.data.split.val:g} and "
             f"{p.data.split.test:g}, balanced by tone"),
        Item("The level at which the sets are disjoint",
             "patients; near duplicates share a set" if known
             else "near duplicates only; the patients are unknown, so one may be in several sets"),
        Item("How the sample size was chosen", YOURS),
        Item("The model, in enough detail to rebuild it",
             f"{p.model.path} with a LoRA of rank {p.train.rank}; all parameters and hashes "
             "are under Provenance", "provenance"),
        Item("Software with versions", "requirements.lock, in full", "provenance"),
        Item("How the model was trained and the final one selected",
             f"step {run.training['selected']['step']} of {p.train.max_steps}, "
             f"train.select: {p.train.select}", "training"),
        Item("The measures, and why they were chosen",
             "each is listed with what it detects and misses", "measures"),
        Item("Uncertainty of every measure",
             f"95 % intervals, nulls and noise at N = {identity['n_half']} to "
             f"{identity['n_synthetic']}",
             "measures"),
        Item("Tests on data from another source", YOURS),
        Item("Patients and photos in each set",
             f"training {counts['train']} photos of {counts['groups_train']}, validation "
             f"{counts['val']} of {counts['groups_val']}, test {counts['test']} of "
             f"{counts['groups_test']} {'patients' if known else 'groups'}"),
        Item("Demographics: age, sex, skin", "only the tone of the pictures; please add the rest"),
        Item("Failure cases", "see the pictures and the suspicious pairs", "look"),
        Item("Availability of code, parameters and weights",
             "the repository and the hashes; please state whether the LoRA may be shared",
             "provenance"),
        Item("Limitations, funding, registration", YOURS),
    )  # fmt: skip


def _metric(run: Run) -> tuple[Item, ...]:
    counts, measured = run.preparation, run.evaluation
    copied, recall = measured.get("copy_rate"), measured["recall"]
    coverage = measured["coverage"]
    copies = (
        f"{100 * copied.value:.1f} % (up to {100 * copied.high:.1f} %) are as "
        "close to a training photo as a copy would be"
        if copied
        else YOURS
    )
    return (
        Item("Measurement process: devices, noise and completeness of the photos", YOURS),
        Item("Measurement process: reliability of the labels", YOURS),
        Item("Timeliness: whether the photos reflect current disease and practice", YOURS),
        Item("Representativeness: whether the patients resemble the intended ones", YOURS),
        Item("Representativeness: variety of synthetic compared with real pictures",
             f"recall {recall.value:.2f} (real photos {recall.null:.2f}), coverage "
             f"{coverage.value:.2f} ({coverage.null:.2f})", "measures"),
        Item("Representativeness: skin tones", "share of each tone in every set", "data"),
        Item("Informativeness: redundancy and duplicates",
             f"{counts['exact_duplicates']} exact and {counts['near_duplicates']} near duplicates "
             f"among the photos; {100 * measured['repeat_rate'].value:.1f} % of the synthetic "
             "pictures are repeats"),
        Item("Informativeness: whether synthetic pictures help with the task",
             utility.verdict(run.utility)[1] if run.utility.ran else YOURS, "utility"),
        Item("Consistency: whether synthetic pictures follow the real distribution",
             f"excess Fréchet distance {measured['fid_excess'].value:.3g} (0 for real "
             f"photos), p = {measured['kid_p'].value:.2g}", "measures"),
        Item("Consistency: the same processing for all pictures",
             run.identity["preprocessing"], "measures"),
        Item("Privacy: whether pictures reveal training photos", copies, "measures"),
    )  # fmt: skip


GUIDELINES: dict[str, Callable[[Run], tuple[Item, ...]]] = {
    "CLAIM 2024": _claim,
    "METRIC": _metric,
}
