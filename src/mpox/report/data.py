"""Section "Data": which photos were used, and how light or dark the pictures of each set are."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from markupsafe import Markup

from mpox.core import images
from mpox.report.figures import FAINT, SERIES, STYLE, figure, svg
from mpox.report.pictures import parallel
from mpox.report.run import Run
from mpox.statistics import tone

SETS = {"train": "training", "val": "validation", "test": "test"}
FEWEST = 5  # patients: a histogram of fewer could identify them
EDGES = np.arange(-90, 91, 10)  # degrees
CLASSES = dict(reversed(tone.BANDS.items()))  # from dark to light


def section(run: Run) -> dict[str, Any]:
    """The context of templates/data.html."""
    counts, angles = run.preparation, tones(run)
    return {
        **flow(counts),
        "patients_known": run.identity["patients"] == "known",
        "pattern": run.params.data.patients,
        "copies": run.params.augment.copies,
        "variants": int(counts["train"]) * (1 + run.params.augment.copies),
        "synthetic": len(angles["synthetic"]),
        "figure": draw(angles),
        "withheld": [SETS[name] for name in SETS if name not in angles],
        "classes": {name: shares(values) for name, values in angles.items()},
        "titles": SETS,
        "class_names": list(CLASSES),
        "medians": {name: float(np.median(values)) for name, values in angles.items()},
    }


def flow(counts: Mapping[str, float]) -> dict[str, Any]:
    """The counts of prepare.json, from all files to the sets, as in a CONSORT diagram."""
    left_out = {
        "not pictures (tables, videos, other files)": counts["other_files"],
        "unusable": counts["invalid"],
        "exact duplicates": counts["exact_duplicates"],
    }
    return {
        "files": counts["pictures"] + sum(left_out.values()),
        "left_out": left_out,
        "used": counts["pictures"],
        "near": counts["near_duplicates"],
        "groups": counts["groups"],
        "sets": [(title, counts[name], counts[f"groups_{name}"]) for name, title in SETS.items()],
    }


def tones(run: Run) -> dict[str, np.ndarray]:
    """The individual typology angles, in degrees, of the pictures in each set.

    Sets of fewer than FEWEST patients are withheld.
    """
    return {
        name: np.array(parallel(_tone, pictures.paths))
        for name, pictures in run.sets.items()
        if name not in SETS or run.preparation[f"groups_{name}"] >= FEWEST
    }


def _tone(path: Path) -> float:
    return tone.typology_angle(images.read(path))


def shares(angles: np.ndarray) -> list[float]:
    """The share of pictures in each of CLASSES."""
    bounds = [*CLASSES.values(), 91]
    return (np.histogram(angles, bounds)[0] / len(angles)).tolist()


def draw(angles: dict[str, np.ndarray]) -> Markup:
    """Histograms of the sets, stacked on a common axis."""
    with matplotlib.rc_context(STYLE):
        drawn = figure(7, 1.1 * len(angles) + 0.6)
        grid = drawn.subplots(len(angles), 1, sharex=True, sharey=True, squeeze=False)
        for axes, (name, values) in zip(grid[:, 0], angles.items(), strict=True):
            synthetic = name == "synthetic"
            weights = np.full(len(values), 100 / len(values))
            axes.hist(
                values, EDGES, weights=weights, color=SERIES[int(synthetic)], alpha=0.75,
                edgecolor=FAINT, hatch="//" if synthetic else None,
            )  # fmt: skip
            axes.axvline(np.median(values), color="#000000", linewidth=1.5)
            title = (
                f"{SETS.get(name, name)}: {len(values)} pictures, median {np.median(values):.0f}°"
            )
            axes.set_title(title, loc="left", fontsize=10)
            axes.set_ylabel("%")
        grid[-1, 0].set_xlabel("individual typology angle, degrees: dark ← → light")
        return svg(drawn, "Histograms of tone by set")
