"""Does it help a classifier? `… PREPARED CONTROLS VARIANTS CONTROL_VARIANTS SYNTHETIC BASE …`.

python -m stages.utility PREPARED CONTROLS VARIANTS CONTROL_VARIANTS SYNTHETIC BASE METRICS TABLE

The first six are what prepare, augment, generate and draw_base wrote.
"""

import csv
import io
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
    from mpox.model import checkpoints
    from mpox.utility import judge, trial
    from mpox.utility.collection import Folders

    model, side, seed = Path(params.model.path), params.resolution, params.seed
    work = None
    if params.utility.classifier == "cnn":
        kept = {"utility": params.utility, "resolution": side, "seed": seed}
        inputs = [prepared, controls, synthetic, placebo, model]
        work = checkpoints.folder("utility", kept, inputs)
    found = trial.run(
        Folders(prepared, controls, variants, control_variants, synthetic, placebo),
        model,
        trial.Settings(params.evaluate, params.utility, params.data.duplicate_distance, side, seed),
        work,
    )
    buffer = io.StringIO(newline="")
    writer = csv.DictWriter(buffer, judge.COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(found.rows)
    folders.write(rows, buffer.getvalue().encode())
    found.metrics.write(metrics)
    if work:
        checkpoints.finish(work)


if __name__ == "__main__":
    run(main)
