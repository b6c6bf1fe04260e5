"""Section "Data": what became of the photos, and how light or dark the pictures of each set are."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from markupsafe import Markup

from mpox.core import images, listing
from mpox.report.figures import FAINT, SERIES, STYLE, figure, svg
from mpox.report.pictures import parallel
from mpox.report.run import Run
from mpox.statistics import tone

SETS = {"train": "training", "val": "validation", "test": "test"}
FEWEST = 5  # patients: fewer could be told by a histogram of theirs
EDGES = np.arange(-90, 91, 10)  # degrees
CLASSES = dict(reversed(tone.BANDS.items()))  # from dark to light


def section(run: Run) -> dict[str, Any]:
    """The context of templates/data.html."""
    counts, angles = run.preparation, tones(run)
    return {
        **flow(counts),
        "patients_known": run.identity["patients"] == "known",
        "how": run.params.data.patients,
        "copies": run.params.augment.copies,
        "variants": int(counts["train"]) * (1 + run.params.augment.copies),
        "synthetic": len(angles["synthetic"]),
        "figure": draw(angles),
        "withheld": [SETS[name] for name in SETS if name not in angles],
        "classes": {name: shares(found) for name, found in angles.items()},
        "titles": SETS,
        "class_names": list(CLASSES),
        "medians": {name: float(np.median(found)) for name, found in angles.items()},
    }


def flow(counts: Mapping[str, float]) -> dict[str, Any]:
    """From every file found to the sets, as CONSORT draws a trial; `counts`: prepare.json's."""
    left_out = {
        "no picture (tables, videos, other files)": counts["other_files"],
        "could not be used": counts["invalid"],
        "exact duplicates of another": counts["exact_duplicates"],
    }
    return {
        "found": counts["pictures"] + sum(left_out.values()),
        "left_out": left_out,
        "used": counts["pictures"],
        "near": counts["near_duplicates"],
        "groups": counts["groups"],
        "sets": [(title, counts[name], counts[f"groups_{name}"]) for name, title in SETS.items()],
    }


def tones(run: Run) -> dict[str, np.ndarray]:
    """The individual typology angles, in degrees, of each set's pictures and the synthetic ones'.

    Without the sets of fewer than FEWEST patients.
    """
    counts = run.preparation
    folders = {name: run.prepared / name for name in SETS if counts[f"groups_{name}"] >= FEWEST}
    folders["synthetic"] = run.synthetic
    return {
        name: np.array(parallel(_tone, listing.find(each)[0])) for name, each in folders.items()
    }


def _tone(path: Path) -> float:
    return tone.typology_angle(images.read(path))


def shares(angles: np.ndarray) -> list[float]:
    """The share of each of CLASSES."""
    bounds = [*CLASSES.values(), 91]
    return (np.histogram(angles, bounds)[0] / len(angles)).tolist()


def draw(angles: dict[str, np.ndarray]) -> Markup:
    """Histograms, one above the other on one axis, of shares of a set."""
    with matplotlib.rc_context(STYLE):
        drawn = figure(7, 1.1 * len(angles) + 0.6)
        grid = drawn.subplots(len(angles), 1, sharex=True, sharey=True, squeeze=False)
        for axes, (name, found) in zip(grid[:, 0], angles.items(), strict=True):
            own = name == "synthetic"
            weights = np.full(len(found), 100 / len(found))
            axes.hist(
                found, EDGES, weights=weights, color=SERIES[1 if own else 0], alpha=0.75,
                edgecolor=FAINT, hatch="//" if own else None,
            )  # fmt: skip
            axes.axvline(np.median(found), color="#000000", linewidth=1.5)
            title = f"{SETS.get(name, name)}: {len(found)} pictures, median {np.median(found):.0f}°"
            axes.set_title(title, loc="left", fontsize=10)
            axes.set_ylabel("%")
        grid[-1, 0].set_xlabel("individual typology angle, degrees: dark ← → light")
        return svg(drawn, "Histograms of the pictures' tone, by set")
