"""Does it help a classifier? `… PREPARED CONTROLS VARIANTS CONTROL_VARIANTS SYNTHETIC BASE …`.

python -m stages.utility PREPARED CONTROLS VARIANTS CONTROL_VARIANTS SYNTHETIC BASE METRICS TABLE

The first six are what prepare, augment, generate and draw_base wrote.
"""

import csv
import io
import json
from pathlib import Path

from mpox.params import Params
from stages import run


def main(
    params: Params,
    prepared: Path,
    controls: Path,
    variants: Path,
    control_variants: Path,
    synthetic: Path,
    placebo: Path,
    metrics: Path,
    rows: Path,
) -> None:
    from mpox.core import folders
    from mpox.statistics import estimate
    from mpox.utility import judge, trial
    from mpox.utility.collection import Folders

    found = trial.run(
        Folders(prepared, controls, variants, control_variants, synthetic, placebo),
        Path(params.model.path),
        params.evaluate,
        params.data.duplicate_distance,
        params.resolution,
        params.seed,
    )
    buffer = io.StringIO(newline="")
    writer = csv.DictWriter(buffer, judge.COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(found.rows)
    for file in (rows, metrics):
        file.parent.mkdir(parents=True, exist_ok=True)
    folders.write(rows, buffer.getvalue().encode())
    flat = estimate.flatten(found.measures)
    folders.write(metrics, (json.dumps(flat, indent=2) + "\n").encode())


if __name__ == "__main__":
    run(main)
