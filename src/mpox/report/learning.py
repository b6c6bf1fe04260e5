"""Section "Training": the curves, and the step whose LoRA is used."""

from typing import Any

import matplotlib
from markupsafe import Markup

from mpox.report.figures import FAINT, SERIES, STYLE, figure, svg
from mpox.report.run import Run


def section(run: Run) -> dict[str, Any]:
    """The context of templates/learning.html."""
    curves = {name: run.curve(name) for name in ("loss", "val_loss", "learning_rate")}
    steps, losses = curves["val_loss"]
    lowest = min(range(len(steps)), key=lambda i: losses[i])
    return {
        "figure": draw(curves, run.training["selected"]["step"]),
        "kept": run.training["selected"],
        "select": run.params.train.select,
        "steps": run.params.train.max_steps,
        "losses": list(zip(steps, losses, strict=True)),
        "first": losses[0],
        "lowest": (steps[lowest], losses[lowest]),
        "at_end": lowest == len(steps) - 1,
    }


def draw(curves: dict[str, tuple[list[int], list[float]]], kept: int) -> Markup:
    """Losses above, the learning rate below; `kept`: the step whose LoRA is used."""
    with matplotlib.rc_context(STYLE):
        drawn = figure(8, 4.6)
        upper, lower = drawn.subplots(2, 1, sharex=True, height_ratios=[3, 1])
        upper.plot(*curves["loss"], color=SERIES[0], alpha=0.6, label="loss on training photos")
        upper.plot(*curves["val_loss"], "o--", color=SERIES[1], label="loss on held-out photos")
        lower.plot(*curves["learning_rate"], color=SERIES[2])
        for axes in (upper, lower):
            axes.axvline(kept, color="#000000", linestyle=":", linewidth=1.5)
            axes.grid(color=FAINT, linewidth=0.5)
        upper.annotate(
            f"used: step {kept}", (kept, 1), (-4, -2), xycoords=("data", "axes fraction"),
            textcoords="offset points", ha="right", va="top",
        )  # fmt: skip
        upper.legend(frameon=False, loc="upper center")
        upper.set_ylabel("loss")
        lower.set_ylabel("learning rate")
        lower.set_xlabel("step")
        return svg(drawn, "Loss on training and on held-out photos, and the learning rate, by step")
