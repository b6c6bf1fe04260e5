"""The table of a trial, data/utility/arms.csv: every arm with every measure, one a row."""

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mpox.statistics.estimate import ALL
from mpox.utility.arms import Trained
from mpox.utility.scoring import Scorer

COLUMNS = (
    "classifier", "arm", "version", "group", "n_mpox", "n_controls", "patients", "strength",
    "measure", "value", "low", "high",
)  # fmt: skip


def rows(
    trained: Trained, scorer: Scorer, groups: Mapping[str, np.ndarray]
) -> list[dict[str, Any]]:
    """A row for each measure of each arm in each group (masks of the test photos)."""
    whole = {ALL: groups[ALL]}
    arms = [
        ({"arm": name, "version": version, "patients": "all"}, arm, groups)
        for version, by_name in trained.versions.items()
        for name, arm in by_name.items()
    ] + [
        ({"arm": name, "version": "plain", "patients": number}, arm, whole)
        for name, points in trained.curves.items()
        for number, arm in points.items()
    ]
    return [
        {
            **labels,
            "classifier": trained.classifier,
            "group": group,
            "n_mpox": arm.n_mpox,
            "n_controls": arm.n_controls,
            "strength": float(np.exp(np.log(arm.strengths).mean())),
            "measure": measure,
            **values.estimate().record(),
        }
        for labels, arm, masks in arms
        for group, chosen in masks.items()
        for measure, values in scorer.measures(arm, chosen).items()
    ]


def to_csv(rows: Sequence[Mapping[str, Any]]) -> bytes:
    buffer = io.StringIO(newline="")
    writer = csv.DictWriter(buffer, COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue().encode()
