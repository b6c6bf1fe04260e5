"""Write the page of the run.

python -m stages.report PREPARED SYNTHETIC BASE LORA SHEETS METRICS PROFILES LOCK PAGE

The page is one HTML file that needs no network. `report.real: false` leaves out every real photo.
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

    outputs = Run(params, prepared, synthetic, base, lora, sheets, metrics, profiles, lock)
    folders.write(out, page.build(outputs).encode())
    logging.info("Open in a browser: %s", out)


if __name__ == "__main__":
    run(main)
