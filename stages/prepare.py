"""Turns photos into split pictures: `python -m stages.prepare OUT CONTROLS_OUT METRICS`."""

import logging
from pathlib import Path

from mpox.params import Params
from stages import run


def main(params: Params, out: Path, controls_out: Path, metrics: Path) -> None:
    from mpox.photos import preparation
    from mpox.statistics.estimate import Metrics

    side, seed = params.resolution, params.seed
    counts = preparation.prepare(params.data, out, side, seed, controls_out)
    Metrics(counts=counts).write(metrics)
    logging.info(", ".join(f"{name} {count}" for name, count in counts.items()))


if __name__ == "__main__":
    run(main)
