"""Writes the page of the run.

python -m stages.report PREPARED SYNTHETIC BASE LORA SHEETS METRICS PROFILES LOCK PAGE

One HTML file that needs no network and no other file. `report.real: false` leaves every real photo
out of it.
"""

import logging
from pathlib import Path

from mpox.params import Params
from stages import run


def main(
    params: Params,
    prepared: Path,
    synthetic: Path,
    base: Path,
    lora: Path,
    sheets: Path,
    metrics: Path,
    profiles: Path,
    lock: Path,
    out: Path,
) -> None:
    from mpox.core import folders
    from mpox.report import page
    from mpox.report.run import Run

    of = Run(params, prepared, synthetic, base, lora, sheets, metrics, profiles, lock)
    folders.write(out, page.build(of).encode())
    logging.info("to look at in a browser: %s", out)


if __name__ == "__main__":
    run(main)
